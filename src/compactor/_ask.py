"""`Ask`: an answer that is to come, for a coroutine or for a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import AskTimeout

if TYPE_CHECKING:
    from ._node import Node

AnswerT = TypeVar("AnswerT")

_MARGIN_SECONDS = 0.1


class Ask(Generic[AnswerT]):
    """An answer that is to come: `await` it on an event loop, or call `result()` in a thread. Any thread may use it."""

    __slots__ = ("_callbacks", "_deadline", "_done", "_error", "_lock", "_node", "_value")

    def __init__(self, node: Node, timeout: float | None) -> None:
        self._node = node
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._value: AnswerT | None = None
        self._error: BaseException | None = None
        self._done = False

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done

    def result(self, timeout: float | None = None) -> AnswerT:
        """Wait for the answer and return it.

        Args:
            timeout: seconds to wait at most; the question itself goes on until its own time is over.

        Raises:
            AskError: it will not be answered; `AskTimeout` when the time of the question is over.
            TimeoutError: `timeout` is over.
            RuntimeError: on the context's own thread, which would wait for itself.
        """
        if not self._done:
            if self._node.on_loop():
                raise RuntimeError("result() on the context's own thread would wait for itself: await the ask instead")
            event = threading.Event()
            self._when_done(event.set)
            # The context's thread keeps the time of the question; one that is held up must not hold us up with it.
            left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) + _MARGIN_SECONDS
            if not event.wait(left if timeout is None or (left is not None and left < timeout) else timeout):
                if timeout is None or (left is not None and left < timeout):
                    raise AskTimeout("timed out, and the context's thread is held up", "timed out")
                raise TimeoutError(f"no answer within {timeout} s of waiting")
        return self._outcome()

    def __await__(self) -> Generator[Any, None, AnswerT]:
        if not self._done:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not future.done():
                    future.set_result(None)

            if loop is self._node.loop:
                self._when_done(wake)
            else:
                self._when_done(lambda: loop.call_soon_threadsafe(wake))
            yield from future
        return self._outcome()

    def _outcome(self) -> AnswerT:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _when_done(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback()

    def finish(self, value: AnswerT | None, error: BaseException | None) -> None:
        """End it; called once, on the context's thread."""
        with self._lock:
            self._value = value
            self._error = error
            self._done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
