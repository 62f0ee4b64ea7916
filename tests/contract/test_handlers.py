"""How handlers are found: on the class, through the whole MRO, never through instances, and in every form."""

import asyncio
import functools
import threading
from unittest import mock

import pytest
from helpers import Holder, Recorder, wait_for
from tornado import gen

from compactor import Process, install


@pytest.fixture
def exchange(context):
    """Return a function that spawns a recorder, sends it messages and returns all bodies that it noted."""

    def exchange(recorder, *names):
        context.spawn(recorder)
        sender = Process()
        context.spawn(sender)
        for name in names:
            sender.send(recorder.pid, name, name.encode())
        sender.send(recorder.pid, "fence")
        return recorder.take_until_fence()

    return exchange


def _noting(prefix):
    """Return a plain handler that notes its body behind a prefix."""

    def handler(self, from_pid, body):
        self.note(from_pid, prefix + body)

    return handler


class Base(Recorder):
    one = install("one")(_noting(b"base "))
    two = install("two")(_noting(b"base "))


def test_handlers_of_base_classes_are_inherited(exchange):
    class Derived(Base):
        three = install("three")(_noting(b"derived "))

    assert exchange(Derived(), "one", "two", "three") == [b"base one", b"base two", b"derived three"]


def test_handlers_of_every_class_of_the_mro_are_found(exchange):
    class Mixin:
        extra = install("extra")(_noting(b"mixin "))

    class Derived(Mixin, Base):
        pass

    assert exchange(Derived(), "extra", "one") == [b"mixin extra", b"base one"]


def test_an_override_without_a_decorator_keeps_the_message_name(exchange):
    class Derived(Base):
        one = _noting(b"derived ")

    assert exchange(Derived(), "one", "two") == [b"derived one", b"base two"]


def test_an_override_with_a_decorator_serves_the_name(exchange):
    class Derived(Base):
        one = install("one")(_noting(b"derived "))

    assert exchange(Derived(), "one", "two") == [b"derived one", b"base two"]


def test_another_method_of_a_subclass_may_take_over_a_message_name(exchange):
    class Derived(Base):
        something_else = install("one")(_noting(b"derived "))

    assert exchange(Derived(), "one", "two") == [b"derived one", b"base two"]


def test_an_override_may_call_the_handler_that_it_overrides(exchange):
    class Derived(Base):
        def one(self, from_pid, body):
            super().one(from_pid, b"by way of derived " + body)

    assert exchange(Derived(), "one") == [b"base by way of derived one"]


def test_several_names_stack_on_one_method(exchange):
    class Stacked(Recorder):
        @install("first")
        @Process.install("second")
        @install("third")
        def any_of_them(self, from_pid, body):
            self.note(from_pid, body)

    assert exchange(Stacked(), "first", "second", "third") == [b"first", b"second", b"third"]


def test_install_without_a_name_uses_that_of_the_method(exchange):
    class Short(Recorder):
        @install()
        def ping(self, from_pid, body):
            self.note(from_pid, body)

        @Process.install()
        def pong(self, from_pid, body):
            self.note(from_pid, body)

    assert exchange(Short(), "ping", "pong") == [b"ping", b"pong"]


def test_a_handler_is_called_with_the_name_of_the_method_only_by_those_names_it_was_installed_for(context, exchange):
    class Named(Recorder):
        @install("installed")
        def method(self, from_pid, body):
            self.note(from_pid, body)

    assert exchange(Named(), "method", "installed") == [b"installed"]
    assert [letter.name for letter in context.dead_letters] == ["method"]


def _shouting(function):
    @functools.wraps(function)
    def wrapper(self, from_pid, body):
        return function(self, from_pid, body.upper())

    return wrapper


def _nameless(function):
    return lambda self, from_pid, body: function(self, from_pid, body.upper())


def test_decorators_around_and_inside_an_install_are_called(exchange):
    class Wrapped(Recorder):
        @_shouting
        @install("around")
        def around(self, from_pid, body):
            self.note(from_pid, body)

        @install("inside")
        @_shouting
        def inside(self, from_pid, body):
            self.note(from_pid, body)

        @install("nameless")
        @_nameless
        def nameless(self, from_pid, body):
            self.note(from_pid, body)

    assert exchange(Wrapped(), "around", "inside", "nameless") == [b"AROUND", b"INSIDE", b"NAMELESS"]


