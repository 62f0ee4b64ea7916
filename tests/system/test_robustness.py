"""What handlers and programs may do to a context without ending it or hanging for ever."""

import asyncio
import contextlib
import http.client
import threading

import pytest
from helpers import DEADLINE, Recorder, eventually, request, run_program
from raw import RawClient

from compactor import Context, Process, install, route
from compactor.wire.encoder import encode_head


class NoException(BaseException):
    pass


KINDS = [NoException, GeneratorExit, SystemExit, KeyboardInterrupt, asyncio.CancelledError]


class Raiser(Recorder):
    raises = NoException

    @install("plain")
    def plain(self, from_pid, body):
        raise self.raises

    @install("suspended")
    async def suspended(self, from_pid, body):
        await asyncio.sleep(0)
        raise self.raises

    @install("generator")
    def generator(self, from_pid, body):
        yield asyncio.sleep(0)
        raise self.raises

    @route("/page")
    async def page(self, handler):
        await asyncio.sleep(0)
        raise self.raises

    @install("alive")
    def alive(self, from_pid, body):
        self.seen.put(body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["plain", "suspended", "generator"])
def test_a_process_goes_on_after_whatever_its_handler_raises(context, how, kind):
    process = Raiser("raiser")
    process.raises = kind
    context.spawn(process)
    process.send(process.pid, how)
    process.send(process.pid, "alive", b"still")
    assert process.take() == b"still"
    assert context.statistics()["handler_errors"] == 1
    assert context.is_alive()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_context_goes_on_after_whatever_an_asynchronous_route_raises(context, kind):
    process = Raiser("raiser")
    process.raises = kind
    pid = context.spawn(process)
    process.send(pid, "alive", b"before")
    assert process.take() == b"before"
    asker = threading.Thread(target=_get, args=(pid,))
    asker.start()
    eventually(lambda: context.statistics()["handler_errors"] == 1)
    process.send(pid, "alive", b"after")
    assert process.take() == b"after"
    asker.join(DEADLINE)


def _get(pid):
    with contextlib.suppress(OSError, http.client.HTTPException):  # how the page ends is not what is tested
        request(pid, "/raiser/page")


def test_an_async_generator_cannot_be_a_handler_and_the_error_says_why():
    with pytest.raises(TypeError, match="async generator"):

        @install("never")
        async def never(self, from_pid, body):
            yield


def test_a_process_whose_repr_raises_is_spawned_like_others(context):
    class Hostile(Process):
        def __repr__(self):
            raise RuntimeError("repr")

    assert context.spawn(Hostile("hostile")) in context


def test_a_forked_child_is_told_that_the_context_is_not_its_own():
    run_program(
        """
import os
import warnings
from compactor import Context, Process

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork with threads, which is the point
context = Context(ip="127.0.0.1")
process = Process("process")
pid = context.spawn(process)
child = os.fork()
if child == 0:
    status = 1
    try:
        process.send(pid, "note")
    except Context.Error as error:
        if "forked" in str(error) and not context.is_alive():
            with_own = Context(ip="127.0.0.1")
            with_own.spawn(Process("own"))
            with_own.stop()
            context.stop()
            status = 0
    os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pid in context
context.stop()
"""
    )


def test_answers_held_for_a_compactor_come_before_the_refusal_behind_them(context):
    pid = context.spawn(Recorder("receiver"))
    message = encode_head(None, pid, "note") + b"0\r\n\r\n"
    with RawClient(context) as client:
        client.send(message)
        client.answer()
        client.send(message * 3 + b"GARBAGE\r\n\r\n")
        assert client.statuses(4) == [202, 202, 202, 400]


def test_a_context_whose_loop_ended_before_it_says_so_and_frees_its_port():
    contexts = []

    async def leave_it():
        contexts.append(Context(loop=asyncio.get_running_loop(), ip="127.0.0.1"))
        contexts[0].spawn(left)

    left = Process("left")
    asyncio.run(leave_it())
    context = contexts[0]
    with pytest.raises(Context.Error, match="loop"):
        left.send(left.pid, "note")
    with pytest.raises(Context.Error, match="loop"):
        context.spawn(Process("late"))
    context.stop()
    assert not context.is_alive()
    context.join()
    Context(ip="127.0.0.1", port=context.port).stop()


def test_a_context_whose_loop_pauses_can_be_stopped():
    loop = asyncio.new_event_loop()
    finalized = []

    class Ends(Process):
        def finalize(self):
            finalized.append(self.pid)

    async def make():
        context = Context(loop=loop, ip="127.0.0.1")
        context.spawn(Ends("ends"))
        return context

    context = loop.run_until_complete(make())
    context.stop()
    loop.close()
    assert len(finalized) == 1
    assert not context.is_alive()


def test_an_ask_ends_in_its_time_though_the_thread_of_the_context_is_held_up(context):
    hold, held = threading.Event(), threading.Event()

    class Holds(Process):
        @install("hold")
        def hold(self, from_pid, body):
            held.set()
            hold.wait(DEADLINE)

    process = Holds("holds")
    pid = context.spawn(process)
    process.send(pid, "hold")
    assert held.wait(DEADLINE)
    with pytest.raises(TimeoutError):
        process.ask(pid, "hold", timeout=0.01).result()
    assert not hold.is_set()
    hold.set()
