"""Every exception the library raises.

    Exception
     +-- CompactorError                 base of all below
          +-- ContextError              = Context.Error: the context was misused or could not be set up
          |    +-- SocketError          = Context.SocketError: the listening address could not be had
          |    +-- InvalidProcess       = Context.InvalidProcess: no such local process, or its name is taken
          |    +-- DifferentContext     (also a RuntimeError) the global context runs already, with other arguments
          |    +-- InvalidMethod        = Context.InvalidMethod: dispatch or delay to a method that does not exist
          |    +-- ContextStopped       the context is stopping or has stopped
          +-- ProcessError              = Process.Error
          |    +-- UnboundProcess       = Process.UnboundProcess: not spawned, or already terminated
          +-- MalformedBody             a protobuf body does not parse; logged and counted, never raised to a caller
          +-- AskError                  an `ask` that will not be answered; `.reason` says why
               +-- AskTimeout           (also a TimeoutError) no answer within the time given

The aliases on `Context` and `Process` are the names of release 0.3.0.
Text that is no PID, and names that cannot travel, raise the builtin `ValueError`; values of a wrong type `TypeError`.
"""

from __future__ import annotations


class CompactorError(Exception):
    """Base of the library's own exceptions."""


class ContextError(CompactorError):
    """The context was misused or could not be set up; nothing else is affected."""


class SocketError(ContextError):
    """The listening address could not be had; the message names the argument or variable to change."""


class InvalidProcess(ContextError):
    """A PID that names no process of this context, or an id that is already taken."""


class InvalidMethod(ContextError):
    """A `dispatch` or `delay` names a method that the process does not have."""


class DifferentContext(ContextError, RuntimeError):
    """The global context runs already, with other arguments. A RuntimeError as well, which 0.3.0 raised."""


class ContextStopped(ContextError):
    """The context is stopping or has stopped: make a new one."""


class ProcessError(CompactorError):
    """Base of the errors of a process."""


class UnboundProcess(ProcessError):
    """The process is not bound to a context: not spawned yet, or already terminated."""


class AskError(CompactorError):
    """An `ask` that will not be answered; `reason` says why, as in a dead letter."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class AskTimeout(AskError, TimeoutError):
    """No answer came within the time given."""


class MalformedBody(CompactorError):
    """The body of a message is not of the type that its name says. Counted and logged; the process goes on."""
