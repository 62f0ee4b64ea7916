"""Nothing lost, nothing out of order: between OS processes, threads, handlers, around links, and when contexts stop."""

import contextlib
import threading

import pytest
from helpers import DEADLINE, TESTS, Recorder, eventually, in_thread
from running import RunningProgram

from compactor import PID, Process, install
from compactor.errors import ContextStopped

MIXED = TESTS / "system" / "programs" / "mixed_sizes.py"


class Sender(Process):
    """A process whose methods send from the loop's thread."""

    def send_numbers(self, to, name, numbers):
        for number in numbers:
            self.send(to, name, b"%d" % number)

    def send_numbers_and_raise(self, to, name, numbers):
        self.send_numbers(to, name, numbers)
        raise RuntimeError("after sending")


@pytest.fixture
def sender(context):
    process = Sender("sender")
    context.spawn(process)
    return process


@pytest.fixture(params=["remote", "local"])
def receiver(request, context, other_context):
    process = Recorder("receiver")
    (other_context if request.param == "remote" else context).spawn(process)
    return process


@pytest.fixture
def remote(other_context):
    process = Recorder("receiver")
    other_context.spawn(process)
    return process


def numbers(receiver, number):
    """Take so many messages and return their bodies as numbers."""
    return [int(receiver.take()[2]) for _ in range(number)]


# ---- between OS processes


@pytest.mark.parametrize("senders", ["from-a-thread", "from-handlers", "from-a-thread from-handlers"])
def test_100000_messages_of_mixed_sizes_arrive_in_order_with_none_missing(senders):
    number, places = 100_000, senders.split()
    with RunningProgram(MIXED, "receive", len(places), number) as receiving, contextlib.ExitStack() as running:
        pid = receiving.wait_for_line(r"^receiver@.*")[0]
        for index, place in enumerate(places):
            running.enter_context(RunningProgram(MIXED, "send", pid, f"sender({index})", number, place))
        assert receiving.wait_for_line("order", timeout=60)[0]
        assert receiving.lines[-1] == "all in order"
        assert receiving.process.wait(DEADLINE) == 0


# ---- threads, the loop, handlers


