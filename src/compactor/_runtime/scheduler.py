"""Whose turn it is: the ready queue, and how much may be done before the loop looks at its sockets again.

A turn handles at most `BUDGET` events or runs for `TURN_SECONDS`, each process at most its quantum before the next one,
so that a flood to one process starves neither the others nor the loop. Handlers run where their messages arrive, inside
the callback that read them: a turn of the loop saved is most of a round trip. So the budget is counted over all such
runs since the loop last came round, which is known by a callback that the loop is asked for now and then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from .cell import QUANTUM, Cell

BUDGET: Final = 256
TURN_SECONDS: Final = 0.002
_ASK_AFTER: Final = 64
BREATH_SECONDS: Final = 0.005
"""How long the loop may be busy without a pause in which another thread can take the interpreter's lock."""
_SPARE_MAILBOXES: Final = 256


class Scheduler:
    """The ready queue of one context.

    Touched only by the context thread.

    Args:
        clock: monotonic seconds.
        ask_turn: asks the loop to call `turn` soon.
        flush: called at the end of each run, to let what was sent leave in one write.
        breathe: called now and then while there is always more to do. A busy loop gives the interpreter's lock away at
            each of its system calls, but for so short a time that a thread that waits for it wakes up too late, again
            and again; only a real pause lets it in.
    """

    __slots__ = (
        "_ask_turn",
        "_asked",
        "_breathe",
        "_busy_since",
        "_clock",
        "_flush",
        "_running",
        "_spare",
        "_spent",
        "current",
        "ready",
    )

    def __init__(
        self,
        clock: Callable[[], float],
        ask_turn: Callable[[], None],
        flush: Callable[[], None],
        breathe: Callable[[], None] = lambda: None,
    ) -> None:
        self.ready: deque[Cell] = deque()
        self.current: Cell | None = None  # whose handler runs, for who waits for it in vain; any thread may read it
        self._clock = clock
        self._ask_turn = ask_turn
        self._flush = flush
        self._breathe = breathe
        self._busy_since: float | None = None  # there has been more to do at the end of each run since
        self._asked = False
        self._running = False
        self._spent = 0
        self._spare: list[deque[Any]] = []

    def enqueue(self, cell: Cell) -> None:
        """Give a cell a turn."""
        self.ready.append(cell)
        if not self._running:
            self.ask()

    def ask(self) -> None:
        """See to it that a turn comes: something is to be handled or flushed."""
        if not self._asked and not self._running:
            self._asked = True
            self._ask_turn()

    def hold(self) -> None:
        """Many events are about to be queued, and `run` will be called behind them."""
        self._running = True

    def turn(self) -> None:
        """The loop came round: a new budget."""
        self._asked = False
        self._spent = 0
        self.run()

    def run(self) -> None:
        """Handle what is ready, within what is left of the budget, and flush."""
        self._running = True
        ready = self.ready
        left = BUDGET - self._spent
        try:
            if ready and left > 0:
                deadline = self._clock() + TURN_SECONDS
                while ready:
                    cell = ready.popleft()
                    if cell.mailbox is not None:
                        self.current = cell
                        try:
                            left -= cell.run(left if left < QUANTUM else QUANTUM)
                        except KeyboardInterrupt:
                            ready.append(cell)
                            self._running = False
                            self.ask()  # for what is left, and what is to be flushed
                            raise
                        if not cell.busy:
                            if cell.mailbox:
                                ready.append(cell)
                            else:
                                cell.rest()
                    if left <= 0 or self._clock() > deadline:
                        break
        finally:
            self.current = None
            self._running = False
            self._spent = BUDGET - left
        self._flush()
        if ready or self._spent > _ASK_AFTER:
            self.ask()
        if not ready:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = self._clock()
        elif self._clock() - self._busy_since > BREATH_SECONDS:
            self._breathe()
            self._busy_since = self._clock()

    def borrow_mailbox(self) -> deque[Any]:
        """Give an empty mailbox, used before when there is one."""
        return self._spare.pop() if self._spare else deque()

    def return_mailbox(self, mailbox: deque[Any]) -> None:
        """Take back an empty mailbox."""
        if len(self._spare) < _SPARE_MAILBOXES:
            self._spare.append(mailbox)
