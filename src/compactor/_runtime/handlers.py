"""Which function of a class serves which message name and which path.

The decorators leave a mark on the function. The tables are made from the marks once per class, through the whole MRO
and from class attributes only: an instance attribute of the same name shadows nothing and no property is evaluated.
An override without a mark of its own keeps the names of what it overrides; one with a mark has only its own.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..http.routes import RouteTable
from ..wire.encoder import check_name

Handler = Callable[[Any, Any, Any], Any]
"""Called with (process, sender, body); what it returns is awaited when it is awaitable."""

Adapter = Callable[[Handler], Handler]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_MARK = "__compactor__"


class _Marks:
    """What the decorators said about one function."""

    __slots__ = ("names", "routes")

    def __init__(self, other: _Marks | None = None) -> None:
        self.names: dict[str, Adapter | None] = dict(other.names) if other else {}
        self.routes: dict[str, frozenset[str]] = dict(other.routes) if other else {}


def _marks_of(attribute: object) -> _Marks | None:
    marks = getattr(attribute, "__dict__", {}).get(_MARK)
    if marks is None and isinstance(attribute, (staticmethod, classmethod)):
        marks = _marks_of(attribute.__func__)
    # Exactly ours: a mock has every attribute.
    return marks if type(marks) is _Marks else None


def _is_method(value: object) -> bool:
    return callable(value) or isinstance(value, (staticmethod, classmethod, functools.partialmethod))


def _mark(function: FunctionT) -> _Marks:
    if not _is_method(function):
        raise TypeError(f"install and route decorate methods, not {function!r}; did you forget to call the decorator?")
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is an async generator, which nobody would run: leave out its `yield`")
    # A copy: functools.wraps has given a wrapper the marks of what it wraps, and they are not to change together.
    marks = _Marks(_marks_of(function))
    setattr(function, _MARK, marks)
    return marks


def mark_handler(function: FunctionT, name: str | None, adapter: Adapter | None = None) -> FunctionT:
    """Let `function` serve messages called `name`, or called as it is when `name` is None."""
    if name is None:
        name = function.__name__
    check_name(name)
    _mark(function).names[name] = adapter
    return function


def mark_route(function: FunctionT, path: str, methods: Iterable[str]) -> FunctionT:
    """Let `function` serve requests to `path`."""
    methods = frozenset(methods)
    RouteTable({path: (methods, function)})  # refuses a malformed path here, where its author sees it
    _mark(function).routes[path] = methods
    return function


class ClassTables:
    """What the processes of one class serve; read-only once made, so any thread may look.

    Attributes:
        names: message name -> handler.
        routes: the path table; its handlers take (process, request handler).
        finalize: the class's `finalize`, when it is a hook: no handler, no route, and callable with no argument.
    """

    __slots__ = ("finalize", "names", "routes")

    def __init__(self, owner: type) -> None:
        names: dict[str, tuple[str, Adapter | None]] = {}
        paths: dict[str, tuple[str, frozenset[str]]] = {}
        for klass in reversed(owner.__mro__):
            for attribute, value in vars(klass).items():
                marks = _marks_of(value)
                if marks is None and _is_method(value):
                    continue  # an override without marks: it keeps those of what it overrides
                for table in (names, paths):
                    for key in [key for key, entry in table.items() if entry[0] == attribute]:
                        del table[key]
                if marks is not None:
                    names.update((name, (attribute, adapter)) for name, adapter in marks.names.items())
                    paths.update((path, (attribute, methods)) for path, methods in marks.routes.items())
        self.names: dict[str, Handler] = {}
        for name, (attribute, adapter) in names.items():
            function = _as_function(owner, attribute)
            self.names[name] = adapter(function) if adapter is not None else function
        self.routes = RouteTable({path: (methods, _as_function(owner, at)) for path, (at, methods) in paths.items()})
        taken = {attribute for attribute, _ in (*names.values(), *paths.values())}
        self.finalize = None if "finalize" in taken else _hook(owner, "finalize")


def _as_function(owner: type, attribute: str) -> Callable[..., Any]:
    """Return a function that calls the attribute with the process as its first argument."""
    value = inspect.getattr_static(owner, attribute)
    function: Callable[..., Any]
    if inspect.isfunction(value):
        function = value
    else:  # a staticmethod, a classmethod, a callable object: bind it as attribute access would

        def function(process: object, *args: object) -> object:
            return _bind(value, process)(*args)

    return function


def _bind(value: Any, process: object) -> Any:
    """Bind a class attribute as attribute access would; a `partial` is called as it is, also where that will change."""
    if isinstance(value, functools.partial) or not hasattr(value, "__get__"):
        return value
    return value.__get__(process, type(process))


def _hook(owner: type, name: str) -> Callable[[Any], Any] | None:
    value = inspect.getattr_static(owner, name, None)
    if not inspect.isfunction(value):
        return None
    try:
        inspect.signature(value).bind(None)
    except TypeError:
        return None
    return _as_function(owner, name)


_tables: weakref.WeakKeyDictionary[type, ClassTables] = weakref.WeakKeyDictionary()


def tables_of(owner: type) -> ClassTables:
    """Return the tables of a class, made at first use."""
    tables = _tables.get(owner)
    if tables is None:
        tables = _tables[owner] = ClassTables(owner)
    return tables


def find_method(process: object, name: str) -> Callable[..., Any] | None:
    """Return the bound method `name` for a dispatch, or None; evaluates no property.

    A callable the user put on the instance counts (a stub in a test); a shadowing value that is not callable does not.
    """
    own = getattr(process, "__dict__", {}).get(name)
    if callable(own):
        return own  # type: ignore[no-any-return]
    value = inspect.getattr_static(type(process), name, None)
    if value is None or isinstance(value, property):
        return None
    bound = _bind(value, process)
    return bound if callable(bound) else None
