"""What a message costs, counted: the calls on the way of many messages between two contexts over a real socket.

The bounds are several times what is needed, and far below one for each message, which is what they guard against.
"""

import asyncio
import asyncio.selector_events
import threading
from collections import Counter

import pytest
from helpers import Recorder, wait_for

import compactor.wire.decoder
from compactor import Process, install

MESSAGES = 10_000
BURSTS = 10
_EACH = MESSAGES // BURSTS // 2  # a burst goes there and comes back


@pytest.fixture
def count(monkeypatch):
    """Return a counter of calls; made before the contexts, so that it sees theirs."""
    counter = Counter()

    def counting(owner, name, key):
        function = getattr(owner, name)

        def counted(*args, **kwargs):
            counter[key] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    counting(asyncio.selector_events._SelectorSocketTransport, "write", "writes")
    counting(compactor.wire.decoder, "parse_head", "heads parsed")
    counting(compactor.wire.decoder, "_plain_head", "heads parsed")
    counting(asyncio.BaseEventLoop, "create_task", "tasks")
    counting(asyncio.BaseEventLoop, "call_soon_threadsafe", "wake-ups")
    return counter


class Bursts(Process):
    """Sends a burst, waits until all of it has come back, sends the next."""

    def __init__(self, to):
        super().__init__("bursts")
        self.to = to
        self.back = 0
        self.done = threading.Event()

    def initialize(self):
        self.burst()

    def burst(self):
        for _ in range(_EACH):
            self.send(self.to, "there", b"x" * 100)

    @install("back")
    async def came_back(self, from_pid, body):
        self.back += 1
        if self.back == BURSTS * _EACH:
            self.done.set()
        elif self.back % _EACH == 0:
            self.burst()


class Echo(Process):
    @install("there")
    async def there(self, from_pid, body):
        self.reply("back", body)


@pytest.fixture
def exchange(count, make_context):
    """Have the messages exchanged, and return what was counted meanwhile."""
    here, there = make_context(), make_context()
    bursts = Bursts(there.spawn(Echo("echo")))
    count.clear()
    here.spawn(bursts)
    wait_for(bursts.done)
    assert here.statistics()["messages_sent"] == here.statistics()["messages_received"] == MESSAGES // 2
    return count.copy()


def test_heads_are_parsed_once_or_twice_and_not_for_each_message(exchange):
    assert 0 < exchange["heads parsed"] <= 10


def test_coroutines_that_do_not_suspend_cost_no_tasks(exchange):
    assert exchange["tasks"] <= 10


def test_messages_and_answers_leave_many_in_a_write(exchange):
    assert 0 < exchange["writes"] <= MESSAGES / 20


def test_messages_between_sockets_wake_no_thread(exchange):
    assert exchange["wake-ups"] <= 10


def test_a_thread_that_sends_to_a_loop_that_is_busy_wakes_it_once(count, context, other_context):
    held, go_on = threading.Event(), threading.Event()

    class Blocks(Process):
        @install("block")
        def block(self, from_pid, body):
            held.set()
            wait_for(go_on)

    blocks, sender, receiver = Blocks("blocks"), Recorder("sender"), Recorder("receiver")
    for process in (blocks, sender):
        context.spawn(process)
    other_context.spawn(receiver)
    sender.send(blocks.pid, "block")
    wait_for(held)
    count.clear()
    for _ in range(MESSAGES):
        sender.send(receiver.pid, "note", b"x" * 100)
    sender.send(receiver.pid, "fence")
    assert count["wake-ups"] == 1
    go_on.set()
    assert len(receiver.take_until_fence()) == MESSAGES
    assert count["heads parsed"] <= 10
    assert count["tasks"] <= 10
    assert count["writes"] <= MESSAGES / 20