def test_static_and_class_methods_are_tolerated_as_neighbours_and_as_handlers(exchange):
    calls = []

    class Static(Recorder):
        @staticmethod
        def helper():
            raise AssertionError("never called")

        @classmethod
        def make(cls):
            raise AssertionError("never called")

        @staticmethod
        @install("static")
        def static(from_pid, body):
            calls.append(body)

        @install("static-outermost")
        @staticmethod
        def outermost(from_pid, body):
            calls.append(body)

    assert exchange(Static(), "static", "static-outermost") == []
    assert calls == [b"static", b"static-outermost"]


def test_no_property_or_other_descriptor_is_evaluated_while_looking_for_handlers(exchange):
    evaluated = []

    class Trap:
        def __get__(self, instance, owner=None):
            evaluated.append("descriptor")

    class Watched(Recorder):
        trap = Trap()

        @property
        def state(self):
            evaluated.append("property")
            raise RuntimeError("evaluated")

        @functools.cached_property
        def connection(self):
            evaluated.append("cached property")

        def __getattr__(self, name):
            evaluated.append(name)
            raise AttributeError(name)

    assert exchange(Watched(), "state", "trap", "connection", "note") == [b"note"]
    assert evaluated == []


def test_a_property_that_overrides_a_handler_is_not_evaluated_either(exchange):
    class Watched(Base):
        @property
        def one(self):
            raise AssertionError("evaluated")

    assert exchange(Watched(), "two") == [b"base two"]


def test_an_instance_attribute_does_not_hide_the_handler_of_the_same_name(exchange):
    class Follower(Recorder):
        def __init__(self):
            super().__init__("follower")
            self.registered = threading.Event()

        @install("registered")
        def registered(self, from_pid, body):
            self.registered.set()
            self.note(from_pid, body)

    follower = Follower()
    assert exchange(follower, "registered") == [b"registered"]
    assert follower.registered.is_set()


def test_a_mock_on_the_class_or_the_instance_is_no_handler(context, exchange):
    class Mocked(Recorder):
        detector = mock.MagicMock()

        def __init__(self):
            super().__init__("mocked")
            self.one = mock.MagicMock()
            self.driver = mock.MagicMock()

    mocked = Mocked()
    assert exchange(mocked, "detector", "one", "driver", "note") == [b"note"]
    assert [letter.name for letter in context.dead_letters] == ["detector", "one", "driver"]


def test_installing_a_handler_on_one_class_changes_neither_its_base_nor_its_siblings(exchange, context):
    class Sibling(Base):
        mine = install("mine")(_noting(b"sibling "))

    class Other(Base):
        pass

    assert exchange(Other("other"), "mine", "one") == [b"base one"]
    assert exchange(Sibling("sibling"), "mine") == [b"sibling mine"]


def test_a_handler_may_be_a_coroutine_function(exchange):
    class Asynchronous(Recorder):
        @install("work")
        async def work(self, from_pid, body):
            await asyncio.sleep(0)
            self.note(from_pid, body)

    assert exchange(Asynchronous(), "work") == [b"work"]


def test_a_handler_may_be_a_generator_that_is_sent_the_results_of_what_it_yields(exchange):
    async def double(number):
        await asyncio.sleep(0)
        return 2 * number

    class Generator(Recorder):
        @install("bare")
        def bare(self, from_pid, body):
            future = asyncio.get_running_loop().create_future()
            future.get_loop().call_soon(future.set_result, b"result")
            self.note(from_pid, (yield future))
            self.note(from_pid, b"%d" % (yield double(21)))

        @install("decorated")
        @gen.coroutine
        def decorated(self, from_pid, body):
            self.note(from_pid, b"%d" % (yield double(4)))

    assert exchange(Generator(), "bare", "decorated") == [b"result", b"42", b"8"]


def test_a_generator_gets_the_exception_of_what_it_yields(exchange):
    async def fail():
        raise ValueError("of its own")

    class Generator(Recorder):
        @install("work")
        def work(self, from_pid, body):
            try:
                yield fail()
            except ValueError as error:
                self.note(from_pid, str(error).encode())

    assert exchange(Generator(), "work") == [b"of its own"]


