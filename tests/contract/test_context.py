"""`Context`: sends and links on behalf of a process, dispatch and delay, terminate, and the loop it runs on."""

import asyncio
import queue
import threading

import pytest
from helpers import DEADLINE, Holder, Recorder, eventually, in_thread, wait_for

from compactor import PID, Context, Process, install


class Counter(Recorder):
    """Queues the arguments of the calls that are dispatched to it."""

    def __init__(self, name="counter"):
        super().__init__(name)
        self.calls = queue.SimpleQueue()

    def count(self, *arguments):
        self.calls.put((arguments, threading.get_ident()))

    def take_call(self):
        return self.calls.get(timeout=DEADLINE)[0]


@pytest.mark.clause("Context.send")
@pytest.mark.parametrize("where", ["local", "remote"])
def test_send_delivers_a_message_on_behalf_of_a_local_process(context, other_context, where):
    recorder, sender = Recorder(), Process("sender")
    (context if where == "local" else other_context).spawn(recorder)
    context.spawn(sender)
    assert context.send(sender.pid, recorder.pid, "note", b"body") is None
    context.send(sender.pid, recorder.pid, "note")
    assert recorder.take() == ("note", sender.pid, b"body")
    assert recorder.take() == ("note", sender.pid, b"")


@pytest.mark.clause("Context.send from_pid bound to this context")
def test_send_from_a_pid_that_is_not_of_this_context_is_an_error(context, other_context):
    recorder, stranger = Recorder(), Process("stranger")
    context.spawn(recorder)
    other_context.spawn(stranger)
    with pytest.raises(Context.InvalidProcess, match="stranger"):
        context.send(stranger.pid, recorder.pid, "note")


@pytest.mark.clause("Context.link")
@pytest.mark.parametrize("where", ["local", "remote"])
def test_link_links_a_local_process_to_a_possibly_remote_one(context, other_context, where):
    linker, linkee = Recorder("linker"), Recorder("linkee")
    context.spawn(linker)
    pid = (context if where == "local" else other_context).spawn(linkee)
    assert context.link(linker.pid, pid) is None
    linker.send(pid, "fence")
    linkee.take()
    linkee.terminate()
    assert linker.take_exit()[0] == pid


def test_link_for_a_pid_that_is_not_of_this_context_is_an_error(context, other_context):
    stranger, linkee = Process("stranger"), Process("linkee")
    context.spawn(linkee)
    other_context.spawn(stranger)
    with pytest.raises(Context.InvalidProcess, match="stranger"):
        context.link(stranger.pid, linkee.pid)


@pytest.mark.clause("Context.terminate", "Context.terminate exited")
def test_terminate_ends_the_process_and_tells_those_that_linked_to_it(context):
    linkee, linker = Recorder("linkee"), Recorder("linker")
    pid = context.spawn(linkee)
    context.spawn(linker)
    linker.link(pid)
    linker.send(pid, "fence")
    linkee.take()
    assert context.terminate(pid) is None
    assert linker.take_exit()[0] == pid
    linker.send(pid, "note", b"too late")
    eventually(lambda: context.statistics()["dead_letters"] == 1)
    assert linkee.seen.empty()


def test_terminate_of_a_process_that_is_gone_is_a_silent_no_op(context, caplog):
    pid = context.spawn(Process("process"))
    context.terminate(pid)
    assert context.wait(pid, DEADLINE)
    caplog.clear()
    context.terminate(pid)
    assert context.wait(pid, DEADLINE)
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


def test_terminate_takes_effect_after_the_event_being_handled_and_what_is_queued_becomes_dead_letters(context):
    holder, sender = Holder(), Process("sender")
    pid = context.spawn(holder)
    context.spawn(sender)
    holder.hold_now(sender)
    for body in (b"1", b"22", b"333"):
        sender.send(pid, "note", body)
    context.terminate(pid)
    assert context.wait(pid, 0.0) is False
    holder.release(context)
    assert context.wait(pid, DEADLINE)
    assert holder.seen.empty()
    letters = context.dead_letters
    assert [(letter.sender, letter.to, letter.name, letter.size) for letter in letters] == [
        (sender.pid, pid, "note", size) for size in (1, 2, 3)
    ]
    assert all("terminated" in letter.reason for letter in letters)


