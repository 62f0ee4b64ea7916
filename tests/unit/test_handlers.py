"""Which function of a class serves what (`_runtime/handlers.py`): the tables, without a context."""

import functools
from unittest import mock

import pytest

from compactor import Process, install, route
from compactor._runtime.handlers import find_method, tables_of


def serve(owner, name, *instance):
    """Return what the handler of `name` returns for a process of the class."""
    process = instance[0] if instance else owner()
    return tables_of(owner).names[name](process, "sender", b"body")


def names_of(owner):
    return sorted(tables_of(owner).names)


def paths_of(owner):
    """Return which of some paths a class serves."""
    routes = tables_of(owner).routes
    return [path for path in ("/a", "/b", "/c") if routes.find(path) is not None]


class Base(Process):
    @install("ping")
    def ping(self, sender, body):
        return "base ping"

    @install("other")
    def other(self, sender, body):
        return "base other"


# --- inheritance ----------------------------------------------------------------------------------------------------


def test_a_class_without_marks_serves_nothing():
    assert names_of(Process) == []
    assert not tables_of(Process).routes  # asked by who loads tornado for those that have some


def test_the_tables_of_a_class_are_made_once():
    assert tables_of(Base) is tables_of(Base)


class _Unmarked(Base):
    def ping(self, sender, body):
        return "override"


class _Marked(Base):
    @install("pong")
    def ping(self, sender, body):
        return "override"


class _MarkedAgain(Base):
    @install("ping")
    def ping(self, sender, body):
        return "override"


class _TakenOver(Base):
    @install("ping")
    def another(self, sender, body):
        return "another"


class _Removed(Base):
    ping = None


class _Property(Base):
    @property
    def ping(self):
        raise AssertionError("evaluated")


class _Grandchild(_Unmarked):
    pass


class _BackAgain(_Removed):
    @install("ping")
    def ping(self, sender, body):
        return "back"


class _UnmarkedTwice(_Marked):
    def ping(self, sender, body):
        return "third"


class _Mixin:
    @install("mixed")
    def mixed(self, sender, body):
        return "mixin"

    def ping(self, sender, body):
        return "mixin ping"


class _MixedBefore(_Mixin, Base):
    pass


