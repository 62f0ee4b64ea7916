"""A chunked body, read strictly (RFC 9112, 7.1), however its bytes are cut.

    state     what the next bytes are          leaves when
    SIZE      a chunk line                     its LF has come   -> DATA, or TRAILER after the last chunk
    DATA      the bytes of a chunk             all have come     -> CR
    CR, LF    the line end behind them         both have come    -> SIZE
    TRAILER   trailer lines, thrown away       the empty line    -> DONE

What is malformed raises `BadRequest` as soon as its line, or the byte that should be another, has come.
"""

from __future__ import annotations

from typing import Final

from .grammar import CHUNK_LINE, FIELD_LINE
from .head import BadRequest

MAX_CHUNK_LINE: Final = 4 * 1024
"""The longest line before a chunk: an extension that nobody reads may not cost much."""

MAX_TRAILERS: Final = 8 * 1024
"""The most bytes of all trailer lines together, the empty line included."""

FORBIDDEN_TRAILERS: Final = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"libprocess-from",
        b"max-forwards",
        b"proxy-authorization",
        b"proxy-connection",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
    )
)
"""What would have changed framing, routing, sender or access, had it stood in the head (RFC 9110, 6.5.1)."""

# Smaller pieces are gathered: a list entry and an object for each would cost many times their bytes.
_CRUMB: Final = 1024

_SIZE, _DATA, _CR, _LF, _TRAILER, _DONE = range(6)


class ChunkedBody:
    """The reader of one chunked body; sans-IO.

    Args:
        limit: the most bytes of content that are accepted.
        keep: False counts the content and throws it away.

    Touched only by the thread that owns the connection.
    """

    __slots__ = ("_crumbs", "_keep", "_limit", "_line", "_missing", "_parts", "_size", "_state", "_trailers")

    def __init__(self, limit: int, *, keep: bool = True) -> None:
        self._limit = limit
        self._keep = keep
        self._state = _SIZE
        self._size = 0  # of all chunks announced so far
        self._missing = 0  # of the chunk that is being read
        self._line = bytearray()  # the chunk or trailer line that is being read
        self._trailers = 0  # bytes of complete trailer lines
        # The content is `_parts`, then `_crumbs`.
        self._parts: list[bytes | bytearray] = []
        self._crumbs = bytearray()

    @property
    def done(self) -> bool:
        """Whether the last chunk and the trailers have come."""
        return self._state == _DONE

    def take(self) -> bytes:
        """Return the content, once it is done."""
        parts, self._parts = self._parts, []
        if self._crumbs:
            parts.append(self._crumbs)
            self._crumbs = bytearray()
        if len(parts) == 1 and isinstance(parts[0], bytes):
            return parts[0]
        return b"".join(parts)

    def feed(self, data: bytes, pos: int) -> int:
        """Read from `data[pos:]` and return the position behind what belongs to this body.

        Raises:
            BadRequest: it is malformed (400) or longer than the limit (413).
        """
        size = len(data)
        while pos < size and self._state != _DONE:
            if self._state == _DATA:
                stop = min(pos + self._missing, size)
                self._missing -= stop - pos
                if self._keep:
                    self._add(data[pos:stop])
                pos = stop
                if not self._missing:
                    self._state = _CR
            elif self._state == _CR:
                if data[pos] != 13:
                    raise BadRequest(400, "a chunk is longer than its size says")
                pos += 1
                self._state = _LF
            elif self._state == _LF:
                if data[pos] != 10:
                    raise BadRequest(400, "the bytes of a chunk do not end with CRLF")
                pos += 1
                self._state = _SIZE
            elif self._state == _SIZE:
                pos = self._gather(data, pos, MAX_CHUNK_LINE)
            else:
                pos = self._gather(data, pos, MAX_TRAILERS - self._trailers)
        return pos

    def _add(self, part: bytes) -> None:
        # The first part stays as it is: most bodies are one chunk inside one block.
        if len(part) < _CRUMB and (self._parts or self._crumbs):
            self._crumbs += part
            return
        if self._crumbs:
            self._parts.append(self._crumbs)
            self._crumbs = bytearray()
        self._parts.append(part)

    def _gather(self, data: bytes, pos: int, limit: int) -> int:
        """Read on to the end of a line, and take the line in once it is whole."""
        line = self._line
        room = limit - len(line)
        stop = data.find(b"\n", pos, pos + room) + 1
        whole = stop > 0
        if not whole:
            if len(data) - pos >= room:
                raise BadRequest(400, "a chunk line or the trailers are too long")
            stop = len(data)
        line += data[pos:stop]
        if whole:
            if self._state == _SIZE:
                self._begin_chunk(bytes(line))
            else:
                self._skip_trailer(bytes(line))
            line.clear()
        return stop

    def _begin_chunk(self, line: bytes) -> None:
        match = CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BadRequest(400, f"a chunk line is malformed: {line[:100]!r}")
        self._missing = int(match[1], 16)
        self._size += self._missing
        if self._size > self._limit:
            raise BadRequest(413, f"a body of {self._size} bytes or more is over the limit of {self._limit}")
        self._state = _DATA if self._missing else _TRAILER

    def _skip_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._state = _DONE
            return
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise BadRequest(400, f"a trailer line is malformed: {line[:100]!r}")
        if match[1].lower() in FORBIDDEN_TRAILERS:
            raise BadRequest(400, f"{line[:100]!r} may not stand in a trailer")
        self._trailers += len(line)
