"""Actors in pure Python that speak the libprocess wire protocol.

One message, from the socket to the handler and back; a reader can open these in this order and read each once:

       bytes in                                              bytes out
          |                                                     ^
    _aio/inbound.py      a block of bytes has arrived     _aio/outbound.py    what is queued leaves in one write
          v                                                     |
    wire/decoder.py      messages and requests            wire/encoder.py     the head of a message
      (wire/head.py)       the strict way                       |
          v                                                     |
    _node.py             here, or nobody                  _node.py            here or elsewhere: `send`
          v                                                     |
    _runtime/cell.py     one event at a time  ----------> process.py          your handler sends

Around it: `pid` (addresses), `context` (start, stop, threads), `_runtime/links` and `_runtime/asks` (who watches and
who waits), `http/` (routes), `settings` (where to listen), `errors` (the tree of exceptions).
"""

from __future__ import annotations

from typing import Any

from ._version import VERSION
from .context import Context, DeadLetter, Timer
from .errors import (
    AskError,
    AskTimeout,
    CompactorError,
    ContextError,
    ContextStopped,
    InvalidMethod,
    InvalidProcess,
    SocketError,
    UnboundProcess,
)
from .ids import unique_id
from .messages import Message
from .pid import PID
from .process import Process

__all__ = [
    "PID",
    "AskError",
    "AskTimeout",
    "CompactorError",
    "Context",
    "ContextError",
    "ContextStopped",
    "DeadLetter",
    "InvalidMethod",
    "InvalidProcess",
    "Message",
    "Process",
    "ProtobufProcess",
    "SocketError",
    "Timer",
    "UnboundProcess",
    "__version__",
    "initialize",
    "install",
    "join",
    "route",
    "spawn",
    "unique_id",
]

__version__ = VERSION

install = Process.install
route = Process.route


def initialize(delegate: str = "", **kw: Any) -> Context:
    """Make and start the global context, with the arguments of `Context`; return it.

    Raises:
        Context.Error: it runs already, with other arguments.
    """
    return Context.singleton(delegate, **kw)


def spawn(process: Process) -> PID:
    """Spawn a process on the global context, which is made when there is none; return its PID."""
    return Context.singleton().spawn(process)


def join(timeout: float | None = None) -> None:
    """Wait until the global context has been stopped; made first when there is none."""
    Context.singleton().join(timeout)


def __getattr__(name: str) -> Any:
    # Loaded by who uses it only: protobuf is slow to import.
    if name == "ProtobufProcess":
        from .protobuf import ProtobufProcess

        return ProtobufProcess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
