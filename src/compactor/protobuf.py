"""Processes that speak protocol buffers: `ProtobufProcess`.

On the wire the message name is the full name of the protobuf type and the body its serialization, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from ._ask import Ask
from ._runtime.handlers import FunctionT, Handler, mark_handler
from .errors import AskError, MalformedBody
from .pid import PID
from .process import Process, _sender


def parse(message_type: type[Message], body: bytes) -> Message:
    """Parse a body.

    Raises:
        MalformedBody: it does not parse, or lacks a required field.
    """
    message = message_type()
    name = message_type.DESCRIPTOR.full_name
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise MalformedBody(f"{len(body)} bytes do not parse as {name}: {error}") from None
    if not message.IsInitialized():
        raise MalformedBody(f"a {name} lacks required fields: {', '.join(_missing_in(message))}")
    return message


def _missing_in(message: Any) -> list[str]:
    return list(message.FindInitializationErrors())


def _is_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Message)


class ProtobufProcess(Process):
    """A process whose messages are protocol buffers. Plain messages can be installed and sent as well."""

    @classmethod
    def install(cls, message_type: Any = None) -> Callable[[FunctionT], FunctionT]:
        """Let a method handle messages of a protobuf type; it takes (from_pid, message).

        With a `str` it is `Process.install`.
        """
        if not _is_type(message_type):
            if isinstance(message_type, str):
                return Process.install(message_type)
            raise TypeError(f"ProtobufProcess.install takes a generated protobuf class, not {message_type!r}")

        def adapt(function: Handler) -> Handler:
            def handle(process: Any, sender: PID, body: bytes) -> Any:
                return function(process, sender, parse(message_type, body))

            return handle

        def decorate(function: FunctionT) -> FunctionT:
            return mark_handler(function, message_type.DESCRIPTOR.full_name, adapt)

        return decorate

    def send(self, to: PID, message: Any, body: Any = None) -> None:
        """Send a protobuf message; or, with a name as `message`, a plain one as `Process.send` does.

        Raises:
            UnboundProcess: this process is not bound to a context.
            google.protobuf.message.EncodeError: a required field is not set.
            TypeError: it is neither a protobuf message nor a name.
        """
        Process.send(self, to, *_encode(message, body))

    def reply(self, message: Any, body: Any = None) -> None:
        """Send a protobuf message to the sender of the message being handled."""
        cell = Process._cell(self)
        cell.host.send(cell.pid, _sender(cell), *_encode(message, body))

    def ask(self, to: PID, message: Any, body: Any = None, timeout: float | None = 30.0) -> Ask[Any]:
        """Send a protobuf message and get its answer, parsed as the type that the answer names.

        With a name as `message` it is `Process.ask`.
        """
        name, content = _encode(message, body)
        convert = None
        if isinstance(message, Message):
            pool = message.DESCRIPTOR.file.pool

            def convert(sender: PID, name: str, body: bytes) -> Message:
                try:
                    answer_type = GetMessageClass(pool.FindMessageTypeByName(name))  # type: ignore[arg-type]
                except KeyError:
                    text = f"{sender} answered with {name!r}, which is no known protobuf type"
                    raise AskError(text, "unknown type") from None
                try:
                    return parse(answer_type, body)
                except MalformedBody as error:
                    raise AskError(f"{sender} answered with a malformed body: {error}", "malformed answer") from None

        return Process._cell(self).host.ask(to, name, content, timeout, convert)  # type: ignore[no-any-return]


def _encode(message: Any, body: Any) -> tuple[str, Any]:
    if isinstance(message, Message):
        if body is not None:
            raise TypeError("a protobuf message is its own body: give only the message")
        return message.DESCRIPTOR.full_name, message.SerializeToString()
    if isinstance(message, str):
        return message, body
    raise TypeError(f"expected a protobuf message, or the name of a plain one, not {message!r}")
