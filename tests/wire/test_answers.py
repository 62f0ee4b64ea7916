"""The parser of answers, with bytes cut anywhere."""

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.wire.answers import AnswerParser, BadAnswer
from compactor.wire.head import MAX_HEAD

RECEIVED = json.loads((Path(__file__).parent / "data" / "libprocess-receiver.json").read_text())
ANSWERED = {
    case["case"]: ast.literal_eval(case["answer"])
    for case in RECEIVED
    if case["answer_bytes"] and ")..." not in case["answer"]  # the recording abbreviates long ones
}
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nDate: Mon, 23 Nov 2026 22:47:48 GMT\r\nContent-Length: 0\r\n\r\n"
LATER = ACCEPTED.replace(b"48 GMT", b"49 GMT")
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\n404 Not Found."
CHUNKED = b"HTTP/1.1 500 x\r\nTransfer-Encoding: Chunked\r\n\r\n3;a\r\nabc\r\n0\r\nX: y\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MIXED = ACCEPTED * 3 + LATER + CONTINUE + LATER + MISSING + LATER * 2 + CHUNKED + NO_CONTENT + LATER
MIXED_STATUSES = [202, 202, 202, 202, 202, 404, 202, 202, 500, 204, 202]


def statuses(parser: AnswerParser, *blocks: bytes) -> list[int]:
    return [answer.status for block in blocks for answer, times in parser.feed(block) for _ in range(times)]


def bad(*blocks: bytes) -> BadAnswer:
    parser = AnswerParser()
    with pytest.raises(BadAnswer) as caught:
        statuses(parser, *blocks)
    return caught.value


def test_an_answer_is_its_status_and_headers() -> None:
    raw = b"HTTP/1.1 202 Accepted\r\nSERVER: x\r\nServer: y\xe9 \r\nContent-Length: 0\r\n\r\n"
    ((answer, times),) = AnswerParser().feed(raw)
    assert (answer.status, answer.minor, answer.persistent, times) == (202, 1, True, 1)
    assert answer.headers == {"server": "y\xe9", "content-length": "0"}


def test_answers_are_the_same_however_their_bytes_are_cut() -> None:
    assert statuses(AnswerParser(), MIXED) == MIXED_STATUSES
    assert statuses(AnswerParser(), *(MIXED[i : i + 1] for i in range(len(MIXED)))) == MIXED_STATUSES
    for cut in range(len(MIXED) + 1):
        assert statuses(AnswerParser(), MIXED[:cut], MIXED[cut:]) == MIXED_STATUSES


@given(st.lists(st.sampled_from([ACCEPTED, LATER, MISSING, CHUNKED, NO_CONTENT, CONTINUE]), max_size=20), st.data())
def test_any_order_of_answers_in_any_blocks_is_told_in_order(answers: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(answers)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)))
    blocks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert statuses(AnswerParser(), *blocks) == [int(answer[9:12]) for answer in answers if answer is not CONTINUE]


def test_a_run_of_equal_answers_is_told_as_one_with_its_number() -> None:
    parser = AnswerParser()
    parser.feed(ACCEPTED)
    ((answer, times),) = parser.feed(ACCEPTED * 1000)
    assert (answer.status, times) == (202, 1000)
    runs = parser.feed(ACCEPTED * 5 + LATER * 4 + LATER[:10])
    assert [times for _, times in runs] == [5, 1, 3]
    ((answer, times),) = parser.feed(LATER[10:] + LATER)
    assert (answer.headers["date"][-6:], times) == ("49 GMT", 2)


def test_nothing_comes_of_nothing() -> None:
    parser = AnswerParser()
    assert parser.feed(b"") == []
    parser.feed(ACCEPTED)
    assert parser.feed(b"") == []


@pytest.mark.parametrize("name", ANSWERED)
def test_what_a_c_process_answered_is_understood(name: str) -> None:
    raw = ANSWERED[name]
    got = statuses(AnswerParser(), raw)
    assert got
    assert len(got) == raw.count(b"HTTP/1.1 ")


@pytest.mark.parametrize("line", [b"HTTP/1.1 299\r\n", b"HTTP/1.1 299 \r\n", b"HTTP/1.1 299 \xe9 x\r\n"])
def test_a_reason_is_optional_and_anything_printable(line: bytes) -> None:
    assert statuses(AnswerParser(), line + b"Content-Length: 0\r\n\r\n") == [299]


