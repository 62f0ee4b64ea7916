"""One running process: its mailbox, its life cycle, and the loop that serves one event at a time.

    STARTING --initialize done--> RUNNING --terminate--> ENDING --finalize done--> ENDED
        |                                                   ^
        +----------- initialize raised, or terminate -------+

Events queue from the moment the cell exists, so nothing that arrives while `initialize` runs is lost. A cell is in the
ready queue, is held by a handler that waits (`busy`), or is idle; `queued` is true in the first two cases, so that a
deliverer only has to append. The mailbox is made when it is first needed and given back when it is empty: an idle
process is small.

What a mailbox holds is the pair (envelope, body) of a message, or a pair (event, None) with one of the event classes
below, whose `name` is None so that looking up a handler finds nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..messages import Envelope
from ..pid import PID
from .handlers import ClassTables

if TYPE_CHECKING:
    from ..process import Process

STARTING, RUNNING, ENDING, ENDED = "starting", "running", "ending", "ended"

_GOES_ON: Final = (Awaitable, Generator)
"""What a handler may return to say that it is not done: a generator is one as tornado has them."""

QUANTUM: Final = 64
"""How many events one process may handle before the next one has its turn."""


class Event:
    """Something in a mailbox that is no message."""

    __slots__ = ()
    name: Final = None
    what = "event"

    def run(self, cell: Cell) -> Any:
        """Serve it; what is returned is awaited when it is awaitable."""
        raise NotImplementedError

    def finished(self, cell: Cell, error: BaseException | None) -> None:
        """It was served to its end."""
        if error is not None:
            cell.host.handler_raised(cell, self.what, None, error)

    def dropped(self, cell: Cell, reason: str) -> None:
        """The process ended before it was served."""
        cell.host.event_dropped(cell, self.what, reason)


class InitializeEvent(Event):
    """Run `initialize`, then tell who waits for the spawn: `done` gets the error, or None."""

    __slots__ = ("done",)
    what = "initialize"

    def __init__(self, done: Callable[[BaseException | None], None]) -> None:
        self.done = done

    def run(self, cell: Cell) -> Any:
        """Call the user's hook."""
        return cell.process.initialize()

    def finished(self, cell: Cell, error: BaseException | None) -> None:
        """The process runs, or ends without a `finalize`: nothing of it stays behind."""
        if cell.state is ENDED:
            error = cell.host.spawn_error(cell, "it was given up")
        elif error is None:
            cell.state = RUNNING
        else:
            cell.abandon("initialize raised")  # first, so that who is told finds the id free
        self.done(error)

    def dropped(self, cell: Cell, reason: str) -> None:
        """Nobody may wait for ever for a spawn that will not be."""
        self.done(cell.host.spawn_error(cell, reason))


class CallEvent(Event):
    """Run a method: what `dispatch` and a due `delay` become."""

    __slots__ = ("args", "method", "what")

    def __init__(self, method: Callable[..., Any], what: str, args: tuple[Any, ...]) -> None:
        self.method = method
        self.what = what
        self.args = args

    def run(self, cell: Cell) -> Any:
        """Call it."""
        return self.method(*self.args)


class ExitedEvent(Event):
    """A linked process is gone."""

    __slots__ = ("pid", "reason")
    what = "exited"

    def __init__(self, pid: PID, reason: str) -> None:
        self.pid = pid
        self.reason = reason

    def run(self, cell: Cell) -> Any:
        """Call the user's hook with the PID that was linked."""
        cell.exit_reason = self.reason
        return cell.process.exited(self.pid)

    def finished(self, cell: Cell, error: BaseException | None) -> None:
        """The reason is over with it."""
        cell.exit_reason = None
        super().finished(cell, error)


class TerminateEvent(Event):
    """End once everything before this has been served."""

    __slots__ = ("reason",)
    what = "terminate"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def run(self, cell: Cell) -> None:
        """Ask the cell to end after this event."""
        cell.ending = self.reason

    def dropped(self, cell: Cell, reason: str) -> None:
        """It ended another way: nothing is lost."""


