"""Host names in PIDs (`_names.py`): on a loop whose clock and name service are the test's."""

import asyncio
import logging
import socket

import pytest
from helpers import Recorder, eventually

from compactor import PID
from compactor._names import _FRESH_SECONDS, Names, name_in


def _entry(ip):
    """Return what `getaddrinfo` gives for one address."""
    if ":" in ip:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, 1, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 1)


class FakeLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still and that looks up names when the test answers for the name service."""

    def __init__(self):
        super().__init__()
        self.asked = []  # names, in order
        self.pending = {}
        self.passed = 0.0

    def time(self):
        return self.passed

    def getaddrinfo(self, host, port, **options):
        assert options.get("type", socket.SOCK_STREAM) == socket.SOCK_STREAM
        self.asked.append(host)
        self.pending[host] = self.create_future()
        return self.pending[host]

    def found(self, name, *ips):
        """Answer a question, and let the loop come round."""
        self.pending.pop(name).set_result([_entry(ip) for ip in ips])
        self.turns()

    def failed(self, name, error):
        """Have a question fail, and let the loop come round."""
        self.pending.pop(name).set_exception(error)
        self.turns()

    def turns(self):
        """Come round some times, unless this is asked for from within a turn."""
        for _ in range(0 if self.is_running() else 5):
            future = self.create_future()
            self.call_soon(future.set_result, None)
            self.run_until_complete(future)


class Sender:
    """Sends numbered messages as a node does: resolve, and again later."""

    def __init__(self, loop, ipv6=False):
        self.loop = loop
        self.changes = 0
        self.names = Names(loop, ipv6, self._changed)
        self.sent = []  # (message, address)
        self.failed = []  # (message, reason)

    def _changed(self):
        self.changes += 1

    def send(self, message, to):
        address = self.names.resolve(
            to, lambda: self.send(message, to), lambda reason: self.failed.append((message, reason))
        )
        if address is not None:
            self.sent.append((message, address))
        self.loop.turns()


@pytest.fixture
def loop():
    loop = FakeLoop()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.turns()
    loop.close()


@pytest.fixture
def sender(loop):
    return Sender(loop)


NAMED, NUMBER = PID("master.example", 5050, "x"), PID("10.0.0.1", 5050, "x")
OTHER_NAME, OTHER_PORT = PID("other.example", 5050, "x"), PID("10.0.0.1", 80, "x")


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("localhost", "localhost"),
        ("master.example", "master.example"),
        ("1e100.net", "1e100.net"),
        ("10.0.0.1", None),
        ("::1", None),
    ],
)
def test_what_is_a_name_and_what_a_number(ip, name):
    assert name_in(PID(ip, 1, "x")) == name


def test_a_number_is_its_own_address_and_nobody_is_asked(sender, loop):
    sender.send(1, NUMBER)
    assert sender.sent == [(1, ("10.0.0.1", 5050))]
    assert loop.asked == []


def test_a_name_is_asked_for_once_and_what_was_sent_to_it_leaves_in_order(sender, loop):
    for message in range(5):
        sender.send(message, NAMED)
    assert sender.sent == []
    loop.found("master.example", "10.0.0.1")
    assert sender.sent == [(message, ("10.0.0.1", 5050)) for message in range(5)]
    assert loop.asked == ["master.example"]


def test_a_name_that_is_known_is_not_asked_for_again(sender, loop):
    sender.send(1, NAMED)
    loop.found("master.example", "10.0.0.1")
    sender.send(2, NAMED)
    assert [message for message, _ in sender.sent] == [1, 2]
    assert loop.asked == ["master.example"]
    assert sender.names.known(NAMED) == ("10.0.0.1", 5050)


def test_one_name_with_several_ports_has_each_of_them(sender, loop):
    sender.send(1, NAMED)
    loop.found("master.example", "10.0.0.1")
    sender.send(2, PID("master.example", 80, "x"))
    assert sender.sent == [(1, ("10.0.0.1", 5050)), (2, ("10.0.0.1", 80))]


def test_an_ipv6_address_can_be_what_a_name_means(sender, loop):
    sender.send(1, NAMED)
    loop.found("master.example", "::1")
    assert sender.sent == [(1, ("::1", 5050))]


@pytest.mark.parametrize(
    ("ipv6", "found", "taken"),
    [
        (False, ["::1", "127.0.0.1", "127.0.0.2"], "127.0.0.1"),
        (True, ["127.0.0.1", "::1", "::2"], "::1"),
        (False, ["::1", "::2"], "::1"),
        (True, ["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_of_several_addresses_the_first_of_our_own_kind_is_taken_where_there_is_one(loop, ipv6, found, taken):
    sender = Sender(loop, ipv6)
    sender.send(1, NAMED)
    loop.found("master.example", *found)
    assert sender.sent == [(1, (taken, 5050))]


def test_a_number_of_the_same_port_does_not_overtake_a_name(sender, loop):
    sender.send(1, NAMED)
    sender.send(2, NUMBER)
    sender.send(3, NAMED)
    sender.send(4, NUMBER)
    assert sender.sent == []
    loop.found("master.example", "10.0.0.1")
    assert [message for message, _ in sender.sent] == [1, 2, 3, 4]


def test_a_number_of_another_port_does_not_wait(sender):
    sender.send(1, NAMED)
    sender.send(2, OTHER_PORT)
    assert sender.sent == [(2, ("10.0.0.1", 80))]


def test_another_name_of_the_same_port_waits_and_is_then_asked_for_and_nothing_overtakes(sender, loop):
    for message, to in enumerate([NAMED, OTHER_NAME, NUMBER, NAMED]):
        sender.send(message, to)
    assert loop.asked == ["master.example"]
    loop.found("master.example", "10.0.0.1")
    assert [message for message, _ in sender.sent] == [0]
    sender.send(4, NUMBER)
    loop.found("other.example", "10.0.0.1")
    assert [message for message, _ in sender.sent] == [0, 1, 2, 3, 4]


def test_a_number_waits_behind_a_name_though_another_name_is_known(sender, loop):
    sender.send(1, OTHER_NAME)
    loop.found("other.example", "10.0.0.1")
    sender.send(2, NAMED)
    sender.send(3, OTHER_NAME)
    loop.found("master.example", "10.0.0.1")
    assert [message for message, _ in sender.sent] == [1, 2, 3]


def test_names_with_different_ports_are_looked_up_at_the_same_time(sender, loop):
    sender.send(1, NAMED)
    sender.send(2, PID("other.example", 80, "x"))
    assert loop.asked == ["master.example", "other.example"]
    loop.found("other.example", "10.0.0.2")
    assert sender.sent == [(2, ("10.0.0.2", 80))]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name not resolved"),
        (OSError("broken"), "name not resolved: broken"),
        (UnicodeError("label too long"), "name not resolved: label too long"),
    ],
)
def test_a_name_that_cannot_be_found_fails_what_was_sent_to_it_and_nothing_else(sender, loop, error, text):
    sender.send(1, NAMED)
    sender.send(2, NUMBER)
    sender.send(3, NAMED)
    loop.failed("master.example", error)
    assert [message for message, _ in sender.failed] == [1, 3]
    assert all(reason.startswith(text) for _, reason in sender.failed)
    assert sender.sent == [(2, ("10.0.0.1", 5050))]


def test_the_failure_of_one_name_leaves_another_name_that_waited_behind_it(sender, loop):
    sender.send(1, NAMED)
    sender.send(2, OTHER_NAME)
    loop.failed("master.example", OSError("broken"))
    loop.found("other.example", "10.0.0.1")
    assert [message for message, _ in sender.failed] == [1]
    assert sender.sent == [(2, ("10.0.0.1", 5050))]


def test_a_name_that_failed_is_asked_for_again_by_the_next_message(sender, loop):
    sender.send(1, NAMED)
    loop.failed("master.example", OSError("broken"))
    sender.send(2, NAMED)
    loop.found("master.example", "10.0.0.1")
    assert loop.asked == ["master.example"] * 2
    assert sender.sent == [(2, ("10.0.0.1", 5050))]


def test_a_name_is_asked_for_again_when_it_is_not_fresh_any_more(sender, loop):
    sender.send(1, NAMED)
    loop.found("master.example", "10.0.0.1")
    loop.passed += _FRESH_SECONDS - 1
    sender.send(2, NAMED)
    assert loop.asked == ["master.example"]
    loop.passed += 2
    changes = sender.changes
    sender.send(3, NAMED)
    assert sender.changes > changes  # routes that are remembered must not be older than the name
    loop.found("master.example", "10.0.0.2")
    assert sender.sent[-1] == (3, ("10.0.0.2", 5050))


def test_an_address_that_was_lost_makes_its_names_unknown_and_no_others(sender, loop):
    sender.send(1, NAMED)
    loop.found("master.example", "10.0.0.1")
    sender.send(2, PID("other.example", 80, "x"))
    loop.found("other.example", "10.0.0.2")
    sender.names.forget("10.0.0.1")
    assert sender.names.known(NAMED) is None
    assert sender.names.known(PID("other.example", 80, "x")) == ("10.0.0.2", 80)
    sender.send(3, NAMED)
    assert loop.asked == ["master.example", "other.example", "master.example"]


def test_a_message_that_cannot_be_sent_after_all_does_not_hold_up_those_behind_it(sender, loop, caplog):
    def fails():
        raise LookupError("again")

    sender.send(1, NAMED)
    sender.names.resolve(NAMED, fails, lambda reason: None)
    sender.send(2, NAMED)
    loop.set_exception_handler(lambda loop, context: None)
    with caplog.at_level(logging.CRITICAL):
        loop.found("master.example", "10.0.0.1")
    assert [message for message, _ in sender.sent] == [1, 2]


@pytest.mark.parametrize("grace", [0.0, 0.1])
def test_what_still_waits_for_a_name_when_the_context_stops_becomes_a_dead_letter(make_context, grace):
    context = make_context()
    sender = Recorder("sender")
    context.spawn(sender)
    loop = context._node.loop
    asked = []

    async def never(host, port, **options):
        asked.append(host)
        await asyncio.Event().wait()

    loop.getaddrinfo = never
    sender.send(NAMED, "note", b"12345")
    sender.send(NUMBER, "note", b"behind")
    eventually(lambda: asked)
    context.stop(grace)
    letters = [(letter.to, letter.size, letter.reason) for letter in context.dead_letters]
    assert letters == [(NAMED, 5, "the context stopped"), (NUMBER, 6, "the context stopped")]


def test_a_name_that_is_found_while_the_context_stops_still_gets_its_message(make_context):
    context, other = make_context(), make_context()
    sender, receiver = Recorder("sender"), Recorder("receiver")
    context.spawn(sender)
    other.spawn(receiver)
    loop = context._node.loop

    async def when_it_stops(host, port, **options):
        while not context._node.stopping:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        return [_entry("127.0.0.1")]

    loop.getaddrinfo = when_it_stops
    sender.send(PID("master.example", other.port, "receiver"), "note", b"last words")
    context.stop()
    assert receiver.take()[2] == b"last words"