@pytest.mark.parametrize(
    ("head", "persistent"),
    [
        (b"HTTP/1.1 202 x\r\n", True),
        (b"HTTP/1.1 202 x\r\nConnection: x, Close\r\n", False),
        (b"HTTP/1.0 202 x\r\n", False),
        (b"HTTP/1.0 202 x\r\nConnection: Keep-Alive\r\n", True),
    ],
)
def test_an_answer_says_whether_the_connection_goes_on(head: bytes, persistent: bool) -> None:
    parser = AnswerParser()
    raw = head + b"Content-Length: 0\r\n\r\n"
    ((answer, _),) = parser.feed(raw)
    assert answer.persistent is persistent
    assert statuses(parser, raw, b"HTTP") == ([202] if persistent else [])


def test_content_without_a_length_ends_with_the_connection() -> None:
    parser = AnswerParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\n") == []
    assert parser.feed(ACCEPTED) == []
    ((answer, times),) = parser.eof()
    assert (answer.status, answer.persistent, times) == (200, False, 1)
    assert parser.eof() == []


@pytest.mark.parametrize("cut", [ACCEPTED[:-1], MISSING[:-1], CHUNKED[:-1], b""])
def test_an_answer_that_was_cut_off_is_none(cut: bytes) -> None:
    parser = AnswerParser()
    assert parser.feed(cut) == []
    assert parser.eof() == []
    assert parser.feed(ACCEPTED) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage",
        b"\r\n",
        b"HTTP/2",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 20 x\r\n\r\n",
        b"HTTP/1.1 2020 x\r\n\r\n",
        b"HTTP/1.1 099 x\r\n\r\n",
        b"HTTP/1.1 600 x\r\n\r\n",
        b"HTTP/1.1  202 x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 202 x\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 202 x\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 202 x\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 202 x\r\nX: \x00\r\n\r\n",
        b"HTTP/1.1 202 x\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 202 x\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 202 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 202 x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 202 x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 202 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 202 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 202 x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 202 x\r\n" + b"X: 1\r\n" * 1001 + b"\r\n",
        b"HTTP/1.1 202 x\r\nX: " + b"a" * MAX_HEAD,
        b"HTTP/1.1 202 x\r\nX: " + b"a" * MAX_HEAD + b"\r\n\r\n",
    ],
)
def test_a_malformed_answer_is_refused_and_what_follows_ignored(raw: bytes) -> None:
    bad(raw)
    bad(*(raw[i : i + 997] for i in range(0, len(raw), 997)))
    parser = AnswerParser()
    with pytest.raises(BadAnswer) as caught:
        parser.feed(ACCEPTED * 2 + raw)
    assert [(answer.status, times) for answer, times in caught.value.answers] == [(202, 1), (202, 1)]
    assert parser.feed(ACCEPTED) == []
    assert parser.eof() == []


def test_a_head_may_be_as_long_as_the_limit() -> None:
    head = b"HTTP/1.1 202 x\r\nContent-Length: 0\r\nX: \r\n\r\n"
    head = head.replace(b"X: ", b"X: " + b"a" * (MAX_HEAD - len(head)))
    assert statuses(AnswerParser(), head) == [202]
    assert statuses(AnswerParser(), head[:-1], head[-1:] + head) == [202, 202]


@given(
    st.lists(
        st.sampled_from(
            (
                *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"202", b" x", b"\r\n", b"\r\n\r\n", b"0", b"3", b"abc"),
                *(b"Content-Length: ", b"Transfer-Encoding: ", b"chunked", ACCEPTED, CHUNKED),
            )
        )
    )
)
def test_reading_anything_raises_nothing_but_bad_answer_and_cutting_changes_nothing(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    results = []
    for step in (len(raw) or 1, 1):
        parser = AnswerParser()
        got: list[int] = []
        try:
            for pos in range(0, len(raw), step):
                got += statuses(parser, raw[pos : pos + step])
            got += [answer.status for answer, _ in parser.eof()]
        except BadAnswer as error:
            got += [answer.status for answer, times in error.answers for _ in range(times)]
            got.append(-1)
        results.append(got)
    assert results[0] == results[1]
