"""What users subclass: `Process`, and the decorators for its handlers and routes.

Everything here may be called from any thread: on the context's own thread it acts at once, from others it is handed
over. The base class keeps two attributes on an instance, `_compactor_id` and `_compactor_cell`, so that users may call
theirs as they like, and before `__init__`; the library calls on an instance only the hooks of the manual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from ._runtime.handlers import FunctionT, mark_handler, mark_route
from .errors import ProcessError, UnboundProcess
from .ids import unique_id
from .pid import PID, check_id
from .wire.encoder import ONE_TIME

if TYPE_CHECKING:
    from ._ask import Ask
    from ._runtime.cell import Cell
    from .context import Context
    from .messages import Message
    from .protobuf import ProtobufProcess

__all__ = ["Process", "ProtobufProcess", "unique_id"]


class _Shown:
    """A property that a user's own attribute of the same name comes before."""

    def __init__(self, read: Callable[[Process], Any]) -> None:
        self._read = read
        self.__doc__ = read.__doc__

    def __get__(self, process: Process | None, owner: type) -> Any:
        return self if process is None else self._read(process)


class Process:
    """An actor: an object with an id and a mailbox, which handles one event at a time.

    Args:
        name: the id of the process on its context; generated, `(N)`, when left out.

    Raises:
        ValueError: the name cannot be an id; the message says why.
    """

    Error: ClassVar = ProcessError
    UnboundProcess: ClassVar = UnboundProcess

    _compactor_id: str | None = None
    _compactor_cell: Cell | None = None
    _compactor_delegates: dict[str, PID] | None = None

    def __init__(self, name: str | None = None) -> None:
        if name is None:
            name = unique_id()
        if not isinstance(name, str):
            raise TypeError(f"the name of a process is a str, not {name!r}")
        check_id(name)
        if not name or name.startswith(ONE_TIME):
            raise ValueError(f"{name!r} cannot name a process: it is empty, or begins with {ONE_TIME!r}")
        self._compactor_id = name

    def __repr__(self) -> str:
        cell = self._compactor_cell
        where = f"{cell.pid} {cell.state}" if cell is not None else f"{self._compactor_id!r} unbound"
        return f"<{type(self).__name__} {where}>"

    # --- decorators -------------------------------------------------------------------------------------------------

    @classmethod
    def install(cls, mbox: str | None = None) -> Callable[[FunctionT], FunctionT]:
        """Let a method handle the messages called `mbox` (its own name when left out).

        The method takes (from_pid, body). It may be a plain function, `async def`, or a generator as tornado has them;
        the next event of the process waits for its end. Decorators stack, and are inherited with the method; an
        override that is decorated has only the names of its own decorators.
        """
        if callable(mbox) and not isinstance(mbox, str):
            raise TypeError("write @install('name') or @install(), with parentheses")

        def decorate(function: FunctionT) -> FunctionT:
            return mark_handler(function, mbox)

        return decorate

    @classmethod
    def route(cls, path: str, methods: Iterable[str] = ("GET", "HEAD")) -> Callable[[FunctionT], FunctionT]:
        """Let a method answer HTTP requests to `/<id><path>`, and to all below it that have no route of their own.

        The method takes a live `tornado.web.RequestHandler`. It starts in the order of the mailbox; an `async def`
        route does not hold the mailbox until its end.
        """
        if isinstance(methods, str):
            raise TypeError(f"methods is a list such as ['GET', 'POST'], not {methods!r}")
        names = tuple(method.upper() for method in methods)

        def decorate(function: FunctionT) -> FunctionT:
            return mark_route(function, path, names)

        return decorate

    # --- hooks --------------------------------------------------------------------------------------------------------

    def initialize(self) -> Any:
        """Called when the process is spawned: the first event it handles. What it raises, `spawn` raises."""

    def exited(self, pid: PID) -> Any:
        """Called when the linked process `pid` is gone; `exit_reason` says why while this runs."""

    def finalize(self) -> Any:
        """Called when the process ends: its last event. It may still send."""

    # --- what it is ---------------------------------------------------------------------------------------------------

    def _cell(self) -> Cell:
        cell = self._compactor_cell
        if cell is None:
            raise UnboundProcess(
                f"the process {self._compactor_id!r} is not bound to a context: spawn it first "
                "(or it was terminated, and a new one has to be made)"
            )
        return cell

    @property
    def context(self) -> Context:
        """The context this process is bound to.

        Raises:
            UnboundProcess: it is not bound to one.
        """
        return Process._cell(self).host.context  # type: ignore[no-any-return]

    @property
    def pid(self) -> PID:
        """The PID of this process.

        Raises:
            UnboundProcess: it is not bound to a context.
        """
        return Process._cell(self).pid

    @_Shown
    def name(self) -> str | None:
        """The name given to the constructor."""
        return self._compactor_id

    @_Shown
    def exit_reason(self) -> str | None:
        """Why the linked process is gone, while `exited` runs; None at other times."""
        cell = self._compactor_cell
        return None if cell is None else cell.exit_reason

    # --- what it does -------------------------------------------------------------------------------------------------

    def send(self, to: PID, method: str, body: bytes | bytearray | memoryview | None = None) -> None:
        """Send the message `method` to a process. Returns at once; delivery is at most once.

        Raises:
            UnboundProcess: this process is not bound to a context.
            TypeError, ValueError: `to` is no PID, `method` no message name, or `body` no bytes.
        """
        cell = self._compactor_cell
        if cell is None:
            cell = Process._cell(self)
        cell.host.send(cell.pid, to, method, body)

    def reply(self, method: str, body: bytes | bytearray | memoryview | None = None) -> None:
        """Send a message to the sender of the message being handled.

        Raises:
            Process.Error: no message is being handled, or it has no sender.
        """
        cell = Process._cell(self)
        cell.host.send(cell.pid, _sender(cell), method, body)

    def ask(
        self,
        to: PID,
        method: str,
        body: bytes | bytearray | memoryview | None = None,
        timeout: float | None = 30.0,
    ) -> Ask[Message[bytes]]:
        """Send a message from a one-time PID and get the first message that answers it.

        `await` the result in a handler, or call its `.result()` in a thread. It fails with an `AskError` whose
        `reason` says why: with `AskTimeout` (a `TimeoutError`) after `timeout` seconds (None: never), at once when the
        target is known to be gone. Any peer that replies to the sender it sees can be asked.
        """
        return Process._cell(self).host.ask(to, method, body, timeout)  # type: ignore[no-any-return]

    def link(self, to: PID, reconnect: bool = False) -> None:
        """Have `exited(to)` called, once, when `to` is gone. Returns at once.

        Args:
            to: the process to watch, here or elsewhere.
            reconnect: replace a connection that may be stale, without an `exited`.

        Raises:
            UnboundProcess: this process is not bound to a context.
        """
        cell = Process._cell(self)
        cell.host.link(cell, to, reconnect)

    def delegate(self, name: str, pid: PID) -> None:
        """Forward messages called `name`, which no handler takes, to `pid`, keeping their sender."""
        if not isinstance(pid, PID):
            raise TypeError(f"messages are delegated to a PID, not {pid!r}")
        if self._compactor_delegates is None:
            self._compactor_delegates = {}
        self._compactor_delegates[name] = pid
        cell = self._compactor_cell
        if cell is not None:
            cell.delegates = self._compactor_delegates

    def terminate(self, inject: bool = True) -> None:
        """End this process after the event being handled; with `inject=False` after all that is queued now.

        Raises:
            UnboundProcess: it is not bound to a context.
        """
        cell = Process._cell(self)
        cell.host.terminate(cell, inject)


def _sender(cell: Cell) -> PID:
    current = cell.current
    if current is None:
        raise ProcessError(f"{cell.pid} handles no message now, so there is nobody to reply to; use send")
    if not current.sender.port:
        raise ProcessError(f"the message {current.name!r} has no sender to reply to")
    return current.sender


def __getattr__(name: str) -> Any:
    # Loaded by who uses it only: protobuf is slow to import.
    if name == "ProtobufProcess":
        from .protobuf import ProtobufProcess

        return ProtobufProcess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