def test_terminate_without_inject_serves_what_is_queued_first_and_only_that(context):
    holder, sender = Holder(), Process("sender")
    pid = context.spawn(holder)
    context.spawn(sender)
    holder.hold_now(sender)
    sender.send(pid, "note", b"in time")
    sender.send(pid, "fence")
    context.terminate(pid, inject=False)
    sender.send(pid, "note", b"too late")
    holder.release(context)
    assert holder.take_until_fence() == [b"in time"]
    assert context.wait(pid, DEADLINE)
    assert holder.seen.empty()
    assert [letter.size for letter in context.dead_letters] == [len(b"too late")]


def test_a_process_can_terminate_itself_without_inject_too(context):
    holder, sender = Holder(), Process("sender")
    pid = context.spawn(holder)
    context.spawn(sender)
    holder.hold_now(sender)
    sender.send(pid, "fence")
    holder.terminate(inject=False)
    holder.release(context)
    assert holder.take()[0] == "fence"
    assert context.wait(pid, DEADLINE)


@pytest.mark.clause("Context.dispatch")
def test_dispatch_calls_a_method_that_is_not_installed_with_its_arguments_on_the_loop(context):
    counter = Counter()
    pid = context.spawn(counter)
    assert context.dispatch(pid, "count", 1, "two", None) is None
    arguments, thread = counter.calls.get(timeout=DEADLINE)
    assert arguments == (1, "two", None)
    assert thread != threading.get_ident()


def test_dispatched_calls_run_in_the_order_in_which_they_were_dispatched(context):
    counter = Counter()
    pid = context.spawn(counter)
    for number in range(100):
        context.dispatch(pid, "count", number)
    assert [counter.take_call() for _ in range(100)] == [(number,) for number in range(100)]


def test_a_dispatched_method_may_be_a_coroutine_function(context):
    class Slow(Counter):
        async def work(self):
            await asyncio.sleep(0)
            self.count("worked")

    slow = Slow()
    context.dispatch(context.spawn(slow), "work")
    assert slow.take_call() == ("worked",)


def test_a_dispatched_method_that_raises_is_logged_once_with_its_name_and_counted(context, caplog):
    class Faulty(Counter):
        def work(self):
            raise KeyError("deliberate")

    faulty = Faulty("faulty")
    pid = context.spawn(faulty)
    context.dispatch(pid, "work")
    context.dispatch(pid, "count")
    faulty.take_call()
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 1
    assert "work" in records[0].getMessage()
    assert str(pid) in records[0].getMessage()
    assert context.statistics()["handler_errors"] == 1


@pytest.mark.clause("Context.dispatch bound to this context")
@pytest.mark.parametrize("call", ["dispatch", "delay"])
def test_a_pid_that_is_not_of_this_context_is_refused_when_called(context, other_context, call):
    elsewhere = other_context.spawn(Counter("elsewhere"))
    gone = context.spawn(Counter("gone"))
    context.terminate(gone)
    assert context.wait(gone, DEADLINE)
    for pid in (elsewhere, gone, PID(context.ip, context.port, "nobody")):
        with pytest.raises(Context.InvalidProcess, match=pid.id):
            context.dispatch(pid, "count") if call == "dispatch" else context.delay(0, pid, "count")


@pytest.mark.parametrize("call", ["dispatch", "delay"])
@pytest.mark.parametrize("method", ["unknown", "attribute", "number"])
def test_a_method_that_does_not_exist_is_refused_when_called(context, call, method):
    class Sparse(Counter):
        number = 5

    sparse = Sparse()
    sparse.attribute = "text"
    pid = context.spawn(sparse)
    with pytest.raises(Context.InvalidMethod, match=method):
        context.dispatch(pid, method) if call == "dispatch" else context.delay(0, pid, method)