class Host(Protocol):
    """What a cell, and the process in it, needs of its context."""

    context: Any
    interruptible: bool  # the loop is the program's own, perhaps in the main thread, where a Ctrl-C arrives

    def send(self, sender: PID, to: PID, name: str, body: Any = None) -> None:
        """Send a message; any thread."""

    def ask(self, to: PID, name: str, body: Any, timeout: float | None, convert: Any = None) -> Any:
        """Ask a process; any thread."""

    def link(self, cell: Cell, to: PID, reconnect: bool) -> None:
        """Let a process watch another; any thread."""

    def terminate(self, cell: Cell, inject: bool) -> None:
        """End a process; any thread."""

    def undelivered(self, sender: PID, to: PID, name: str, size: int, reason: str) -> None:
        """Count and keep a dead letter."""

    def event_dropped(self, cell: Cell, what: str, reason: str) -> None:
        """Count an event that was not served."""

    def no_handler(self, cell: Cell, envelope: Envelope, body: bytes) -> None:
        """A message came that the process neither handles nor delegates."""

    def forward(self, sender: PID, to: PID, name: str, body: bytes) -> None:
        """Send a delegated message on, keeping its sender."""

    def handler_raised(self, cell: Cell, what: str, sender: PID | None, error: BaseException) -> None:
        """Log and count what user code raised."""

    def step(self, awaitable: Any, done: Callable[[BaseException | None], None]) -> bool:
        """Run an awaitable as far as it goes now.

        True when it has ended (or raises what it raised), and `done` is not called; False when it goes on, and `done`
        will be called with its error or None.
        """

    def spawn_error(self, cell: Cell, reason: str) -> BaseException:
        """Make the error for who waits for a spawn that will not be."""

    def ended(self, cell: Cell, reason: str) -> None:
        """The cell has ended: its id is free, its links are to be told."""

    def enqueue(self, cell: Cell) -> None:
        """Put a cell into the ready queue."""

    def borrow_mailbox(self) -> deque[Any]:
        """Give an empty mailbox."""

    def return_mailbox(self, mailbox: deque[Any]) -> None:
        """Take back an empty mailbox."""


