"""One request head, parsed strictly: what it asks for, how its body is framed, and which message it is.

Two judges see every head, and both must accept it: llhttp (through httptools) and the patterns of `grammar`, which
refuse what llhttp lets pass. Two kinds of no come out: `BadRequest`, when the framing or the grammar is broken, so that
nothing after it on the connection can be trusted; and `Refusal`, when the request is well framed but cannot be acted
on, so that it is answered in its turn and the connection goes on.

This is the slow path, taken once or twice for each kind of head: `decoder` remembers what it found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..messages import Envelope
from ..pid import PID, check_id
from . import grammar
from .encoder import decode_id

MAX_HEAD: Final = 80 * 1024
"""The longest head that is read, in bytes: the limit of libprocess."""

MAX_FIELDS: Final = 1000
"""The most header lines of one head."""

AGENT_OTHER: Final = 0
AGENT_LIBPROCESS: Final = 1
AGENT_COMPACTOR: Final = 2

_LIBPROCESS: Final = "libprocess/"
_KNOWN: Final = frozenset(
    (
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "libprocess-from",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    )
)
_NO_CALLBACKS: Final = object()

Fields = dict[str, list[str]]


class BadRequest(Exception):
    """The bytes are no request that may be trusted: answer with `status`, then close the connection.

    Attributes:
        status: the HTTP status of the answer.
        why: what is wrong, for the answer's body and the log.
        to_head: it was a HEAD request, whose answer has no content (RFC 9110, 9.3.2).
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why
        self.to_head = False


@dataclass(slots=True)
class Refusal:
    """A well-framed request that cannot be acted on: answered in order, and the connection goes on.

    Attributes:
        status: the HTTP status of the answer.
        why: what is wrong, for the answer's body and the log.
    """

    status: int
    why: str


@dataclass(slots=True)
class Head:
    """What one request head says.

    Attributes:
        method: as on the wire.
        target: as on the wire.
        path: the target's path, up to `?` or `#`; of an absolute-form target its path part, `/` if that is empty.
        query: what stands between `?` and `#`.
        minor: x of HTTP/1.x, 0 or 1.
        headers: names as received and values without the white space around them, decoded as latin-1, in order.
        chunked: the body is chunked.
        length: else its length in bytes, 0 when none is given.
        has_length: a Content-Length was given.
        persistent: the connection goes on after the answer.
        expect_continue: the client waits for `100 Continue`.
        envelope: set when it is a libprocess message that can be delivered.
        refusal: set when it is one that cannot.
        gzip: the body of the message is compressed.
        agent: one of the `AGENT_*`, by the User-Agent.
        cacheable: another head with the same bytes, the length aside, means the same message; see `decoder`.
    """

    method: str
    target: str
    path: str
    query: str
    minor: int
    headers: list[tuple[str, str]]
    chunked: bool
    length: int
    has_length: bool
    persistent: bool
    expect_continue: bool
    envelope: Envelope | None
    refusal: Refusal | None
    gzip: bool
    agent: int
    cacheable: bool


