"""`spawn`: what has happened when it returns, what is left when it fails, and what a used name means."""

import asyncio
import queue
import threading

import pytest
from helpers import DEADLINE, Holder, Recorder, eventually, in_thread, wait_for

from compactor import PID, Context, Process, install


@pytest.mark.clause("Context.spawn", "Context.spawn returns")
def test_spawn_returns_the_pid_of_the_process_on_this_context(context):
    process = Process("process")
    assert context.spawn(process) == process.pid == PID(context.ip, context.port, "process")


@pytest.mark.clause("Context.start")
def test_spawn_starts_a_context_that_was_not_started():
    context = Context(ip="127.0.0.1")
    try:
        recorder = Recorder()
        pid = context.spawn(recorder)
        recorder.send(pid, "note", b"running")
        assert recorder.take()[2] == b"running"
    finally:
        context.stop()


def test_spawn_from_a_thread_returns_when_initialize_has_run_on_the_loop(context):
    class Slow(Process):
        ready = False

        def initialize(self):
            # A spawn that does not wait would return during this pause.
            threading.Event().wait(0.1)
            self.thread = threading.get_ident()
            self.ready = True

    slow = Slow("slow")
    context.spawn(slow)
    assert slow.ready
    assert slow.thread != threading.get_ident()


def test_spawn_from_a_thread_waits_for_an_asynchronous_initialize_before_which_no_message_is_handled(context):
    class Slow(Recorder):
        async def initialize(self):
            self.send(self.pid, "note", b"queued")
            await asyncio.sleep(0.1)
            self.seen.put("initialized")

    slow = Slow("slow")
    context.spawn(slow)
    assert slow.seen.get_nowait() == "initialized"
    assert slow.take()[2] == b"queued"


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_spawn_raises_what_initialize_raised_and_leaves_nothing_behind(context, kind):
    class Plain(Process):
        def initialize(self):
            raise LookupError("no master")

    class Coroutine(Process):
        async def initialize(self):
            await asyncio.sleep(0)
            raise LookupError("no master")

    broken = {"plain": Plain, "coroutine": Coroutine}[kind]("broken")
    with pytest.raises(LookupError, match="no master"):
        context.spawn(broken)
    pid = PID(context.ip, context.port, "broken")
    assert pid not in context
    with pytest.raises(Process.UnboundProcess):
        assert broken.pid
    recorder = Recorder("broken")
    assert context.spawn(recorder) == pid
    recorder.send(pid, "note", b"in its place")
    assert recorder.take()[2] == b"in its place"


def test_those_who_linked_to_a_process_whose_initialize_fails_are_told(context):
    linker = Recorder("linker")
    context.spawn(linker)

    class Broken(Process):
        def initialize(self):
            linker.link(self.pid)
            raise LookupError("no master")

    with pytest.raises(LookupError):
        context.spawn(Broken("broken"))
    assert linker.take_exit()[0].id == "broken"


def test_a_handler_can_spawn_and_use_the_new_process_at_once(context):
    children = queue.SimpleQueue()

    class Parent(Process):
        @install("spawn")
        def spawn_child(self, from_pid, body):
            child = Recorder(body.decode())
            pid = self.context.spawn(child)
            self.link(pid)
            self.send(pid, "note", b"welcome")
            children.put((child, pid))

    parent = Parent("parent")
    context.spawn(parent)
    parent.send(parent.pid, "spawn", b"child")
    child, pid = children.get(timeout=DEADLINE)
    assert pid == child.pid
    assert child.take() == ("note", parent.pid, b"welcome")


def test_spawn_from_a_handler_raises_what_initialize_raised(context):
    caught = queue.SimpleQueue()

    class Broken(Process):
        def initialize(self):
            raise LookupError("no master")

    class Parent(Process):
        def spawn_child(self):
            try:
                self.context.spawn(Broken("broken"))
            except LookupError as error:
                caught.put(str(error))

    pid = context.spawn(Parent("parent"))
    context.dispatch(pid, "spawn_child")
    assert "no master" in caught.get(timeout=DEADLINE)
    assert PID(context.ip, context.port, "broken") not in context


def test_initialize_can_spawn_as_well(context):
    class Parent(Process):
        def initialize(self):
            self.child = self.context.spawn(Process("child"))

    parent = Parent("parent")
    context.spawn(parent)
    assert parent.child in context


def test_spawns_from_many_threads_at_once_all_succeed(context):
    outcomes = [in_thread(context.spawn, Process(f"p{number}")) for number in range(20)]
    pids = {outcome.get(timeout=DEADLINE) for outcome in outcomes}
    assert {pid.id for verdict, pid in pids if verdict == "returned"} == {f"p{number}" for number in range(20)}


def test_of_two_spawns_of_one_name_at_once_exactly_one_succeeds(context):
    outcomes = [in_thread(context.spawn, Process("same")) for _ in range(10)]
    verdicts = sorted(outcome.get(timeout=DEADLINE)[0] for outcome in outcomes)
    assert verdicts == ["raised"] * 9 + ["returned"]


def test_a_taken_name_is_refused_with_an_error_and_the_first_process_stays(context):
    first, second = Recorder("taken"), Recorder("taken")
    pid = context.spawn(first)
    with pytest.raises(Context.Error, match="taken"):
        context.spawn(second)
    first.send(pid, "note", b"to the first")
    assert first.take()[2] == b"to the first"
    assert second.seen.empty()
    with pytest.raises(Process.UnboundProcess):
        assert second.pid


