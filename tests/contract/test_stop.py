"""`stop`: from anywhere, once or twice, bounded; what was sent leaves, the port is free, and the end of a program."""

import asyncio
import queue
import socket
import threading

import pytest
from helpers import DEADLINE, Recorder, eventually, in_thread, run_program

from compactor import PID, Context, Process, install


class Sender(Recorder):
    """Sends a burst, on request or as its last act."""

    burst = 200

    def send_burst(self, to):
        for number in range(self.burst):
            self.send(to, "note", b"%d" % number)
        self.send(to, "fence")

    def send_burst_and_stop(self, to):
        self.send_burst(to)
        self.context.stop()
        self.seen.put("after stop")


@pytest.mark.clause("Context.stop")
def test_stop_terminates_all_processes_with_finalize_closes_connections_and_frees_the_port(make_context, context):
    stopped = make_context()
    finalized = queue.SimpleQueue()

    class Last(Process):
        def finalize(self):
            finalized.put(self.pid)

    processes = [Last("first"), Last("second")]
    pids = {stopped.spawn(process) for process in processes}
    watcher = Recorder("watcher")
    context.spawn(watcher)
    for pid in pids:
        watcher.link(pid)
        watcher.send(pid, "note")
    address = (stopped.ip, stopped.port)
    assert stopped.stop() is None
    assert {finalized.get_nowait(), finalized.get_nowait()} == pids
    assert {watcher.take_exit()[0], watcher.take_exit()[0]} == pids
    for process in processes:
        with pytest.raises(Process.UnboundProcess):
            assert process.pid
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=DEADLINE)
    again = make_context(port=address[1])
    assert again.port == address[1]


def test_stop_ends_the_thread(context):
    threads = set(threading.enumerate())
    another = Context(ip="127.0.0.1")
    another.spawn(Process("process"))
    assert set(threading.enumerate()) - threads
    another.stop()
    assert set(threading.enumerate()) - threads == set()


def test_stop_closes_connections_that_were_made_in_its_last_moment():
    # The interpreter warns of each socket that nobody closed, and the warning is an error here.
    run_program(
        """
import gc, socket
from compactor import Context
for _ in range(50):
    context = Context(ip="127.0.0.1")
    context.start()
    socket.create_connection((context.ip, context.port)).close()
    context.stop()
gc.collect()
""",
        expect_silence=True,
    )


def test_a_handler_can_stop_the_context_and_stop_returns_at_once_there(make_context):
    context = make_context()
    sender, receiver = Sender("sender"), Recorder("receiver")
    context.spawn(sender)
    context.spawn(receiver)
    joined = in_thread(context.join)
    context.dispatch(sender.pid, "send_burst_and_stop", receiver.pid)
    assert sender.take() == "after stop"
    assert joined.get(timeout=DEADLINE) == ("returned", None)
    with pytest.raises(Context.Error):
        context.spawn(Process("late"))


def test_stopping_twice_at_once_and_one_after_the_other_is_stopping_once(make_context):
    context = make_context()
    finalized = queue.SimpleQueue()

    class Last(Process):
        def finalize(self):
            finalized.put("finalized")

    context.spawn(Last("last"))
    outcomes = [in_thread(context.stop) for _ in range(3)]
    assert {outcome.get(timeout=DEADLINE) for outcome in outcomes} == {("returned", None)}
    assert context.stop() is None
    assert finalized.qsize() == 1


def test_stopping_a_context_that_was_never_started_is_fine_and_frees_its_port():
    context = Context(ip="127.0.0.1")
    context.stop()
    context.stop()
    context.join()
    with pytest.raises(Context.Error):
        context.start()


def test_join_returns_in_every_thread_and_at_once_after_the_stop(make_context):
    context = make_context()
    outcomes = [in_thread(context.join) for _ in range(3)]
    context.spawn(Process("process"))
    assert all(outcome.empty() for outcome in outcomes)
    context.stop()
    assert {outcome.get(timeout=DEADLINE) for outcome in outcomes} == {("returned", None)}
    assert context.join() is None


@pytest.mark.parametrize("who", ["thread", "handler"])
def test_what_was_sent_before_the_stop_leaves(make_context, context, who):
    stopping = make_context()
    sender, receiver = Sender("sender"), Recorder("receiver")
    stopping.spawn(sender)
    context.spawn(receiver)
    if who == "thread":
        sender.send_burst(receiver.pid)
        stopping.stop()
    else:
        stopping.dispatch(sender.pid, "send_burst_and_stop", receiver.pid)
        stopping.join()
    assert receiver.take_until_fence() == [b"%d" % number for number in range(Sender.burst)]


def test_what_finalize_sends_leaves_too(make_context, context):
    stopping = make_context()
    receiver = Recorder("receiver")
    context.spawn(receiver)

    class Last(Process):
        def finalize(self):
            self.send(receiver.pid, "note", b"goodbye")

    stopping.spawn(Last("last"))
    stopping.stop()
    assert receiver.take()[2] == b"goodbye"