class _MixedBehind(Base, _Mixin):
    pass


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (Base, {"ping": "base ping", "other": "base other"}),
        (_Unmarked, {"ping": "override", "other": "base other"}),
        (_Marked, {"pong": "override", "other": "base other"}),
        (_MarkedAgain, {"ping": "override", "other": "base other"}),
        (_TakenOver, {"ping": "another", "other": "base other"}),
        (_Removed, {"other": "base other"}),
        (_Property, {"other": "base other"}),
        (_Grandchild, {"ping": "override", "other": "base other"}),
        (_BackAgain, {"ping": "back", "other": "base other"}),
        (_UnmarkedTwice, {"pong": "third", "other": "base other"}),
        (_MixedBefore, {"ping": "mixin ping", "other": "base other", "mixed": "mixin"}),
        (_MixedBehind, {"ping": "base ping", "other": "base other", "mixed": "mixin"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_name_is_served_by_the_attribute_that_python_finds_first(owner, expected):
    assert {name: serve(owner, name) for name in names_of(owner)} == expected


def test_the_diamond_of_a_class_is_read_in_the_order_of_its_mro():
    class Left(Base):
        @install("left")
        def ping(self, sender, body):
            return "left"

    class Right(Base):
        @install("right")
        def ping(self, sender, body):
            return "right"

    class Both(Left, Right):
        pass

    assert names_of(Both) == ["left", "other"]
    assert serve(Both, "left") == "left"


def test_marks_in_a_subclass_change_neither_the_base_nor_a_sibling():
    before = names_of(Base)

    class Child(Base):
        @install("new")
        def ping(self, sender, body):
            pass

    class Sibling(Base):
        pass

    assert names_of(Child) == ["new", "other"]
    assert names_of(Base) == names_of(Sibling) == before


def test_the_later_of_two_methods_of_a_class_has_the_name():
    class Twice(Process):
        @install("name")
        def first(self, sender, body):
            return "first"

        @install("name")
        def second(self, sender, body):
            return "second"

    assert serve(Twice, "name") == "second"


# --- marks ----------------------------------------------------------------------------------------------------------


def test_names_and_routes_stack_on_one_method():
    class Stacked(Process):
        @install("one")
        @route("/a")
        @install()
        @route("/b", methods=["POST"])
        def method(self, *args):
            return args

    assert names_of(Stacked) == ["method", "one"]
    assert paths_of(Stacked) == ["/a", "/b"]
    assert serve(Stacked, "one") == serve(Stacked, "method") == ("sender", b"body")


def test_a_name_and_a_route_of_an_override_without_marks_are_kept_together():
    class Both(Process):
        @install("name")
        @route("/a")
        def method(self, *args):
            return "base"

    class Child(Both):
        def method(self, *args):
            return "child"

    assert serve(Child, "name") == "child"
    assert paths_of(Child) == ["/a"]


def test_an_override_that_has_only_a_route_serves_the_name_no_more():
    class Both(Process):
        @install("name")
        @route("/a")
        def method(self, *args):
            return "base"

    class Child(Both):
        @route("/b")
        def method(self, *args):
            return "child"

    assert names_of(Child) == []
    assert paths_of(Child) == ["/b"]


def _wrapping(function):
    @functools.wraps(function)
    def wrapper(*args):
        return f"wrapped {function(*args)}"

    return wrapper


def test_a_wrapper_outside_of_the_mark_serves_the_name_in_its_place():
    class Wrapped(Process):
        @_wrapping
        @install("name")
        def method(self, sender, body):
            return "method"

    assert serve(Wrapped, "name") == "wrapped method"


def test_a_wrapper_inside_of_the_mark_is_called():
    class Wrapped(Process):
        @install("name")
        @_wrapping
        def method(self, sender, body):
            return "method"

    assert serve(Wrapped, "name") == "wrapped method"


def test_a_mark_on_a_wrapper_is_not_one_on_what_it_wraps():
    @install("inner")
    def function(self, sender, body):
        return "function"

    wrapper = install("outer")(_wrapping(function))

    class Inner(Process):
        method = function

    class Outer(Process):
        method = wrapper

    assert names_of(Inner) == ["inner"]
    assert names_of(Outer) == ["inner", "outer"]


def test_one_function_may_be_a_method_of_several_classes():
    @install("shared")
    def function(self, sender, body):
        return type(self).__name__

    first = type("First", (Process,), {"method": function})
    second = type("Second", (Process,), {"method": function, "again": function})
    assert serve(first, "shared") == "First"
    assert serve(second, "shared") == "Second"


@pytest.mark.parametrize("value", [None, 1, "text", property(lambda self: 1)])
def test_marking_something_that_cannot_be_called_is_a_type_error(value):
    with pytest.raises(TypeError):
        install("name")(value)


@pytest.mark.parametrize("name", ["with space", "que?ry", "frag#ment", "line\r\n", "ümlaut"])
def test_a_name_that_cannot_travel_is_refused_where_it_is_installed(name):
    with pytest.raises(ValueError, match="cannot be a message name"):
        install(name)(lambda self, sender, body: None)


# --- kinds of attributes --------------------------------------------------------------------------------------------


class Callable:
    """An object that is called, and is no method."""

    def __call__(self, *args):
        return args


class Kinds(Process):
    static_inside = staticmethod(install("static-inside")(lambda sender, body: (sender, body)))
    static_outside = install("static-outside")(staticmethod(lambda sender, body: (sender, body)))
    class_inside = classmethod(install("class-inside")(lambda cls, sender, body: (cls, sender, body)))
    class_outside = install("class-outside")(classmethod(lambda cls, sender, body: (cls, sender, body)))
    callable_object = install("object")(Callable())
    partial = install("partial")(functools.partial(lambda given, sender, body: (given, sender, body), 1))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("static-inside", ("sender", b"body")),
        ("static-outside", ("sender", b"body")),
        ("class-inside", (Kinds, "sender", b"body")),
        ("class-outside", (Kinds, "sender", b"body")),
        ("object", ("sender", b"body")),
        ("partial", (1, "sender", b"body")),
    ],
)
def test_a_handler_of_another_kind_is_called_as_attribute_access_would_bind_it(name, expected):
    assert serve(Kinds, name) == expected


class _StaticOverride(Base):
    @staticmethod
    def ping(sender, body):
        return "override"


class _ClassOverride(Base):
    @classmethod
    def ping(cls, sender, body):
        return "override"


class _PartialMethodOverride(Base):
    def _answer(self, text, sender, body):
        return text

    ping = functools.partialmethod(_answer, "override")


class _ObjectOverride(Base):
    ping = Callable()


