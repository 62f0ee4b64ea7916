"""Bytes to messages and requests, however they were cut: the receiving half of the wire.

Theory. The head of a message from one sender to one mailbox is the same bytes each time but for the digits of its
length. So the strict parser (`head.parse_head`) sees it once or twice; what it found is remembered under those exact
bytes, and the next such head is one search, one slice and one lookup. Only pure facts are remembered, only of heads
that the strict parser calls cacheable; whatever is not recognised takes the strict way, with the same result.

    state        what the next bytes are            leaves when
    HEAD         a head, possibly begun in `_rest`  its empty line is there -> message, body, request or error
    LENGTH       a body of known length             `_missing` bytes have come
    CHUNKED      a chunked body                     its last chunk and trailers have come
    CLOSED       nothing: after `Connection: close` or an error everything is ignored

The hot path is the loop in `feed`. Its rules: no exception, no object but the slice of the body and one pair, every
search bounded by what has arrived and done once.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from ..messages import Envelope
from ..pid import PID
from .chunked import ChunkedBody
from .encoder import EXITED, LINK, ONE_TIME
from .head import AGENT_COMPACTOR, MAX_HEAD, BadRequest, Head, Refusal, parse_head
from .head import early_error as _early_error

_BY_LENGTH: Final = 0
_BY_CHUNK: Final = 1
_NO_BODY: Final = 2

_HEAD, _LENGTH, _CHUNKED, _CLOSED = range(4)

_LENGTHS: Final = {b"%d" % n: n for n in range(4097)}
_HEX_LENGTHS: Final = {b"%x" % n: n for n in range(1, 4097)}
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_EARLY_CHECK: Final = 4 * 1024
_LARGEST_REMEMBERED: Final = 1024

DEFAULT_BODY_LIMIT: Final = 256 * 1024 * 1024
"""The largest body that is accepted, in bytes."""


class Request:
    """Something on the connection that is no plain persistent message: it needs an answer of its own.

    Attributes:
        id: always None, so that looking it up among the processes finds nothing.
        head: what the strict parser found.
        body: the content, complete; b"" while only `expects` is reported.
        envelope: set when this is a message (a control message, or one after which the connection closes).
        refusal: set when it is well framed and cannot be acted on.
        expects: the client waits for `100 Continue` before it sends the body; the request itself follows later.
    """

    __slots__ = ("body", "envelope", "expects", "head", "refusal")

    id: Final = None

    def __init__(
        self,
        head: Head,
        body: bytes,
        envelope: Envelope | None = None,
        refusal: Refusal | None = None,
        *,
        expects: bool = False,
    ) -> None:
        self.head = head
        self.body = body
        self.envelope = envelope
        self.refusal = refusal
        self.expects = expects


# A head as we write it ourselves, with nothing in it that would have to be decoded. It means what the strict parser
# would find; it is here for the heads that come only once, of questions and their answers.
_OURS: Final = re.compile(
    rb"POST /(?P<id>[A-Za-z0-9!$&'()*,;=:._~-]+)/(?P<name>[A-Za-z0-9!$&'()*+,;=:@._~/%-]*) HTTP/1\.1\r\n"
    rb"Host: [0-9.]{7,15}:[0-9]{1,5}\r\nConnection: Keep-Alive\r\nUser-Agent: compactor/[0-9A-Za-z.]{1,32}\r\n"
    rb"Libprocess-From: (?P<sender>[!-?A-~]*@[0-9.]{7,15}:[0-9]{1,5})\r\n"
    rb"Content-Length: (?P<length>[0-9]{1,15})\r\n\r\n"
)


def _plain_head(data: bytes, pos: int, stop: int) -> tuple[Envelope, int, int] | None:
    """Return what a head of our own says: envelope, length, and where its digits begin; None for any other."""
    match = _OURS.match(data, pos, stop)
    if match is None or stop - pos > MAX_HEAD:
        return None
    name = match["name"].decode()
    if name in (LINK, EXITED):
        return None
    try:
        sender = PID.from_string(match["sender"].decode())
    except ValueError:
        return None
    return Envelope(sender, match["id"].decode(), name), int(match["length"]), match.start("length")


Item = tuple[Envelope, bytes] | tuple[Request, None]


class HeadBudget:
    """How many bytes of remembered heads all connections of a context may hold together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = 64 * 1024 * 1024) -> None:
        self.limit = limit
        self.used = 0


