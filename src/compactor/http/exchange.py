"""One ordinary HTTP request and the answer to it, as the connection and whoever serves the request see each other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from .._version import VERSION
from ..wire import grammar

if TYPE_CHECKING:
    from ..wire.head import Head

SERVER: Final = f"compactor/{VERSION}"
"""Our `Server` header: the link extension believes a death only from a peer that says so."""

_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Exchange(Protocol):
    """A request whose body has arrived, and the way its answer takes.

    The answer is any number of `write`, then exactly one `finish`. Touched only by the context thread.

    Attributes:
        head: the request line and headers.
        body: the whole body, decoded from its framing.
        remote_ip: the address of the other end of the connection.
        lost: the client went away before `finish`.
    """

    head: Head
    body: bytes
    remote_ip: str
    lost: bool

    def write(self, data: bytes) -> None:
        """Send bytes of the response, after every earlier response of the connection; ignored once `lost`."""

    def finish(self, close: bool) -> None:
        """End the response; `close` ends the connection as well, once everything has left."""

    def drained(self) -> asyncio.Future[None]:
        """Return what is done when all written bytes left our buffers.

        It fails with `tornado.iostream.StreamClosedError` when the client goes away before that.
        """

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Have `callback`, or nothing, called once if the client goes away before `finish`, which forgets it."""


def has_body(status: int) -> bool:
    """Say whether a response with this status may have a body (RFC 9110, 6.4.1)."""
    return status >= 200 and status not in (204, 304)


def connection_option(head: Head, close: bool) -> str | None:
    """Return the value of the `Connection` header of the answer to `head`, or None where the version says it all."""
    if close:
        return "close"
    return "keep-alive" if head.minor == 0 else None


def response_head(status: int, reason: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the status line and the headers of a response, with the blank line that ends them.

    Raises:
        ValueError: the status has not three digits, or a text holds what would end its line (RFC 9112, 11.1).
    """
    if not 100 <= status <= 999:
        raise ValueError(f"{status} is no HTTP status: use one from 200 to 599")
    if not _VALUE.fullmatch(reason):
        raise ValueError(f"the reason {reason!r} of status {status} holds a character that no status line may hold")
    lines = [f"HTTP/1.1 {status} {reason}"]
    for name, value in headers:
        if not grammar.TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a header: use letters, digits and hyphens")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name} cannot be {value!r}: no control characters, and only Latin-1 ones")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def plain_response(
    head: Head, status: int, text: str = "", headers: Sequence[tuple[str, str]] = (), *, close: bool = False
) -> bytes:
    """Return a whole response of plain text, as bytes for `Exchange.write`.

    Args:
        head: the request that it answers; the body is left out, but not its length, when its method is HEAD.
        status: 200 to 599.
        text: the body.
        headers: further ones, after ours.
        close: the connection ends after this response though the client would keep it; say so to `finish` as well.

    Raises:
        ValueError: a header holds what would end its line.
    """
    body = text.encode() if has_body(status) else b""
    fields = [("Server", SERVER), ("Date", formatdate(usegmt=True))]
    if body:
        fields.append(("Content-Type", "text/plain; charset=utf-8"))
    if has_body(status):
        fields.append(("Content-Length", str(len(body))))
    option = connection_option(head, close or not head.persistent)
    if option is not None:
        fields.append(("Connection", option))
    encoded = response_head(status, reason_of(status), (*fields, *headers))
    return encoded if head.method == "HEAD" else encoded + body


def reason_of(status: int) -> str:
    """Return the usual words for a status, or `Unknown`."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
