"""Messages to bytes: what a name may be, how an id travels, and the head that all messages of one kind share.

The layout is ours within what every recorded peer accepts (docs/protocol.md): mesos-go wants a Host and exactly
`Connection: Keep-Alive`, and never answers a User-Agent of `libprocess/`; the length comes last, so that a receiver
that remembers heads finds the only varying part at the end.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from .._version import VERSION
from ..pid import ID_SAFE, NOBODY, PID, format_address
from .grammar import ESCAPED

LINK: Final = "__link__"
EXITED: Final = "__exited__"
"""The message names of the link extension (docs/protocol.md)."""
ONE_TIME: Final = "__ask__"
"""How the ids of one-time PIDs begin, from which questions are sent."""

_NAME = re.compile(r"[!-~]*")
_NOT_IN_NAME = re.compile(r"[?#]")
_PLAIN_ID = re.compile(r"[A-Za-z0-9._~()-]*")


def check_name(name: str) -> None:
    """Raise when `name` cannot be a message name: it is written into the request line as it is.

    Raises:
        TypeError: it is no `str`.
        ValueError: it holds what would break or shorten the request line.
    """
    if not isinstance(name, str):
        raise TypeError(f"a message name is a str, not {name!r}")
    if _NAME.fullmatch(name) is None or _NOT_IN_NAME.search(name):
        raise ValueError(
            f"{name!r} cannot be a message name: use printable ASCII without white space, '?' and '#', "
            "for it travels unescaped in the request line"
        )


def check_destination(to: PID, name: str) -> None:
    """Raise when nothing can be sent to `to` under that name.

    Raises:
        TypeError: `to` is no PID, or `name` no `str`.
        ValueError: `name` cannot travel or is reserved, or `to` is nowhere.
    """
    if not isinstance(to, PID):
        raise TypeError(f"a message is sent to a PID, not {to!r}; PID.from_string parses text")
    check_name(name)
    if name in (LINK, EXITED):
        raise ValueError(f"the message name {name!r} is reserved for links")
    if to.port == 0:
        raise ValueError(f"nothing can be sent to {to}: port 0 is nowhere")


def as_bytes(body: object) -> bytes:
    """Return the body of a message as `bytes`, copying what can change under us.

    Raises:
        TypeError: it is neither None nor bytes, bytearray or memoryview.
    """
    if body is None:
        return b""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"the body of a message is bytes, bytearray, memoryview or None, not {type(body).__name__}")


def encode_path(id_: str, name: str) -> str:
    """Return the request target of a message; one for an empty id is `/name`, as libprocess writes it."""
    if _PLAIN_ID.fullmatch(id_) is None:
        id_ = quote(id_, safe=ID_SAFE)
    return f"/{id_}/{name}" if id_ else f"/{name}"


def decode_id(segment: str) -> str:
    """Return the id that a path segment names: strictly percent-decoded UTF-8, and '+' is '+'.

    Raises:
        ValueError: an escape is malformed.
    """
    if "%" not in segment:
        return segment
    if ESCAPED.fullmatch(segment) is None:
        raise ValueError(f"the id {segment[:100]!r} has a malformed escape")
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"the id {segment[:100]!r} is not UTF-8") from None


def encode_head(sender: PID | None, to: PID, name: str) -> bytes:
    """Return the head of a message up to the digits of its length.

    Append the decimal length, an empty line and the body.
    """
    return (
        f"POST {encode_path(to.id, name)} HTTP/1.1\r\nHost: {format_address(to.address)}\r\nConnection: Keep-Alive\r\n"
        f"User-Agent: compactor/{VERSION}\r\nLibprocess-From: {NOBODY if sender is None else sender}\r\n"
        "Content-Length: "
    ).encode()