class _HeadTable:
    """The heads one connection has brought: bounded, and at others' expense only up to a small floor."""

    __slots__ = ("_budget", "_limit", "_seen", "_size", "entries")

    FLOOR = 16 * 1024
    OVERHEAD = 300

    def __init__(self, budget: HeadBudget, limit: int = 1024 * 1024) -> None:
        self.entries: dict[bytes, tuple[int, Envelope, bytes]] = {}
        self._budget = budget
        self._limit = limit
        self._seen: set[int] = set()
        self._size = 0

    def offer(self, key: bytes, entry: tuple[int, Envelope, bytes]) -> None:
        """Remember a head at its second sight: a head that comes once would only push others out."""
        if len(key) > _LARGEST_REMEMBERED:
            return
        mark = hash(key)
        if mark not in self._seen:
            if len(self._seen) >= 4096:
                self._seen.clear()
            self._seen.add(mark)
            return
        cost = len(key) + self.OVERHEAD
        full = self._size + cost > self._limit or (
            self._budget.used + cost > self._budget.limit and self._size + cost > self.FLOOR
        )
        if full:
            self.forget()
        self.entries[key] = entry
        self._size += cost
        self._budget.used += cost

    def forget(self) -> None:
        self.entries.clear()
        self._budget.used -= self._size
        self._size = 0


