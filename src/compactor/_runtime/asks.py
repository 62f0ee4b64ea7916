"""Questions that wait for their answer: who asked under which one-time PID, and when that ends.

An `ask` sends from a PID that is used once, `__ask__<token>-<n>@ip:port`, so it works with peers that know nothing of
it: they reply to the sender they see. The token is new for each context, so that an answer to an earlier life of the
same address finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..pid import PID


class Pending:
    """One unanswered question. `finish` is called once, with (sender, name, body) or with the reason it ended."""

    __slots__ = ("finish", "timer", "to")

    def __init__(self, to: PID, finish: Callable[[tuple[PID, str, bytes] | None, str], None]) -> None:
        self.to = to
        self.finish = finish
        self.timer: Any = None


class Asks:
    """The unanswered questions of one context. Touched only by the context thread."""

    __slots__ = ("_pending", "_to")

    def __init__(self) -> None:
        self._pending: dict[str, Pending] = {}
        self._to: dict[PID, set[str]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, id_: str, pending: Pending) -> None:
        """Wait for a message to the one-time id."""
        self._pending[id_] = pending
        self._to.setdefault(pending.to, set()).add(id_)

    def answered(self, id_: str, sender: PID, name: str, body: bytes) -> bool:
        """A message came for a one-time id; False when nobody waits for it any more."""
        pending = self._take(id_)
        if pending is None:
            return False
        pending.finish((sender, name, body), "")
        return True

    def failed(self, id_: str, reason: str) -> bool:
        """The question will not be answered; False when it has ended before."""
        pending = self._take(id_)
        if pending is None:
            return False
        pending.finish(None, reason)
        return True

    def targets(self) -> list[PID]:
        """Return the processes that were asked."""
        return list(self._to)

    def target_ended(self, to: PID, reason: str) -> None:
        """One process is known to be gone."""
        ids: Iterable[str] = self._to.get(to, ())
        for id_ in list(ids):
            self.failed(id_, reason)

    def close(self, reason: str) -> None:
        """End all."""
        for id_ in list(self._pending):
            self.failed(id_, reason)

    def _take(self, id_: str) -> Pending | None:
        pending = self._pending.pop(id_, None)
        if pending is not None:
            if pending.timer is not None:
                pending.timer.cancel()
            ids = self._to[pending.to]
            ids.discard(id_)
            if not ids:
                del self._to[pending.to]
        return pending