def test_a_handler_can_dispatch_to_a_process_that_it_has_just_spawned(context):
    counter = Counter()

    class Parent(Process):
        def work(self):
            self.context.dispatch(self.context.spawn(counter), "count", "child")

    context.dispatch(context.spawn(Parent("parent")), "work")
    assert counter.take_call() == ("child",)


def test_a_dispatch_that_is_due_when_the_process_is_gone_is_dropped_and_counted(context):
    class Busy(Holder):
        def count(self):
            self.seen.put("counted")

    busy, sender = Busy(), Process("sender")
    pid = context.spawn(busy)
    context.spawn(sender)
    busy.hold_now(sender)
    context.dispatch(pid, "count")
    context.terminate(pid)
    busy.release(context)
    assert context.wait(pid, DEADLINE)
    eventually(lambda: context.statistics()["dropped_events"] == 1)
    assert busy.seen.empty()


@pytest.mark.clause("Context.delay")
def test_delay_calls_a_method_with_its_arguments_not_before_its_time(context):
    class Timed(Counter):
        def initialize(self):
            self.asked_at = asyncio.get_running_loop().time()

        def count(self, *arguments):
            self.waited = asyncio.get_running_loop().time() - self.asked_at
            super().count(*arguments)

    timed = Timed()
    pid = context.spawn(timed)
    context.delay(0.05, pid, "count", "a", 2)
    assert timed.take_call() == ("a", 2)
    assert timed.waited >= 0.045


def test_delays_come_in_the_order_of_their_times(context):
    counter = Counter()
    pid = context.spawn(counter)
    context.delay(0.1, pid, "count", "later")
    context.delay(0, pid, "count", "at once")
    context.delay(0.05, pid, "count", "soon")
    assert [counter.take_call() for _ in range(3)] == [("at once",), ("soon",), ("later",)]


def test_a_delay_of_a_handler_by_itself_makes_a_periodic_call(context):
    class Periodic(Counter):
        def tick(self, left):
            self.count(left)
            if left:
                self.context.delay(0.001, self.pid, "tick", left - 1)

    periodic = Periodic()
    context.delay(0.001, context.spawn(periodic), "tick", 3)
    assert [periodic.take_call() for _ in range(4)] == [(3,), (2,), (1,), (0,)]


@pytest.mark.parametrize("where", ["thread", "handler"])
def test_a_cancelled_timer_does_not_call(context, where):
    class Cancelling(Counter):
        def cancel(self):
            self.context.delay(0.02, self.pid, "count", "cancelled").cancel()
            self.count("cancelling")

    counter = Cancelling()
    pid = context.spawn(counter)
    if where == "thread":
        context.delay(0.02, pid, "count", "cancelled").cancel()
    else:
        context.dispatch(pid, "cancel")
        assert counter.take_call() == ("cancelling",)
    context.delay(0.06, pid, "count", "after it")
    assert counter.take_call() == ("after it",)


def test_cancelling_a_timer_twice_or_after_its_call_does_no_harm(context):
    counter = Counter()
    pid = context.spawn(counter)
    timer = context.delay(0, pid, "count", "called")
    assert counter.take_call() == ("called",)
    timer.cancel()
    timer.cancel()
    context.dispatch(pid, "count", "alive")
    assert counter.take_call() == ("alive",)


@pytest.mark.parametrize("amount", [-1, "soon", None, float("nan"), float("inf")])
def test_an_amount_that_is_no_time_is_refused_when_called(context, amount):
    pid = context.spawn(Counter())
    with pytest.raises((ValueError, TypeError)):
        context.delay(amount, pid, "count")


