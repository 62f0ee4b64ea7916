"""The door for other threads (`_aio/portal.py`), with a loop that only counts, and with a real one."""

import asyncio
import logging
import sys
import threading

import pytest
from helpers import DEADLINE

from compactor import ContextStopped
from compactor._aio.portal import Portal


class CountingLoop:
    """A loop that keeps what it is asked to call until the test lets it run."""

    def __init__(self):
        self.asked = []
        self.soon = []
        self.closed = False

    def call_soon_threadsafe(self, function):
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.asked.append(function)

    def call_soon(self, function):
        self.soon.append(function)

    def crank(self):
        """Run what was asked for."""
        asked, self.asked, self.soon = [*self.asked, *self.soon], [], []
        for function in asked:
            function()


class Door:
    """A portal on a counting loop; what is called through it is written down."""

    def __init__(self):
        self.loop = CountingLoop()
        self.portal = Portal(self.loop, lambda: self.portal.drain())
        self.called = []

    def submit(self, *values):
        for value in values:
            self.portal.submit(self.called.append, value)


@pytest.fixture
def door():
    return Door()


def test_calls_are_run_in_their_order_with_their_arguments(door):
    door.submit(1, 2)
    door.portal.submit(lambda *args: door.called.append(args), 3, "three")
    door.submit(4)
    assert door.called == []
    door.loop.crank()
    assert door.called == [1, 2, (3, "three"), 4]


def test_the_loop_is_woken_once_for_a_batch(door):
    door.submit(*range(1000))
    assert len(door.loop.asked) == 1
    door.loop.crank()
    assert door.called == list(range(1000))
    door.submit(*range(1000))
    assert len(door.loop.asked) == 1


def test_a_drain_that_was_not_asked_for_makes_the_wake_up_find_nothing(door):
    door.submit(1)
    door.portal.drain()  # a send on the loop's thread lets the others through first
    assert door.called == [1]
    door.loop.crank()
    assert door.called == [1]
    door.submit(2)
    door.loop.crank()
    assert door.called == [1, 2]


def test_what_is_submitted_during_a_drain_comes_in_a_later_turn_and_is_not_forgotten(door):
    def again(number):
        door.called.append(number)
        if number < 5:
            door.portal.submit(again, number + 1)

    door.portal.submit(again, 1)
    door.loop.crank()
    assert door.called == [1]
    for _ in range(4):
        assert len(door.loop.asked) + len(door.loop.soon) == 1
        door.loop.crank()
    assert door.called == [1, 2, 3, 4, 5]


def test_a_call_that_lets_the_others_through_first_runs_each_of_them_once(door):
    def drains(value):
        door.portal.drain()
        door.called.append(value)

    door.submit(1)
    door.portal.submit(drains, 3)
    door.submit(2)
    door.loop.crank()
    assert door.called == [1, 2, 3]


def test_a_call_that_raises_is_logged_and_the_others_are_run(door, caplog):
    error = LookupError("in a call")

    def fails():
        raise error

    door.submit(1)
    door.portal.submit(fails)
    door.submit(2)
    door.loop.crank()
    assert door.called == [1, 2]
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.exc_info[1] is error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_through_and_the_others_are_run_in_a_turn_that_is_asked_for(door, kind):
    def fails():
        raise kind

    door.submit(1)
    door.portal.submit(fails)
    door.submit(2, 3)
    with pytest.raises(kind):
        door.loop.crank()
    assert door.called == [1]
    door.loop.crank()
    assert door.called == [1, 2, 3]


def test_after_an_interrupt_the_next_call_brings_the_others_along_in_order(door):
    def fails():
        raise KeyboardInterrupt

    door.portal.submit(fails)
    door.submit(1)
    with pytest.raises(KeyboardInterrupt):
        door.loop.crank()
    door.submit(2)
    door.loop.crank()
    assert door.called == [1, 2]


def test_close_runs_what_was_accepted_and_refuses_the_rest(door):
    door.submit(1, 2)
    door.portal.close()
    assert door.called == [1, 2]
    with pytest.raises(ContextStopped):
        door.submit(3)


def test_a_call_that_was_refused_is_never_run(door):
    door.portal.close()
    with pytest.raises(ContextStopped):
        door.submit("refused")
    door.portal.drain()  # as a send on the loop's thread does
    door.loop.crank()
    assert door.called == []


def test_close_twice_is_close_once(door):
    door.submit(1)
    door.portal.close()
    door.portal.close()
    assert door.called == [1]


def test_a_call_for_a_loop_that_is_closed_is_refused(door):
    door.loop.closed = True
    with pytest.raises(ContextStopped):
        door.submit(1)


@pytest.fixture
def running_loop():
    """Return a loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE)
    loop.close()


@pytest.fixture
def _threads_change_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_threads_change_often")
def test_calls_of_many_threads_all_run_and_those_of_one_in_their_order(running_loop):
    calls, all_run = [], threading.Event()
    portal = Portal(running_loop, lambda: portal.drain())
    threads, each = 4, 2000

    def take(thread, number):
        calls.append((thread, number))
        if len(calls) == threads * each:
            all_run.set()

    def submit_all(thread):
        for number in range(each):
            portal.submit(take, thread, number)

    senders = [threading.Thread(target=submit_all, args=(thread,)) for thread in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(DEADLINE)
    assert all_run.wait(DEADLINE), f"{len(calls)} of {threads * each}"
    for thread in range(threads):
        assert [number for sender, number in calls if sender == thread] == list(range(each))


def _submit_until_refused(loop):
    """Close a portal while another thread submits; return the calls that were run and those that were accepted."""
    calls, accepted = [], []
    portal = Portal(loop, lambda: portal.drain())
    begun, closed = threading.Event(), threading.Event()

    def submit_all():
        number = 0
        while True:
            try:
                portal.submit(calls.append, number)
            except ContextStopped:
                return
            accepted.append(number)
            begun.set()
            number += 1

    def close():
        portal.close()
        closed.set()

    sender = threading.Thread(target=submit_all)
    sender.start()
    assert begun.wait(DEADLINE)
    loop.call_soon_threadsafe(close)
    assert closed.wait(DEADLINE)
    sender.join(DEADLINE)
    portal.drain()
    return calls, accepted


@pytest.mark.usefixtures("_threads_change_often")
def test_of_the_calls_made_while_the_door_closes_exactly_those_that_were_not_refused_are_run(running_loop):
    for _ in range(20):
        calls, accepted = _submit_until_refused(running_loop)
        assert calls == accepted