def test_the_next_event_waits_for_an_asynchronous_handler_while_other_processes_go_on(context):
    holder, other, sender = Holder(), Recorder("other"), Process("sender")
    for process in (holder, other, sender):
        context.spawn(process)
    holder.hold_now(sender)
    sender.send(holder.pid, "note", b"behind")
    sender.send(other.pid, "note", b"elsewhere")
    assert other.take()[2] == b"elsewhere"
    assert holder.seen.empty()
    holder.release(context)
    assert holder.take()[2] == b"behind"


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator"])
def test_a_handler_that_raises_is_logged_once_with_traceback_and_names_and_the_process_goes_on(context, caplog, kind):
    class Faulty(Recorder):
        @install("plain")
        def plain(self, from_pid, body):
            raise KeyError("deliberate")

        @install("coroutine")
        async def coroutine(self, from_pid, body):
            await asyncio.sleep(0)
            raise KeyError("deliberate")

        @install("generator")
        def generator(self, from_pid, body):
            yield asyncio.sleep(0)
            raise KeyError("deliberate")

    faulty, sender = Faulty("faulty"), Process("sender")
    context.spawn(faulty)
    context.spawn(sender)
    sender.send(faulty.pid, kind, b"x")
    sender.send(faulty.pid, "note", b"still here")
    assert faulty.take()[2] == b"still here"
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 1
    assert records[0].name.startswith("compactor")
    assert records[0].exc_info[0] is KeyError
    for part in (kind, str(faulty.pid), str(sender.pid)):
        assert part in records[0].getMessage()
    assert context.statistics()["handler_errors"] == 1


def test_a_handler_that_ends_the_thread_politely_does_not_end_the_context(context):
    class Leaver(Recorder):
        @install("leave")
        def leave(self, from_pid, body):
            raise SystemExit(3)

    leaver = Leaver("leaver")
    pid = context.spawn(leaver)
    leaver.send(pid, "leave")
    leaver.send(pid, "note", b"still here")
    assert leaver.take()[2] == b"still here"


def test_events_of_one_process_run_one_at_a_time_on_one_thread_that_is_not_the_callers(context):
    overlaps, threads = [], set()

    class Exclusive(Holder):
        busy = False

        def event(self):
            if self.busy:
                overlaps.append(True)
            threads.add(threading.get_ident())

        async def initialize(self):
            self.event()
            self.busy = True
            await asyncio.sleep(0.02)
            self.busy = False

        @install("work")
        async def work(self, from_pid, body):
            self.event()
            self.busy = True
            await asyncio.sleep(0.02)
            self.busy = False

        def dispatched(self):
            self.event()

        def exited(self, pid):
            self.event()
            super().exited(pid)

        def finalize(self):
            self.event()
            self.finalized.set()

    exclusive = Exclusive("exclusive")
    exclusive.finalized = threading.Event()
    friend = Process("friend")
    friend_pid = context.spawn(friend)
    pid = context.spawn(exclusive)
    exclusive.link(friend_pid)
    for _ in range(3):
        friend.send(pid, "work")
        context.dispatch(pid, "dispatched")
        context.delay(0.01, pid, "dispatched")
    friend.terminate()
    exclusive.take_exit()
    context.terminate(pid, inject=False)
    wait_for(exclusive.finalized)
    assert overlaps == []
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_messages_dispatches_and_exits_are_handled_in_the_order_in_which_they_were_queued(context):
    class Ordered(Holder):
        def dispatched(self, word):
            self.seen.put(word)

        def exited(self, pid):
            self.seen.put("exited")

    ordered, friend = Ordered("ordered"), Process("friend")
    friend_pid = context.spawn(friend)
    pid = context.spawn(ordered)
    ordered.link(friend_pid)
    ordered.hold_now(friend)
    context.dispatch(pid, "dispatched", "first")
    friend.send(pid, "note", b"second")
    friend.terminate()
    assert context.wait(friend_pid, 20.0)
    context.dispatch(pid, "dispatched", "last")
    ordered.release(context)
    assert [ordered.take() for _ in range(4)] == ["first", ("note", friend_pid, b"second"), "exited", "last"]


def test_a_flood_at_one_process_does_not_starve_another(context):
    class Busy(Recorder):
        @install("again")
        def again(self, from_pid, body):
            self.send(self.pid, "again")

    busy, quiet = Busy("busy"), Recorder("quiet")
    context.spawn(busy)
    context.spawn(quiet)
    busy.send(busy.pid, "again")
    for number in range(5):
        busy.send(quiet.pid, "note", b"%d" % number)
        assert quiet.take()[2] == b"%d" % number
    busy.terminate()