def test_each_of_two_threads_and_a_handler_that_send_at_once_keeps_its_order(context, sender, receiver):
    class Three(Recorder):
        @install("one")
        @install("two")
        @install("loop")
        def three(self, from_pid, body):
            self.seen.put(body)

    three = Three("three")
    receiver.context.spawn(three)

    def send_all(name):
        for number in range(5000):
            sender.send(three.pid, name, b"%b %d" % (name.encode(), number))

    threads = [threading.Thread(target=send_all, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for number in range(0, 5000, 100):
        context.dispatch(sender.pid, "send_numbers", three.pid, "loop", range(number, number + 100))
    seen = [three.take() for _ in range(15_000)]
    for thread in threads:
        thread.join(DEADLINE)
    for name in (b"one", b"two"):
        assert [body for body in seen if body.startswith(name)] == [b"%b %d" % (name, n) for n in range(5000)]
    assert [body for body in seen if body.isdigit()] == [b"%d" % number for number in range(5000)]


def test_what_a_thread_sent_before_it_had_a_handler_send_comes_first(context, sender, receiver):
    for number in range(0, 1000, 2):
        sender.send(receiver.pid, "note", b"%d" % number)
        in_handler = threading.Event()
        context.dispatch(sender.pid, "send_numbers", receiver.pid, "note", Telling([number + 1], in_handler))
        assert in_handler.wait(DEADLINE)
    assert numbers(receiver, 1000) == list(range(1000))


class Telling(list):
    """Numbers that tell when all of them have been sent."""

    def __init__(self, numbers, told):
        super().__init__(numbers)
        self.told = told

    def __iter__(self):
        yield from super().__iter__()
        self.told.set()


def test_handlers_that_raise_in_between_lose_nothing_but_their_own_message(context, sender, other_context, caplog):
    class Raising(Recorder):
        @install("note")
        def note(self, from_pid, body):
            if int(body) % 10 == 0:
                raise RuntimeError("no tens")
            self.seen.put(int(body))

    raising = Raising("raising")
    other_context.spawn(raising)
    for number in range(0, 1000, 50):
        context.dispatch(sender.pid, "send_numbers_and_raise", raising.pid, "note", range(number, number + 50))
    expected = [number for number in range(1000) if number % 10]
    assert [raising.take() for _ in expected] == expected
    assert other_context.statistics()["handler_errors"] == 100
    eventually(lambda: context.statistics()["handler_errors"] == 20)
    caplog.clear()


def test_replies_keep_the_order_of_the_messages_they_answer(context, other_context):
    class Echo(Process):
        @install("ping")
        def ping(self, from_pid, body):
            self.reply("note", body)

    echo, asking = Echo("echo"), Recorder("asking")
    other_context.spawn(echo)
    context.spawn(asking)
    for number in range(5000):
        asking.send(echo.pid, "ping", b"%d" % number)
    assert numbers(asking, 5000) == list(range(5000))


# ---- connections that come and go


@pytest.mark.parametrize("reconnect", [False, True])
def test_messages_keep_their_order_before_and_after_a_link(reconnect, sender, remote):
    for number in range(3000):
        if number % 500 == 250:
            sender.link(remote.pid, reconnect)
        sender.send(remote.pid, "note", b"%d" % number)
    assert numbers(remote, 3000) == list(range(3000))


def test_messages_keep_their_order_over_connections_that_are_closed_when_idle(make_context, remote):
    context = make_context(idle_seconds=0.001)
    sender = Sender("sender")
    context.spawn(sender)
    for number in range(300):
        sender.send(remote.pid, "note", b"%d" % number)
        if number % 10 == 9:
            wait_until_closed_again(context, number // 10 + 1)
    assert numbers(remote, 300) == list(range(300))
    assert context.dead_letters == []


def wait_until_closed_again(context, times):
    def closed():
        statistics = context.statistics()
        return statistics.get("connects", 0) >= times and not statistics["peers"]

    eventually(closed)


def test_aliases_of_one_address_do_not_let_messages_overtake(sender, remote):
    aliases = [PID(host, remote.pid.port, "receiver") for host in ("127.0.0.1", "localhost")]
    for number in range(1000):
        sender.send(aliases[number % 2], "note", b"%d" % number)
    assert numbers(remote, 1000) == list(range(1000))


# ---- contexts that stop in the middle

NAMED = 900
"""Fewer than the dead letters that a context keeps, so that each message can be found by its name."""


class Named(Recorder):
    """Takes messages of many names, each telling its number, and may stop its context at one of them."""

    stop_at = None

    def handle(self, from_pid, body):
        self.seen.put(int(body))
        if int(body) == self.stop_at:
            self.context.stop()

    for _number in range(NAMED):
        handle = install(f"n{_number}")(handle)


def letter_numbers(context):
    return {int(letter.name[1:]) for letter in context.dead_letters}


def taken(recorder):
    """Return all that a recorder has seen."""
    seen = []
    while not recorder.seen.empty():
        seen.append(recorder.seen.get())
    return seen


@pytest.mark.parametrize("stop_at", [0, 100, NAMED - 1])
def test_each_message_is_handled_or_reported_when_its_receivers_context_stops(stop_at, sender, other_context):
    receiver = Named("receiver")
    receiver.stop_at = stop_at
    other_context.spawn(receiver)
    to = receiver.pid
    for number in range(NAMED):
        sender.send(to, f"n{number}", b"%d" % number)
    other_context.join(DEADLINE)
    context = sender.context
    context.stop()
    handled = taken(receiver)
    assert handled == list(range(len(handled)))
    assert set(handled) | letter_numbers(other_context) | letter_numbers(context) == set(range(NAMED))
    # What was delivered may still be reported as unknown, if its answer was lost; nothing else is told twice.
    for letter in context.dead_letters:
        assert letter.reason == "connection lost, unanswered" or int(letter.name[1:]) not in handled
    assert not letter_numbers(other_context) & set(handled)


@pytest.mark.parametrize("wait_for_first", [False, True])
def test_each_message_is_delivered_or_reported_when_its_senders_context_stops(wait_for_first, context, remote):
    sender = Sender("sender")
    context.spawn(sender)
    to = remote.pid

    def send_until_stopped():
        number = 0
        with contextlib.suppress(ContextStopped, Process.UnboundProcess):
            while number < 300_000:
                sender.send(to, "note", b"%d" % number)
                number += 1
        return number

    sending = in_thread(send_until_stopped)
    first = [int(remote.take()[2])] if wait_for_first else []
    context.stop()
    how, number = sending.get(timeout=DEADLINE)
    assert how == "returned"
    remote.context.stop()
    delivered = first + [int(body) for _, _, body in taken(remote)]
    assert delivered == list(range(len(delivered)))
    # The send that was told that the context had stopped may have got through all the same.
    assert len(delivered) + context.statistics()["dead_letters"] in (number, number + 1)


def test_a_message_sent_in_finalize_and_after_a_stop_from_a_handler_still_leaves(make_context, remote):
    class Last(Process):
        def stop_and_send(self, to):
            self.context.stop()
            for number in range(1000):
                self.send(to, "note", b"%d" % number)
            self.to = to

        def finalize(self):
            self.send(self.to, "note", b"1000")

    context = make_context()
    last = Last("last")
    context.spawn(last)
    context.dispatch(last.pid, "stop_and_send", remote.pid)
    assert numbers(remote, 1001) == list(range(1001))
    context.join(DEADLINE)
    assert context.dead_letters == []


def test_messages_for_a_process_that_ends_in_the_middle_are_dead_letters_with_that_reason(sender, receiver):
    class Ending(Recorder):
        @install("note")
        def note(self, from_pid, body):
            self.seen.put(int(body))
            if int(body) == 100:
                self.terminate()

    ending = Ending("ending")
    pid = receiver.context.spawn(ending)
    for number in range(500):
        sender.send(pid, "note", b"%d" % number)
    statistics = receiver.context.statistics
    eventually(lambda: statistics()["dead_letters"] == 399)
    assert taken(ending) == list(range(101))
    reasons = {letter.reason for letter in receiver.context.dead_letters}
    assert reasons <= {"terminated", "no such process"}
