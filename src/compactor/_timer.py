"""`Timer`: a `delay` that is not due yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import ContextStopped

if TYPE_CHECKING:
    from ._node import Node


class Timer:
    """A `delay` that is not due yet."""

    __slots__ = ("_cancelled", "_handle", "_node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._handle: asyncio.TimerHandle | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Forget it, if it has not been queued yet. Any thread; more than once is once."""
        self._cancelled = True
        if self._node.loop.is_closed():
            return
        with contextlib.suppress(ContextStopped):  # then nothing is due any more
            self._node.call(self._cancel)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def start(self, amount: float, due: Callable[[], None]) -> None:
        """Begin to wait; on the context's thread."""
        if not self._cancelled:
            self._handle = self._node.loop.call_later(amount, due)