class _MockOverride(Base):
    ping = mock.Mock(return_value="override")


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (_StaticOverride, "override"),
        (_ClassOverride, "override"),
        (_PartialMethodOverride, "override"),
        (_ObjectOverride, ("sender", b"body")),
        (_MockOverride, "override"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_override_of_another_kind_without_marks_keeps_the_name(owner, expected):
    assert serve(owner, "ping") == expected


def test_a_partial_method_can_be_installed():
    def answer(self, given, sender, body):
        return given, sender, body

    class Partial(Process):
        method = install("name")(functools.partialmethod(answer, 1))

    assert serve(Partial, "name") == (1, "sender", b"body")


@pytest.mark.parametrize("kind", [mock.Mock, mock.MagicMock, mock.NonCallableMock, mock.AsyncMock])
def test_a_mock_on_a_class_is_no_handler_though_it_has_every_attribute(kind):
    class Mocked(Base):
        dependency = kind()

    assert names_of(Mocked) == names_of(Base)


class _Trap:
    """A descriptor that nobody may ask."""

    def __get__(self, instance, owner):
        raise AssertionError("evaluated")


def test_neither_properties_nor_other_descriptors_are_evaluated():
    class Trapped(Base):
        descriptor = _Trap()

        @property
        def trap(self):
            raise AssertionError("evaluated")

        @functools.cached_property
        def cached(self):
            raise AssertionError("evaluated")

        def __getattr__(self, name):
            raise AssertionError(f"asked for {name}")

    assert names_of(Trapped) == names_of(Base)
    assert find_method(Trapped(), "trap") is None
    assert find_method(Trapped(), "nothing") is None


def test_instance_attributes_neither_serve_nor_hide_names():
    class Shadowed(Base):
        def __init__(self):
            super().__init__("shadowed")
            self.ping = "a value"
            self.extra = install("extra")(lambda *args: None)

    assert names_of(Shadowed) == names_of(Base)
    assert serve(Shadowed, "ping") == "base ping"


def test_a_class_with_slots_has_handlers_as_any_other():
    class Slotted(Base):
        __slots__ = ("ping_count",)

        @install("slot")
        def slot(self, sender, body):
            self.ping_count = 1
            return self.ping_count

    assert names_of(Slotted) == ["other", "ping", "slot"]
    assert serve(Slotted, "slot") == 1


# --- finalize -------------------------------------------------------------------------------------------------------


def _hook_of(function):
    return tables_of(type("Owner", (Process,), {"finalize": function})).finalize


@pytest.mark.parametrize(
    "function",
    [
        lambda self: "called",
        lambda self, driver=None: "called",
        lambda *args, **kw: "called",
        _wrapping(lambda self: "called"),
    ],
)
def test_a_finalize_that_needs_no_argument_is_a_hook(function):
    assert "called" in _hook_of(function)(Process("x"))


@pytest.mark.parametrize(
    "function",
    [lambda self, driver: None, lambda self, *, reason: None, lambda: None, None, 5, property(lambda self: 1 / 0)],
)
def test_a_finalize_that_needs_arguments_or_is_no_method_is_none(function):
    assert _hook_of(function) is None


@pytest.mark.parametrize("mark", [install("finalize"), install("done"), route("/finalize")])
def test_a_finalize_that_is_a_handler_or_a_route_is_no_hook(mark):
    assert _hook_of(mark(lambda self, *args: None)) is None


def test_a_finalize_is_inherited():
    class Parent(Process):
        def finalize(self):
            return "parent"

    class Child(Parent):
        pass

    assert tables_of(Child).finalize(Child()) == "parent"


# --- dispatch -------------------------------------------------------------------------------------------------------


class Target(Process):
    value = 5

    def method(self):
        return "method"

    @staticmethod
    def static():
        return "static"

    @classmethod
    def klass(cls):
        return cls

    partial = functools.partialmethod(lambda self, text: text, "partial")
    callable_object = Callable()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("method", "method"),
        ("static", "static"),
        ("klass", Target),
        ("partial", "partial"),
        ("callable_object", ()),
    ],
)
def test_a_method_of_any_kind_can_be_dispatched_to(name, expected):
    assert find_method(Target(), name)() == expected


@pytest.mark.parametrize("name", ["value", "missing", "", "with space"])
def test_what_is_no_method_cannot_be_dispatched_to(name):
    assert find_method(Target(), name) is None


def test_a_callable_on_the_instance_stands_in_for_the_method():
    target = Target()
    target.method = lambda: "stub"
    assert find_method(target, "method")() == "stub"


def test_a_value_on_the_instance_does_not_hide_the_method():
    target = Target()
    target.method = "a value"
    assert find_method(target, "method")() == "method"
