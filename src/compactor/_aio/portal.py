"""The one door for other threads into a context's thread."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ContextStopped

log = logging.getLogger("compactor")


class Taker(Protocol):
    """What something can be put into: a route that messages take, or a call that waits for its arguments."""

    def put(self, argument: Any, /) -> None:
        """Take it."""


class _Call:
    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def put(self, arguments: tuple[Any, ...], /) -> None:
        self._function(*arguments)


class Portal:
    """A queue of calls, run in order on the loop's thread.

    `submit` may be called from any thread. Calls from one thread run in their order, the loop is woken at most once
    until the queue is drained, and a call that was accepted before `close` is run before the thread ends.

    Args:
        wake: called on the loop's thread when there is something to drain.
    """

    __slots__ = ("_closed", "_ended", "_gone", "_loop", "_wake", "_woken", "queue")

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self.queue: deque[tuple[Taker, Any]] = deque()
        self._loop = loop
        self._wake = wake
        self._woken = False
        self._closed = False
        self._ended = False
        self._gone = "has stopped"

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Have `function(*args)` run on the loop's thread.

        Raises:
            ContextStopped: the door is closed, and the call will not be run.
        """
        self.post(_Call(function), args)

    def post(self, taker: Taker, argument: Any) -> None:
        """Have `taker.put(argument)` run on the loop's thread; for a message that is all it costs the sender.

        Raises:
            ContextStopped: the door is closed, and it will not be run.
        """
        call = (taker, argument)
        self.queue.append(call)
        if self._closed:
            self._refuse(call)
        elif not self._woken:
            # Set before the wake-up is asked for and cleared before the queue is looked at: an append in between is
            # either seen by that drain or asks for another.
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop was closed between the two lines
                self._refuse(call)

    def _refuse(self, call: tuple[Taker, Any]) -> None:
        """Take a call back, unless the last drain was quicker: then it was accepted."""
        while True:
            try:
                self.queue.remove(call)
            except IndexError:  # the drain took one in the middle of the search
                continue
            except ValueError:
                return
            raise ContextStopped(f"the context {self._gone}: make a new one")

    def drain(self) -> None:
        """Run what is queued now. What is queued meanwhile has its turn later, so that a flood starves nobody."""
        queue = self.queue
        self._woken = False
        try:
            for _ in range(len(queue)):
                if self._ended or not queue:  # a call may have drained it, to keep the order of its own sends
                    return
                taker, argument = queue.popleft()
                try:
                    taker.put(argument)
                except Exception:  # the others have nothing to do with it
                    log.exception("a call handed over from another thread raised")
        finally:
            if queue and not self._woken and not self._closed:
                self._woken = True
                self._loop.call_soon(self._wake)

    def disown(self, why: str) -> None:
        """Accept nothing more: nobody is there to run it."""
        self._gone = why
        self._closed = self._ended = True
        self.queue.clear()

    def close(self) -> None:
        """Accept nothing more, and run what was accepted."""
        self._closed = True
        while self.queue and not self._ended:
            self.drain()
        self._ended = True  # what is appended from here on is taken back by who appended it