def test_a_delay_that_is_due_when_the_process_is_gone_is_dropped_and_counted(context):
    counter = Counter()
    pid = context.spawn(counter)
    context.delay(0.05, pid, "count")
    context.terminate(pid)
    assert context.wait(pid, DEADLINE)
    eventually(lambda: context.statistics()["dropped_events"] == 1)
    assert counter.calls.empty()


def test_statistics_are_plain_counts(context):
    statistics = context.statistics()
    for name in ("handler_errors", "dead_letters", "protobuf_errors", "late_answers", "dropped_events"):
        assert statistics[name] == 0


def test_a_context_prints_its_address(context):
    assert str(context.port) in repr(context)


@pytest.mark.clause("Context.start")
def test_start_is_non_blocking_and_makes_the_address_reachable():
    context = Context(ip="127.0.0.1")
    try:
        assert context.start() is None
        assert context.port > 0
        assert context.ip == "127.0.0.1"
    finally:
        context.stop()


def test_starting_a_started_context_again_changes_nothing(context):
    address = (context.ip, context.port)
    context.start()
    assert (context.ip, context.port) == address
    recorder = Recorder()
    recorder.send(context.spawn(recorder), "note", b"alive")
    assert recorder.take()[2] == b"alive"


@pytest.mark.clause("Context.__init__ loop")
def test_an_idle_loop_that_is_given_is_run_in_the_thread_of_the_context():
    loop = asyncio.new_event_loop()
    context = Context(loop=loop, ip="127.0.0.1")
    seen = queue.SimpleQueue()

    class Looker(Process):
        def initialize(self):
            seen.put((asyncio.get_running_loop(), threading.get_ident()))

    try:
        context.start()
        context.spawn(Looker("looker"))
        running, thread = seen.get(timeout=DEADLINE)
        assert running is loop
        assert thread != threading.get_ident()
    finally:
        context.stop()
        loop.close()


def test_a_running_loop_that_is_given_is_used_and_no_thread_is_started():
    async def main():
        threads = threading.active_count()
        async with Context(ip="127.0.0.1") as context:
            echo, asker = Echo("echo"), Process("asker")
            context.spawn(echo)
            context.spawn(asker)
            answer = await asker.ask(echo.pid, "echo", b"x")
            assert (answer.name, answer.body) == ("echoed", b"x")
            assert echo.thread == threading.get_ident()
            assert threading.active_count() == threads

    class Echo(Process):
        def initialize(self):
            self.thread = threading.get_ident()

        @install("echo")
        def echo(self, from_pid, body):
            self.send(from_pid, "echoed", body)

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_what_would_block_the_loop_is_an_error_there(context):
    outcomes = queue.SimpleQueue()

    class Blocker(Process):
        def block(self):
            for wait in (self.context.join, lambda: self.context.wait(self.pid, DEADLINE)):
                try:
                    outcomes.put(("returned", wait()))
                except Exception as error:
                    outcomes.put(("raised", str(error)))

    context.dispatch(context.spawn(Blocker("blocker")), "block")
    for _ in range(2):
        verdict, text = outcomes.get(timeout=DEADLINE)
        assert verdict == "raised"
        assert text


@pytest.mark.parametrize("call", ["spawn", "wait"])
def test_a_stop_ends_the_waits_of_other_threads(make_context, call):
    context = make_context()
    waiting = threading.Event()

    class Endless(Process):
        async def initialize(self):
            if call == "spawn":
                waiting.set()
                await asyncio.Event().wait()

    if call == "spawn":
        outcome = in_thread(context.spawn, Endless("endless"))
        wait_for(waiting)
    else:
        outcome = in_thread(context.wait, context.spawn(Endless("endless")), DEADLINE)
    context.stop()
    verdict, value = outcome.get(timeout=DEADLINE)
    if call == "spawn":
        assert verdict == "raised"
        assert isinstance(value, Context.Error)
        assert "endless" in str(value)
    else:
        assert (verdict, value) == ("returned", True)