@pytest.mark.parametrize("value", [None, "process", object(), Process])
def test_spawning_something_that_is_no_process_is_a_type_error(context, value):
    with pytest.raises(TypeError, match=r"(?i)process"):
        context.spawn(value)


def test_a_new_process_may_use_the_pid_of_a_terminated_one_and_gets_nothing_meant_for_it(context):
    old, new, sender = Holder("reused"), Recorder("reused"), Process("sender")
    pid = context.spawn(old)
    context.spawn(sender)
    old.hold_now(sender)
    sender.send(pid, "note", b"for the old one")
    old.terminate()
    old.release(context)
    assert context.wait(pid, DEADLINE)
    assert context.spawn(new) == pid
    sender.send(pid, "fence")
    assert new.take_until_fence() == []
    assert [(letter.name, letter.to) for letter in context.dead_letters] == [("note", pid)]


def test_timers_and_dispatches_meant_for_a_terminated_process_do_not_reach_its_successor(context):
    class Counting(Holder):
        def count(self, word):
            self.seen.put(("note", None, word))

    old, new, sender = Counting("reused"), Counting("reused"), Process("sender")
    pid = context.spawn(old)
    context.spawn(sender)
    old.hold_now(sender)
    context.dispatch(pid, "count", "dispatched to the old one")
    context.delay(0.05, pid, "count", "delayed for the old one")
    old.terminate()
    old.release(context)
    assert context.wait(pid, DEADLINE)
    context.spawn(new)
    eventually(lambda: context.statistics()["dropped_events"] == 2)
    new.send(pid, "fence")
    assert new.take_until_fence() == []


def test_a_link_made_to_a_terminated_process_is_not_inherited_by_its_successor(context):
    first, second, linker = Recorder("reused"), Recorder("reused"), Recorder("linker")
    context.spawn(linker)
    pid = context.spawn(first)
    linker.link(pid)
    linker.send(pid, "fence")
    first.take()
    first.terminate()
    linker.take_exit()
    context.spawn(second)
    second.terminate()
    assert context.wait(pid, DEADLINE)
    linker.send(linker.pid, "fence")
    linker.take()
    assert linker.exits.empty()


def test_the_links_of_a_terminated_linker_go_with_it(context):
    first, second, linkee = Recorder("reused"), Recorder("reused"), Recorder("linkee")
    linkee_pid = context.spawn(linkee)
    pid = context.spawn(first)
    first.link(linkee_pid)
    first.terminate()
    assert context.wait(pid, DEADLINE)
    context.spawn(second)
    linkee.terminate()
    assert context.wait(linkee_pid, DEADLINE)
    second.send(pid, "fence")
    second.take()
    assert second.exits.empty()
    assert first.exits.empty()


@pytest.mark.clause("getting started, own context")
def test_processes_of_different_contexts_may_have_the_same_name(context, other_context):
    here, there = Recorder("same"), Recorder("same")
    assert context.spawn(here) != other_context.spawn(there)
    here.send(there.pid, "note", b"over there")
    assert there.take() == ("note", here.pid, b"over there")
    assert here.seen.empty()


def test_the_pid_of_a_context_is_that_of_its_only_process(context):
    process = Process("only")
    context.spawn(process)
    assert context.pid == process.pid


def test_the_pid_of_a_context_without_a_process_is_a_clear_error(context):
    with pytest.raises(Context.Error, match=r"(?i)no process|none"):
        assert context.pid


def test_the_pid_of_a_context_with_two_processes_is_a_clear_error_that_names_them(context):
    context.spawn(Process("first"))
    context.spawn(Process("second"))
    with pytest.raises(Context.Error, match="first") as caught:
        assert context.pid
    assert "second" in str(caught.value)


def test_a_one_time_pid_of_an_ask_does_not_count_as_a_process_of_the_context(context, other_context):
    holder, asker = Holder(), Process("asker")
    other_context.spawn(holder)
    pid = context.spawn(asker)
    asker.ask(holder.pid, "hold")
    wait_for(holder.holding)
    assert context.pid == pid
    holder.release(other_context)


def test_an_asynchronous_initialize_that_raises_behind_a_spawn_in_a_handler_is_logged_and_counted(context, caplog):
    class Late(Process):
        async def initialize(self):
            await asyncio.sleep(0)
            raise LookupError("too late to be raised")

    class Spawner(Recorder):
        @install("go")
        def go(self, from_pid, body):
            self.seen.put(self.context.spawn(Late("late")))

    spawner = Spawner("spawner")
    context.spawn(spawner)
    spawner.send(spawner.pid, "go")
    pid = spawner.take()
    eventually(lambda: context.statistics()["handler_errors"] == 1)
    assert pid not in context
    assert "too late to be raised" in caplog.text


def test_a_spawn_that_waits_too_long_names_its_process_and_a_wait_of_the_same_length_is_just_over(context, monkeypatch):
    monkeypatch.setattr("compactor.context.SPAWN_SECONDS", 0.05)
    holder = threading.Event()

    class Slow(Process):
        async def initialize(self):
            await asyncio.to_thread(holder.wait, DEADLINE)

    slow, other = Slow("slow"), Process("other")
    pid = context.spawn(other)
    try:
        with pytest.raises(Context.Error, match="slow"):
            context.spawn(slow)
        assert context.wait(pid, 0.05) is False
    finally:
        holder.set()
