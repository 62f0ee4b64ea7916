"""What comes back on a connection that we opened: answers, in order, without their content.

    state     what the next bytes are                   leaves when
    HEAD      a status line and headers                 its empty line has come -> an answer, or its content
    LENGTH    content of known length, thrown away      all of it has come
    CHUNKED   a chunked content, thrown away            its end has come
    REST      content that ends with the connection     the peer closes
    CLOSED    nothing: after an answer that closes, everything is ignored

The answers of a busy peer are the same bytes again and again: the newest persistent answer without content is
remembered, and a block that is that answer n times is told by one comparison.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpResponseParser

from .chunked import ChunkedBody
from .grammar import ANSWER_HEAD, LENGTH, fields
from .head import MAX_FIELDS, MAX_HEAD, BadRequest, is_persistent

_HEAD, _LENGTH, _CHUNKED, _REST, _CLOSED = range(5)
_NO_CALLBACKS: Final = object()
_NO_LIMIT: Final = 1 << 64

Answers = list[tuple["Answer", int]]


class BadAnswer(Exception):
    """The bytes are no answer that may be trusted: nothing more can be attributed on this connection.

    Attributes:
        answers: those that were complete before it in the same block.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.answers: Answers = []


class Answer:
    """The head of one final answer.

    Attributes:
        status: its HTTP status, 200 to 599.
        headers: names in lower case; of a repeated one the last value; values decoded as latin-1.
        minor: x of HTTP/1.x.
        persistent: the connection goes on after it.
    """

    __slots__ = ("headers", "minor", "persistent", "status")

    def __init__(self, status: int, headers: dict[str, str], minor: int, *, persistent: bool) -> None:
        self.status = status
        self.headers = headers
        self.minor = minor
        self.persistent = persistent


_NO_ANSWER: Final = Answer(0, {}, 0, persistent=False)