def parse_head(head: bytes) -> Head:
    """Parse a request head, from its request line up to and with its empty line.

    Raises:
        BadRequest: it breaks RFC 9110 or RFC 9112, or a rule of ours where those leave a choice.
    """
    if len(head) > MAX_HEAD:
        raise BadRequest(431, f"the head is longer than {MAX_HEAD} bytes")
    match = grammar.REQUEST_HEAD.fullmatch(head)
    if match is None:
        raise _malformed(head)
    method, target, version, lines = (part.decode("latin-1") for part in match.groups())
    path, query = _split_target(method, target)
    _judge(head)
    headers = grammar.fields(lines)
    if len(headers) > MAX_FIELDS:
        raise BadRequest(431, f"the head has more than {MAX_FIELDS} header lines")
    fields: Fields = {}
    for name, value in headers:
        key = name.lower()
        if key in _KNOWN:
            fields.setdefault(key, []).append(value)
    minor = int(version)
    agents = fields.get("user-agent", ())
    senders = fields.get("libprocess-from", ())
    is_message = method == "POST" and (bool(senders) or any(agent.startswith(_LIBPROCESS) for agent in agents))
    _check_host(fields.get("host", ()), required=minor == 1, is_message=is_message)
    chunked, length = _framing(fields, may_be_chunked=minor == 1 or is_message)
    persistent = is_persistent(fields.get("connection", ()), minor)
    envelope: Envelope | None = None
    refusal: Refusal | None = None
    gzip = False
    if is_message:
        sender = _sender_text(senders, agents)
        try:
            envelope = _envelope(sender, path)
        except ValueError as error:
            refusal = Refusal(400, str(error))
        gzip, unsupported = _coding(fields.get("content-encoding", ()))
        if unsupported is not None:
            envelope, refusal = None, refusal or unsupported
    return Head(
        method,
        target,
        path,
        query,
        minor,
        headers,
        chunked,
        length,
        "content-length" in fields,
        persistent,
        "expect" in fields and _expects(fields["expect"], minor),
        envelope,
        refusal,
        gzip,
        _agent(agents),
        envelope is not None and persistent and fields.keys().isdisjoint(("expect", "upgrade", "content-encoding")),
    )


def early_error(partial: bytes) -> BadRequest | None:
    """Return what is wrong with a head that is not complete, when no further bytes can make it right.

    A peer that speaks something else (TLS, say) waits for an answer before it sends the end of a head.

    Args:
        partial: what has come of it, without empty lines before it.
    """
    if partial == b"\r":  # of an empty line before the request line
        return None
    if grammar.REQUEST_BEGUN.fullmatch(partial) is None:
        return _malformed(partial)
    try:
        _judge(partial)
    except BadRequest as error:
        return error
    return None


def _judge(data: bytes) -> None:
    try:
        HttpRequestParser(_NO_CALLBACKS).feed_data(data)
    except HttpParserUpgrade:  # its way to say that the head is complete and asks for an upgrade
        pass
    except HttpParserError as error:
        raise BadRequest(400, f"the head is malformed: {error}") from None


def _malformed(head: bytes) -> BadRequest:
    """Say what is wrong with a head, or a beginning of one, that the grammar refuses."""
    line, _, rest = head.partition(b"\r\n")
    if not rest:
        line = line.removesuffix(b"\r")  # half of its end
    if grammar.REQUEST_LINE.fullmatch(line) is None:
        if grammar.ANY_VERSION.fullmatch(line) is not None:
            return BadRequest(505, f"only HTTP/1.0 and HTTP/1.1 are spoken here, not {_shown(line)}")
        if head.startswith(b"\x16\x03"):
            return BadRequest(400, "this is TLS, and plain HTTP is spoken here")
        return BadRequest(400, f"the request line is malformed: {_shown(line)}")
    for line in rest.splitlines(keepends=True):
        if line != b"\r\n" and grammar.FIELD_LINE.fullmatch(line) is None:
            return BadRequest(400, f"a header line is malformed: {_shown(line)}")
    return BadRequest(400, "the head is malformed")


def _shown(line: bytes) -> str:
    return repr(line[:100])[1:]


def _split_target(method: str, target: str) -> tuple[str, str]:
    """Return path and query of a target, which must fit its method (RFC 9112, 3.2)."""
    if method == "CONNECT":
        raise BadRequest(501, "this is no proxy")
    rest = target
    if not target.startswith("/"):
        absolute = grammar.ABSOLUTE.fullmatch(target)
        if absolute is not None:
            _check_ipv6(absolute["ipv6"])
            rest = absolute["rest"]
        elif target != "*" or method != "OPTIONS":
            raise BadRequest(400, f"the target {target[:100]!r} is no path and no http URL")
    rest = rest.partition("#")[0]
    path, _, query = rest.partition("?")
    return path or "/", query


def _check_ipv6(text: str | None) -> None:
    if text is not None:
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            raise BadRequest(400, f"{text[:100]!r} is no IPv6 address") from None