class Decoder:
    """What one connection sends, as messages and requests; sans-IO.

    Touched only by the thread that owns the connection.

    Attributes:
        error: set once the bytes cannot be understood: answer it and close; nothing after it is read.
        closing: a request said that the connection ends after its answer; nothing after it is read.
        agent: the `AGENT_*` of the newest strictly parsed message, None before the first.
    """

    __slots__ = (
        "_body_limit",
        "_chunks",
        "_head",
        "_missing",
        "_parts",
        "_rest",
        "_scanned",
        "_state",
        "_table",
        "_what",
        "agent",
        "closing",
        "error",
    )

    def __init__(self, budget: HeadBudget | None = None, body_limit: int = DEFAULT_BODY_LIMIT) -> None:
        self.error: BadRequest | None = None
        self.closing = False
        self.agent: int | None = None
        self._body_limit = body_limit
        self._table = _HeadTable(budget or HeadBudget())
        self._state = _HEAD
        self._rest = b""
        self._scanned = 0
        # Of the body that is being read:
        self._what: Envelope | None = None  # a plain message; else `_head` says what it is
        self._head: Head | None = None
        self._missing = 0
        self._parts: list[bytes] = []
        self._chunks: ChunkedBody | None = None

    @property
    def idle(self) -> bool:
        """Whether it stands between requests, with nothing begun."""
        return self._state == _CLOSED or (self._state == _HEAD and not self._rest)

    def close(self) -> None:
        """Give back what it holds."""
        self._table.forget()
        self._state = _CLOSED
        self._rest = b""
        self._parts = []
        self._chunks = None

    def feed(self, data: bytes) -> list[Item]:
        """Take the next bytes and return what is complete with them, in order.

        A message is the pair (envelope, body), anything else the pair (Request, None). After each call look at
        `error` and `closing`.
        """
        items: list[Item] = []
        pos = 0
        try:
            if self._state != _HEAD:
                pos = self._continue(data, items)
            elif self._rest:
                data = self._rest + data
                self._rest = b""
            if self._state == _HEAD:
                self._scan(data, pos, items)
        except BadRequest as error:
            self.error = error
            self.close()
        return items

    def _scan(self, data: bytes, pos: int, items: list[Item]) -> None:
        size = len(data)
        find = data.find
        rfind = data.rfind
        remembered = self._table.entries.get
        lengths = _LENGTHS.get
        limit = self._body_limit
        scanned, self._scanned = self._scanned, 0
        while pos < size:
            end = find(b"\r\n\r\n", pos if scanned <= pos else scanned)
            if end < 0:
                self._begin(data, pos)
                return
            cut = rfind(b" ", pos, end) + 1
            entry = remembered(data[pos:cut])
            if entry is not None:
                kind, envelope, tail = entry
                start = end + 4
                if kind == _BY_LENGTH:
                    digits = data[cut:end]
                    length = lengths(digits)
                    if length is None:
                        if not digits.isdigit() or len(digits) > 15:
                            pos = self._strict(data, pos, items)
                            if self._state != _HEAD:
                                return
                            continue
                        length = int(digits)
                    pos = start + length
                    if pos <= size and length <= limit:
                        items.append((envelope, data[start:pos]))
                        continue
                    self._what = envelope
                    self._await_length(length, data, start)
                    return
                if data[cut:end] == tail:
                    if kind == _NO_BODY:
                        items.append((envelope, b""))
                        pos = start
                        continue
                    line = find(b"\r\n", start, start + 6)
                    length = _HEX_LENGTHS.get(data[start:line]) if line > 0 else None
                    if length is not None:
                        stop = line + 2 + length
                        if data[stop : stop + 7] == _LAST_CHUNK and length <= limit:
                            items.append((envelope, data[line + 2 : stop]))
                            pos = stop + 7
                            continue
                    self._what = envelope
                    pos = self._begin_chunks(data, start, items)
                else:
                    pos = self._strict(data, pos, items)
            else:
                pos = self._strict(data, pos, items)
            if self._state != _HEAD:
                return

    def _begin(self, data: bytes, pos: int) -> None:
        """Keep the beginning of a head, unless it is hopeless already."""
        while data.startswith(b"\r\n", pos):
            pos += 2
        rest = data[pos:]
        if len(rest) > MAX_HEAD:
            raise BadRequest(431, f"the head is longer than {MAX_HEAD} bytes")
        if len(rest) <= _EARLY_CHECK:
            error = _early_error(rest)
            if error is not None:
                raise error
        self._rest = rest
        self._scanned = max(len(rest) - 3, 0)

    def _strict(self, data: bytes, pos: int, items: list[Item]) -> int:
        """Parse the head at `pos` strictly; return where what follows it begins."""
        while data.startswith(b"\r\n", pos):  # RFC 9112, 2.2: empty lines before a request line are skipped
            pos += 2
        end = data.find(b"\r\n\r\n", pos)
        if end < 0:
            self._begin(data, pos)
            return len(data)
        start = end + 4
        plain = _plain_head(data, pos, start)
        if plain is not None:
            what, length, cut = plain
            self.agent = AGENT_COMPACTOR
            self._remember(data, pos, cut, end, _BY_LENGTH, what)
            return self._expect_length(what, length, data, start, items)
        try:
            head = parse_head(data[pos : end + 4])
        except BadRequest as error:
            error.to_head = data.startswith(b"HEAD ", pos)
            raise
        if head.envelope is not None or head.refusal is not None:
            self.agent = head.agent
        envelope = head.envelope
        if envelope is not None and head.persistent and not head.gzip and envelope.name not in (LINK, EXITED):
            self._what = envelope
            if head.cacheable:
                self._remember_head(data, pos, end, head, envelope)
        else:
            self._what = None
        self._head = head
        if head.chunked:
            self._expect(head, items, come=len(data) > start)
            return self._begin_chunks(data, start, items)
        if start + head.length > len(data):
            self._expect(head, items, come=len(data) > start)
        return self._expect_length(self._what, head.length, data, start, items)

    def _expect_length(
        self, what: Envelope | None, length: int, data: bytes, start: int, items: list[Item]
    ) -> int:
        """Take a body of known length, or what has come of it; return where what follows it begins."""
        self._what = what
        stop = start + length
        if stop > len(data) or length > self._body_limit:
            self._await_length(length, data, start)
            return len(data)
        self._complete(data[start:stop], items)
        return stop

    def _remember_head(self, data: bytes, pos: int, end: int, head: Head, envelope: Envelope) -> None:
        cut = data.rfind(b" ", pos, end) + 1
        if head.chunked:
            kind = _BY_CHUNK
        elif not head.has_length:
            kind = _NO_BODY
        elif data[pos:cut][-18:].lower() == b"\r\ncontent-length: " and data[cut:end].isdigit():
            kind = _BY_LENGTH
        else:
            return  # the length stands in the middle: such heads differ too much to be worth it
        self._remember(data, pos, cut, end, kind, envelope)

    def _remember(self, data: bytes, pos: int, cut: int, end: int, kind: int, envelope: Envelope) -> None:
        # The head of a one-time PID never comes twice.
        if not (envelope.id.startswith(ONE_TIME) or envelope.sender.id.startswith(ONE_TIME)):
            self._table.offer(data[pos:cut], (kind, envelope, data[cut:end]))

    def _expect(self, head: Head, items: list[Item], *, come: bool) -> None:
        if head.expect_continue and not come:
            items.append((Request(head, b"", expects=True), None))

    def _await_length(self, length: int, data: bytes, start: int) -> None:
        if length > self._body_limit:
            raise BadRequest(413, f"a body of {length} bytes is over the limit of {self._body_limit}")
        part = data[start:]
        self._parts = [part] if part else []
        self._missing = length - len(part)
        self._state = _LENGTH

    def _begin_chunks(self, data: bytes, start: int, items: list[Item]) -> int:
        self._chunks = ChunkedBody(self._body_limit)
        self._state = _CHUNKED
        return self._feed_chunks(data, start, items)

    def _feed_chunks(self, data: bytes, pos: int, items: list[Item]) -> int:
        chunks = self._chunks
        assert chunks is not None
        pos = chunks.feed(data, pos)
        if chunks.done:
            self._chunks = None
            self._complete(chunks.take(), items)
        return pos

    def _continue(self, data: bytes, items: list[Item]) -> int:
        """Go on with a body; return where what follows it begins."""
        if self._state == _CHUNKED:
            return self._feed_chunks(data, 0, items)
        if self._state == _CLOSED:
            return len(data)
        missing = self._missing
        if len(data) < missing:
            self._parts.append(data)
            self._missing = missing - len(data)
            return len(data)
        self._parts.append(data[:missing])
        body = b"".join(self._parts)
        self._parts = []
        self._complete(body, items)
        return missing

    def _complete(self, body: bytes, items: list[Item]) -> None:
        """A request is whole: hand it on."""
        self._state = _HEAD
        if self._what is not None:
            items.append((self._what, body))
            return
        head = self._head
        assert head is not None
        refusal = head.refusal
        if head.gzip and refusal is None:
            try:
                body = _inflate(body, self._body_limit)
            except (zlib.error, EOFError) as error:
                refusal = Refusal(400, f"the gzip body is broken: {error}")
            except OverflowError:
                refusal = Refusal(413, f"the inflated body is over the limit of {self._body_limit} bytes")
        envelope = head.envelope
        if refusal is None and envelope is not None and head.persistent and envelope.name not in (LINK, EXITED):
            items.append((envelope, body))
            return
        items.append((Request(head, body, envelope, refusal), None))
        if not head.persistent:
            self.closing = True
            self.close()


def _inflate(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    plain = inflater.decompress(body, limit + 1)
    if len(plain) > limit:
        raise OverflowError
    if not inflater.eof or inflater.unused_data:
        raise EOFError("it ends too early or has bytes behind its end")
    return plain
