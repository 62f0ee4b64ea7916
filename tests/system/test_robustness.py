"""What handlers and programs may do to a context without ending it or hanging for ever."""

import asyncio
import contextlib
import http.client
import threading

import pytest
from helpers import DEADLINE, Recorder, eventually, request, run_program
from raw import RawClient

from compactor import Process, install, route
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