def test_a_stop_under_way_refuses_new_work_and_what_is_queued_becomes_dead_letters(make_context):
    gate = threading.Event()

    class Patient(Recorder):
        @install("hold")
        async def hold(self, from_pid, body):
            self.seen.put("holding")
            while not gate.is_set():
                await asyncio.sleep(0.005)

    context = make_context()
    patient = Patient("patient")
    pid = context.spawn(patient)
    context.send(pid, pid, "hold")
    assert patient.take() == "holding"
    context.send(pid, pid, "note", b"queued")
    outcome = in_thread(context.stop)

    def refused():
        try:
            context.spawn(Process())
        except Context.Error:
            return True
        return False

    eventually(refused)
    gate.set()
    assert outcome.get(timeout=DEADLINE) == ("returned", None)
    assert patient.seen.empty()
    letters = [letter for letter in context.dead_letters if letter.name == "note"]
    assert [letter.size for letter in letters] == [len(b"queued")]
    assert letters[0].reason


def test_a_stop_is_bounded_though_a_handler_never_ends_and_a_peer_never_reads(make_context):
    class Stuck(Recorder):
        @install("stick")
        async def stick(self, from_pid, body):
            self.seen.put("stuck")
            await asyncio.Event().wait()

    context = make_context()
    stuck = Stuck("stuck")
    pid = context.spawn(stuck)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        stuck.send(PID("127.0.0.1", deaf.getsockname()[1], "deaf"), "note", bytes(32 << 20))
        stuck.send(pid, "stick")
        assert stuck.take() == "stuck"
        outcome = in_thread(context.stop)
        assert outcome.get(timeout=DEADLINE) == ("returned", None)
    assert context.wait(pid, 0.0) is True
    assert context.statistics()["terminated"] == context.statistics()["spawned"] == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda context, pid: context.start(),
        lambda context, pid: context.spawn(Process("late")),
        lambda context, pid: context.send(pid, pid, "note"),
        lambda context, pid: context.link(pid, pid),
        lambda context, pid: context.dispatch(pid, "take"),
        lambda context, pid: context.delay(0, pid, "take"),
    ],
    ids=["start", "spawn", "send", "link", "dispatch", "delay"],
)
def test_using_a_stopped_context_is_a_clear_error(make_context, use):
    context = make_context()
    pid = context.spawn(Recorder())
    context.stop()
    with pytest.raises(Context.Error, match="stop"):
        use(context, pid)


def test_what_may_be_asked_of_a_stopped_context_still_can_be(make_context):
    context = make_context()
    pid = context.spawn(Recorder())
    context.stop()
    assert pid not in context
    assert context.wait(pid, DEADLINE) is True
    assert context.statistics()["handler_errors"] == 0
    assert context.is_alive() is False


def test_exits_are_told_to_processes_of_other_contexts_when_a_context_stops(make_context, context):
    stopping = make_context()
    linkee, linker = Recorder("linkee"), Recorder("linker")
    pid = stopping.spawn(linkee)
    context.spawn(linker)
    linker.link(pid)
    linker.send(pid, "fence")
    linkee.take()
    stopping.stop()
    gone, reason = linker.take_exit()
    assert gone == pid
    assert reason


@pytest.mark.parametrize(
    "ending",
    ["", "raise SystemExit(0)", "context.stop()", "threading.Thread(target=context.stop).start()"],
    ids=["just ends", "exits", "stops", "stops in a thread"],
)
def test_a_program_that_ends_does_not_hang_and_its_last_sends_leave(context, ending):
    receiver = Recorder("receiver")
    context.spawn(receiver)
    run_program(
        f"""
import threading
from compactor import Context, PID, Process
context = Context(ip="127.0.0.1")
sender = Process("sender")
context.spawn(sender)
to = PID.from_string({str(receiver.pid)!r})
for number in range(100):
    sender.send(to, "note", b"%d" % number)
sender.send(to, "fence")
{ending}
"""
    )
    assert receiver.take_until_fence() == [b"%d" % number for number in range(100)]


def test_a_program_that_ends_with_work_under_way_does_not_hang():
    run_program(
        """
import asyncio
from compactor import Context, Process, install

class Busy(Process):
    def initialize(self):
        self.context.delay(3600, self.pid, "later")
        self.send(self.pid, "work")
    def later(self):
        pass
    @install("work")
    async def work(self, from_pid, body):
        await asyncio.Event().wait()

context = Context(ip="127.0.0.1")
context.spawn(Busy("busy"))
"""
    )


def test_a_program_may_make_a_context_and_never_use_it():
    run_program("from compactor import Context; Context(ip='127.0.0.1')")
