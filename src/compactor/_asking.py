"""Questions: from the one-time PID they are sent from to the answer that ends them. What users hold is `_ask.Ask`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._ask import Ask
from ._runtime.asks import Asks, Pending
from .errors import AskError, AskTimeout
from .messages import Envelope, Message
from .pid import PID, local_pid
from .wire.encoder import ONE_TIME, as_bytes, check_destination

if TYPE_CHECKING:
    from ._node import Node

Convert = Callable[[PID, str, bytes], Any]


class Asking:
    """The questions of one context. Touched only by the context thread, but for `ask`, which any thread may call.

    Attributes:
        asks: those that wait for an answer.
    """

    __slots__ = ("_node", "_number", "_token", "asks")

    def __init__(self, node: Node) -> None:
        self.asks = Asks()
        self._node = node
        self._number = 0
        # New for each context, so that an answer to an earlier life of its address finds nothing.
        self._token = f"{random.getrandbits(48):012x}"

    def ask(
        self, to: PID, name: str, body: Any = None, timeout: float | None = 30.0, convert: Convert | None = None
    ) -> Ask[Any]:
        """Ask a process; see `Process.ask`. `convert` makes a value of (sender, name, body), or raises `AskError`."""
        node = self._node
        check_destination(to, name)
        body = as_bytes(body)
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"the timeout of an ask is a number of seconds from 0, or None, not {timeout!r}")
        ask: Ask[Any] = Ask(node, timeout)
        node.call(self._begin, ask, to, name, body, timeout, convert)
        return ask

    def _begin(
        self, ask: Ask[Any], to: PID, name: str, body: bytes, timeout: float | None, convert: Convert | None
    ) -> None:
        node = self._node
        self._number += 1
        id_ = f"{ONE_TIME}{self._token}-{self._number:x}"

        def finish(answer: tuple[PID, str, bytes] | None, reason: str) -> None:
            if answer is None:
                kind = AskTimeout if reason == "timed out" else AskError
                ask.finish(None, kind(f"{to} did not answer {name!r}: {reason}", reason))
                return
            try:
                ask.finish(convert(*answer) if convert is not None else Message(*answer), None)
            except AskError as error:
                node.count("protobuf_errors")
                ask.finish(None, error)

        pending = Pending(to, finish)
        self.asks.add(id_, pending)
        if timeout is not None:
            pending.timer = node.loop.call_later(timeout, self._timed_out, id_)
        if node.stopping:
            self.asks.failed(id_, "the context stopped")
        else:
            node.send_now(local_pid(node.address, id_), to, name, body)

    def _timed_out(self, id_: str) -> None:
        self._node.count("asks_timed_out")
        self.asks.failed(id_, "timed out")

    def answered(self, envelope: Envelope, body: bytes) -> bool:
        """Take the answer to a question; False when the question has ended before."""
        answered = self.asks.answered(envelope.id, envelope.sender, envelope.name, body)
        if not answered:
            self._node.count("late_answers")
        return answered