def _check_host(hosts: Sequence[str], *, required: bool, is_message: bool) -> None:
    """RFC 9112, 3.2; old libprocess and compactor 0.3.0 send messages with an empty Host or none."""
    if len(hosts) > 1:
        raise BadRequest(400, "there is more than one Host")
    if is_message:
        return
    if not hosts:
        if required:
            raise BadRequest(400, "an HTTP/1.1 request needs a Host")
        return
    match = grammar.HOST.fullmatch(hosts[0])
    if match is None:
        raise BadRequest(400, f"the Host {hosts[0][:100]!r} is malformed")
    _check_ipv6(match["ipv6"])


def _framing(fields: Fields, *, may_be_chunked: bool) -> tuple[bool, int]:
    """Return whether the body is chunked, and its length if not (RFC 9112, 6)."""
    lengths = fields.get("content-length", ())
    codings = fields.get("transfer-encoding", ())
    if codings:
        if lengths:
            raise BadRequest(400, "Transfer-Encoding and Content-Length exclude each other")
        if not may_be_chunked:
            raise BadRequest(400, "Transfer-Encoding does not exist in HTTP/1.0")
        *others, last = (coding.strip("\t ").lower() for coding in ",".join(codings).split(","))
        if last != "chunked" or any(other == "chunked" or not grammar.TOKEN.fullmatch(other) for other in others):
            raise BadRequest(400, f"the Transfer-Encoding {','.join(codings)[:100]!r} does not frame a body")
        if others:
            raise BadRequest(501, f"of all transfer codings only chunked is known here, not {others[0][:100]!r}")
        return True, 0
    if not lengths:
        return False, 0
    if len(lengths) > 1 or grammar.LENGTH.fullmatch(lengths[0]) is None:
        raise BadRequest(400, f"the Content-Length {','.join(lengths)[:100]!r} is malformed")
    return False, int(lengths[0])


def is_persistent(connections: Sequence[str], minor: int) -> bool:
    """RFC 9112, 9.3; also of an answer."""
    if not connections:
        return minor == 1
    options = [option.strip("\t ") for option in ",".join(connections).lower().split(",")]
    return "close" not in options and (minor == 1 or "keep-alive" in options)


def _expects(values: Sequence[str], minor: int) -> bool:
    """RFC 9110, 10.1.1: `100-continue` is all that can be expected, and HTTP/1.0 cannot wait for it."""
    for value in values:
        if value.lower() != "100-continue":
            raise BadRequest(417, f"the expectation {value[:100]!r} cannot be met")
    return minor == 1


def _sender_text(senders: Sequence[str], agents: Sequence[str]) -> str:
    """Return the text that says who sent a message: Libprocess-From, else the User-Agent, as libprocess does."""
    if len(senders) > 1:
        raise BadRequest(400, "there is more than one Libprocess-From")
    if senders:
        return senders[0]
    if len(agents) > 1:
        raise BadRequest(400, "there is more than one User-Agent, and one of them names the sender")
    return re.split(r"[\t ]", agents[0][len(_LIBPROCESS) :], maxsplit=1)[0]


def _envelope(sender: str, path: str) -> Envelope:
    """Make the envelope of a message; `ValueError` says why it cannot be delivered."""
    if not sender.isascii():
        try:
            sender = sender.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"the sender {sender[:100]!r} is not UTF-8") from None
    from_ = PID.from_string(sender)
    id_, _, name = path[1:].partition("/")
    id_ = decode_id(id_)
    check_id(id_)
    return Envelope(from_, id_, name)


def _coding(values: Sequence[str]) -> tuple[bool, Refusal | None]:
    """Return whether a message is compressed with gzip, or why it cannot be read at all."""
    codings = [coding.strip("\t ") for coding in ",".join(values).lower().split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return False, None
    if codings in (["gzip"], ["x-gzip"]):
        return True, None
    return False, Refusal(415, f"of all content codings only gzip is known here, not {', '.join(codings)[:100]!r}")


def _agent(agents: Sequence[str]) -> int:
    if not agents:
        return AGENT_OTHER
    if agents[0].startswith(_LIBPROCESS):
        return AGENT_LIBPROCESS
    return AGENT_COMPACTOR if agents[0].startswith("compactor/") else AGENT_OTHER
