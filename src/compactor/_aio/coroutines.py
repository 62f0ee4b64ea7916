"""Runs what handlers return: a coroutine is stepped by hand, and becomes a task only when it suspends.

Most `async def` handlers never suspend, and a task each costs four times the message. But code inside may ask for the
current task (`asyncio.timeout` does), so the first step needs a real one. It is borrowed: a carrier is a task that
waits for a coroutine to carry on with. While a coroutine takes its first step the carrier is the current task and its
context is entered; a coroutine that suspends takes the carrier with it, and the next one gets a new carrier.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import CoroutineType
from typing import Any


class _Continue:
    """Awaits a coroutine that has been stepped once already and yielded `first`, or throws `error` into it."""

    __slots__ = ("_coroutine", "_error", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: Any, error: BaseException | None) -> None:
        self._coroutine = coroutine
        self._first = first
        self._error = error

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waits_for, error = self._coroutine, self._first, self._error
        try:
            while True:
                if error is not None:
                    waits_for = coroutine.throw(error)
                    error = None
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as thrown:
                    error = thrown
                else:
                    waits_for = coroutine.send(sent)
        except StopIteration as stop:
            return stop.value


class _Carrier:
    """A task that waits for a coroutine to carry on with."""

    __slots__ = ("_box", "_coroutine", "_first", "context", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._box: asyncio.Future[None] = loop.create_future()
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._first: Any = None
        self.context = context
        self.task: asyncio.Task[Any] = loop.create_task(self._carry(), context=context)

    @property
    def usable(self) -> bool:
        """Whether nobody has cancelled it, not even for a moment."""
        # The flag is the only trace of a cancel that came before the task's first turn; both kinds of task have it.
        return not (self._box.done() or self.task.done() or self.task._must_cancel)  # type: ignore[attr-defined]

    def load(self, coroutine: Coroutine[Any, Any, Any], first: Any) -> None:
        """Carry on with a coroutine that has yielded `first`."""
        self._coroutine = coroutine
        self._first = first
        if not self._box.done():
            self._box.set_result(None)

    async def _carry(self) -> None:
        error: BaseException | None = None
        try:
            await self._box
        except asyncio.CancelledError as cancelled:  # in the first step of the coroutine, or in the turn of it
            if self._coroutine is None:
                return
            if self.task.cancelling():
                error = cancelled
        await _Continue(*self.take(error))

    def take(self, error: BaseException | None) -> tuple[Coroutine[Any, Any, Any], Any, BaseException | None]:
        """Return what to carry on with; a cancel goes to what the coroutine waits for, as asyncio has it."""
        coroutine, self._coroutine = self._coroutine, None
        assert coroutine is not None
        if error is not None and asyncio.isfuture(self._first) and self._first.cancel():
            error = None
        return coroutine, self._first, error

    @property
    def never_ran(self) -> bool:
        """Whether the task was cancelled before its first turn, so that the coroutine is still to be carried on."""
        return self._coroutine is not None


class Stepper:
    """Runs awaitables on one loop. Touched only by the loop's thread.

    Attributes:
        tasks: the tasks of coroutines that have suspended.
    """

    __slots__ = ("_base", "_carrier", "_loop", "_stepping", "tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._base = contextvars.copy_context()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._carrier: _Carrier | None = None
        self._stepping = False

    def step(self, awaitable: Any, done: Callable[[BaseException | None], None]) -> bool:
        """Run `awaitable` as far as it goes now.

        Return True when it has ended well, raise when it has raised. Return False when it goes on: `done` is called
        later, with its error or None.
        """
        coroutine: Coroutine[Any, Any, Any]
        if type(awaitable) is CoroutineType:
            coroutine = awaitable
        elif isinstance(awaitable, asyncio.Future):
            if awaitable.done():
                awaitable.result()
                return True
            awaitable.add_done_callback(lambda future: done(_error_of(future)))
            return False
        else:
            coroutine = _run_generator(awaitable) if isinstance(awaitable, Generator) else _await(awaitable)
        if self._stepping or asyncio.current_task(self._loop) is not None:
            # Inside another coroutine's step there is a current task already: this one gets its own.
            self._follow(self._loop.create_task(coroutine), done)
            return False
        carrier = self._carrier
        if carrier is None or not carrier.usable:
            carrier = self._carrier = _Carrier(self._loop, self._base.copy())
        self._stepping = True
        suspended = False
        _enter_task(self._loop, carrier.task)
        try:
            waits_for = carrier.context.run(coroutine.send, None)
            suspended = True
        except StopIteration:
            return True
        finally:
            _leave_task(self._loop, carrier.task)
            self._stepping = False
            if not suspended and carrier.context != self._base:
                self._discard()  # what it set is not for the next one to see
        self._carrier = None
        carrier.load(coroutine, waits_for)

        def ended(error: BaseException | None) -> None:
            if carrier.never_ran:
                rest = _Continue(*carrier.take(asyncio.CancelledError()))
                self._follow(self._loop.create_task(_await(rest), context=carrier.context), done)
            else:
                done(error)

        self._follow(carrier.task, ended)
        return False

    def close(self) -> None:
        """Cancel what is under way."""
        for task in list(self.tasks):
            task.cancel()
        self._discard()

    def _discard(self) -> None:
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.task.cancel()

    def _follow(self, task: asyncio.Task[Any], done: Callable[[BaseException | None], None]) -> None:
        self.tasks.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self.tasks.discard(task)
            done(_error_of(task))

        task.add_done_callback(ended)


async def _run_generator(generator: Generator[Any, Any, Any]) -> Any:
    """Run a generator as tornado has them: what it yields is awaited, and sent back to it.

    Tornado's own runner loses what is raised in it and is no `Exception`.
    """
    from tornado.gen import Return, convert_yielded

    resume = partial(generator.send, None)
    while True:
        try:
            waits_for = resume()
        except (StopIteration, Return) as end:
            return end.value
        try:
            result = await convert_yielded(waits_for)
        except BaseException as error:
            resume = partial(generator.throw, error)
        else:
            resume = partial(generator.send, result)


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _error_of(future: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError("cancelled") if future.cancelled() else future.exception()