class Cell:
    """A process that is bound to a context.

    Touched only by the context thread; `pid`, `process` and `state` may be read by any.

    Attributes:
        incarnation: tells this life of the PID from another one, for the link extension.
        current: the envelope of the message being handled, for `reply`.
        exit_reason: why, while `exited` runs.
        ending: the reason to end after the event being handled.
        watchers: linkers on other contexts, `(connection, linker PID) -> (nonce, until)`; None until there is one.
        delegates: message name -> PID that gets it; None until there is one.
    """

    __slots__ = (
        "__weakref__",
        "busy",
        "current",
        "delegates",
        "ending",
        "exit_reason",
        "handlers",
        "host",
        "incarnation",
        "mailbox",
        "pid",
        "process",
        "queued",
        "state",
        "tables",
        "watchers",
    )

    def __init__(self, host: Host, process: Process, pid: PID, tables: ClassTables, incarnation: str) -> None:
        self.host = host
        self.process = process
        self.pid = pid
        self.tables = tables
        self.handlers = tables.names
        self.incarnation = incarnation
        self.state = STARTING
        self.mailbox: deque[Any] | None = None
        self.queued = False
        self.busy = False
        self.current: Envelope | None = None
        self.exit_reason: str | None = None
        self.ending: str | None = None
        self.watchers: dict[tuple[Any, PID], tuple[bytes, float]] | None = None
        self.delegates: dict[str, PID] | None = None

    def put(self, item: tuple[Any, Any]) -> None:
        """Queue an event. Where messages come in by the block this is inlined."""
        if self.queued:
            self.mailbox.append(item)  # type: ignore[union-attr]
        else:
            self.wake(item)

    def wake(self, item: tuple[Any, Any]) -> None:
        """Queue an event for an idle cell."""
        mailbox = self.mailbox
        if mailbox is None:
            mailbox = self.mailbox = self.host.borrow_mailbox()
        mailbox.append(item)
        self.queued = True
        self.host.enqueue(self)

    def run(self, quantum: int) -> int:
        """Serve up to `quantum` events; return how many. Called by the scheduler for a cell from the ready queue.

        This is the hot loop: a message costs one popleft, one lookup and the handler.
        """
        mailbox = self.mailbox
        assert mailbox is not None
        popleft = mailbox.popleft
        handler_of = self.handlers.get
        process = self.process
        left = quantum
        while mailbox and left:
            left -= 1
            what, body = popleft()
            handler = handler_of(what.name)
            if handler is not None:
                self.current = what
                try:
                    result = handler(process, what.sender, body)
                    if result is not None and self._follow(result, what):
                        break
                except BaseException as error:
                    if self._interrupts(error):
                        self.current = None
                        raise
                    self.host.handler_raised(self, what.name, what.sender, error)
            elif what.name is None:
                if self.serve(what):
                    break
            else:
                self._unhandled(what, body)
            if self.ending is not None:
                self._end()
                break
        if not self.busy:
            self.current = None
        return quantum - left

    def serve(self, event: Event) -> bool:
        """Serve an event that is no message; True when the cell has to wait for its end."""

        def done(error: BaseException | None) -> None:
            event.finished(self, error)
            self._resume()

        self.current = None
        error: BaseException | None = None
        try:
            result = event.run(self)
            if result is not None and isinstance(result, _GOES_ON) and not self.host.step(result, done):
                self.busy = True
                return True
        except BaseException as raised:
            if self._interrupts(raised):
                event.finished(self, raised)
                raise
            error = raised
        event.finished(self, error)
        return False

    def serve_first(self, event: Event) -> None:
        """Serve `event` at once, before anything that is queued meanwhile; for a cell that has not run yet."""
        self.queued = True
        self.mailbox = self.host.borrow_mailbox()
        if not self.serve(event):
            self._resume()

    def rest(self) -> None:
        """Give the mailbox back: nothing is queued."""
        self.queued = False
        mailbox, self.mailbox = self.mailbox, None
        if mailbox is not None:
            self.host.return_mailbox(mailbox)

    def terminate(self, reason: str, inject: bool = True) -> None:
        """End after the event being handled, or, not injected, after all that is queued now."""
        if self.state in (ENDING, ENDED) or self.ending is not None:
            return
        item = (TerminateEvent(reason), None)
        if not inject or not self.queued:
            self.put(item)
        elif self.busy or self.current is not None:
            self.ending = reason
        else:
            self.mailbox.appendleft(item)  # type: ignore[union-attr]

    def _interrupts(self, error: BaseException) -> bool:
        """Whether this is a Ctrl-C for the program whose loop we run on, rather than an error of the handler."""
        return isinstance(error, KeyboardInterrupt) and self.host.interruptible

    def _unhandled(self, envelope: Envelope, body: bytes) -> None:
        delegate = self.delegates.get(envelope.name) if self.delegates else None
        if delegate is not None:
            self.host.forward(envelope.sender, delegate, envelope.name, body)
        else:
            self.host.no_handler(self, envelope, body)

    def _follow(self, result: Any, what: Envelope) -> bool:
        """Run what a handler returned, when it can be awaited; True when the cell has to wait for it."""
        if type(result) is not CoroutineType and not isinstance(result, _GOES_ON):
            return False

        def done(error: BaseException | None) -> None:
            if error is not None:
                self.host.handler_raised(self, what.name, what.sender, error)
            self._resume()

        self.busy = not self.host.step(result, done)
        return self.busy

    def _resume(self) -> None:
        """An event that was waited for has ended: end, go on with what is queued, or rest."""
        if self.state is ENDED:  # given up meanwhile
            return
        self.busy = False
        self.current = None
        if self.ending is not None:
            self._end()
        elif self.mailbox:
            self.host.enqueue(self)
        else:
            self.rest()

    def _end(self) -> None:
        """Run `finalize`, unless it never ran, and drop what is queued."""
        reason = self.ending or "terminated"
        finalize = self.tables.finalize if self.state == RUNNING else None
        self.state = ENDING

        def done(error: BaseException | None) -> None:
            if error is not None:
                self.host.handler_raised(self, "finalize", None, error)
            if self.state is not ENDED:
                self.abandon(reason)

        error: BaseException | None = None
        self.current = None
        if finalize is not None:
            try:
                result = finalize(self.process)
                if isinstance(result, _GOES_ON) and not self.host.step(result, done):
                    self.busy = True
                    return
            except BaseException as raised:
                if self._interrupts(raised):
                    self.abandon(reason)
                    raise
                error = raised
        done(error)

    def abandon(self, reason: str) -> None:
        """End without `finalize`: drop what is queued and free the id."""
        self.state = ENDED
        self.busy = self.queued = False
        mailbox = self.mailbox
        while mailbox:
            what, body = mailbox.popleft()
            if isinstance(what, Event):
                what.dropped(self, reason)
            else:
                self.host.undelivered(what.sender, self.pid, what.name, len(body), reason)
        self.mailbox = None
        self.host.ended(self, reason)