class AnswerParser:
    """What one connection answers to POST requests; sans-IO.

    Touched only by the thread that owns the connection.
    """

    __slots__ = ("_answer", "_chunks", "_known", "_known_answer", "_missing", "_rest", "_scanned", "_state")

    def __init__(self) -> None:
        self._state = _HEAD
        self._rest = bytearray()  # a head that has begun
        self._scanned = 0  # where the search for its end goes on
        # The newest persistent answer without content, as bytes and as value:
        self._known = b""
        self._known_answer = _NO_ANSWER
        # Of the answer whose content is being read:
        self._answer = _NO_ANSWER
        self._missing = 0
        self._chunks: ChunkedBody | None = None

    def feed(self, data: bytes) -> Answers:
        """Take the next bytes; return the answers that are complete with them, each with how often it came in a row.

        Interim answers (1xx) are skipped.

        Raises:
            BadAnswer: the bytes are malformed; whatever comes after them is ignored.
        """
        known = self._known
        if known and data and self._state == _HEAD and not self._rest:
            times = len(data) // len(known)
            if data == known * times:
                return [(self._known_answer, times)]
        answers: Answers = []
        try:
            self._read(data, answers)
        except BadAnswer as error:
            error.answers = answers
            self._close()
            raise
        return answers

    def eof(self) -> Answers:
        """Take the end of the stream; return the answer whose content ended with it. What was cut off is no answer."""
        answers: Answers = []
        if self._state == _REST:
            self._complete(answers)
        self._close()
        return answers

    def _close(self) -> None:
        self._state = _CLOSED
        self._rest.clear()
        self._chunks = None

    def _read(self, data: bytes, answers: Answers) -> None:
        pos = 0
        if self._rest:
            data = self._head_begun_with(data)
        while pos < len(data):
            if self._state == _HEAD:
                pos = self._read_head(data, pos, answers)
            elif self._state == _LENGTH:
                stop = min(pos + self._missing, len(data))
                self._missing -= stop - pos
                pos = stop
                if not self._missing:
                    self._complete(answers)
            elif self._chunks is not None:
                pos = self._skip_chunks(self._chunks, data, pos, answers)
            else:
                return

    def _head_begun_with(self, data: bytes) -> bytes:
        """Add to the head that has begun; return the whole of it and what follows, or b"" when it is not whole yet."""
        rest = self._rest
        rest += data
        if rest.find(b"\r\n\r\n", self._scanned) < 0:
            self._check_begun()
            return b""
        data = bytes(rest)
        rest.clear()
        return data

    def _check_begun(self) -> None:
        begun = bytes(self._rest[:7])
        if not b"HTTP/1.".startswith(begun):
            raise BadAnswer(f"an answer begins with {begun!r}")
        if len(self._rest) > MAX_HEAD:
            raise BadAnswer(f"the head of an answer is longer than {MAX_HEAD} bytes")
        self._scanned = max(len(self._rest) - 3, 0)

    def _read_head(self, data: bytes, pos: int, answers: Answers) -> int:
        known = self._known
        if known and data.startswith(known, pos):
            begin = pos
            while data.startswith(known, pos):
                pos += len(known)
            answers.append((self._known_answer, (pos - begin) // len(known)))
            return pos
        stop = data.find(b"\r\n\r\n", pos) + 4
        if stop < 4:
            self._rest += data[pos:]
            self._check_begun()
            return len(data)
        self._begin(data[pos:stop], answers)
        return stop

    def _begin(self, head: bytes, answers: Answers) -> None:
        """Parse a head and decide how its content is framed (RFC 9112, 6.3)."""
        answer = _parse(head)
        if answer is None:
            return
        self._answer = answer
        headers = answer.headers
        if "transfer-encoding" in headers:
            self._chunks = ChunkedBody(_NO_LIMIT, keep=False)
            self._state = _CHUNKED
        elif answer.status in (204, 304):
            self._complete(answers)
        elif "content-length" not in headers:
            answer.persistent = False
            self._state = _REST
        else:
            self._missing = int(headers["content-length"])
            if self._missing:
                self._state = _LENGTH
            else:
                if answer.persistent:
                    self._known, self._known_answer = head, answer
                self._complete(answers)

    def _skip_chunks(self, chunks: ChunkedBody, data: bytes, pos: int, answers: Answers) -> int:
        try:
            pos = chunks.feed(data, pos)
        except BadRequest as error:
            raise BadAnswer(error.why) from None
        if chunks.done:
            self._chunks = None
            self._complete(answers)
        return pos

    def _complete(self, answers: Answers) -> None:
        answer = self._answer
        self._state = _HEAD if answer.persistent else _CLOSED
        answers.append((answer, 1))


def _parse(head: bytes) -> Answer | None:
    """Return the answer that a head begins, None for an interim one."""
    if len(head) > MAX_HEAD:
        raise BadAnswer(f"the head of an answer is longer than {MAX_HEAD} bytes")
    match = ANSWER_HEAD.fullmatch(head)
    if match is None:
        raise BadAnswer(f"the head of an answer is malformed: {head[:100]!r}")
    minor, status = int(match[1]), int(match[2])
    if status == 101:
        raise BadAnswer("the peer switches protocols, which nobody asked for")
    try:
        HttpResponseParser(_NO_CALLBACKS).feed_data(head)
    except HttpParserError as error:
        raise BadAnswer(f"the head of an answer is malformed: {error}") from None
    pairs = [(name.lower(), value) for name, value in fields(match[3].decode("latin-1"))]
    if len(pairs) > MAX_FIELDS:
        raise BadAnswer(f"the head of an answer has more than {MAX_FIELDS} header lines")
    lengths = [value for name, value in pairs if name == "content-length"]
    codings = [value.lower() for name, value in pairs if name == "transfer-encoding"]
    if lengths and (codings or len(lengths) > 1 or LENGTH.fullmatch(lengths[0]) is None):
        raise BadAnswer("the lengths of an answer are malformed or contradict each other")
    if codings and (codings != ["chunked"] or minor == 0 or status in (204, 304)):
        raise BadAnswer(f"the Transfer-Encoding {','.join(codings)[:100]!r} does not frame the content of an answer")
    if status < 200:
        return None
    connections = [value for name, value in pairs if name == "connection"]
    return Answer(status, dict(pairs), minor, persistent=is_persistent(connections, minor))
