"""The strict reader of chunked bodies, with bytes cut anywhere."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.wire.chunked import FORBIDDEN_TRAILERS, MAX_CHUNK_LINE, MAX_TRAILERS, ChunkedBody
from compactor.wire.head import BadRequest

MIXED = (
    b'5;a=b;c;d="q \\" \t\xe9"\r\nhello\r\n000000000000000A\r\n0123456789\r\n1\r\n\r\r\n0;x\r\nVary: *\r\nX:\r\n\r\n'
)
MIXED_CONTENT = b"hello0123456789\r"


def read(*blocks: bytes, limit: int = 1 << 20) -> bytes:
    body = ChunkedBody(limit)
    for block in blocks:
        assert not body.done
        assert body.feed(block, 0) == len(block)
    assert body.done
    return body.take()


def bad(raw: bytes, limit: int = 1 << 20) -> int:
    """Return the status with which bytes are refused, the same whole and byte by byte."""
    statuses = set()
    for step in (len(raw), 1):
        with pytest.raises(BadRequest) as caught:
            read(*(raw[pos : pos + step] for pos in range(0, len(raw), step)), limit=limit)
        statuses.add(caught.value.status)
    (status,) = statuses
    return status


def test_a_body_is_the_same_however_its_bytes_are_cut() -> None:
    assert read(MIXED) == MIXED_CONTENT
    assert read(*(MIXED[i : i + 1] for i in range(len(MIXED)))) == MIXED_CONTENT
    for cut in range(1, len(MIXED)):
        assert read(MIXED[:cut], MIXED[cut:]) == MIXED_CONTENT


def test_reading_begins_where_it_is_told_and_stops_behind_the_body() -> None:
    raw = b"head" + MIXED + b"next"
    for cut in range(4, len(raw) + 1):
        body = ChunkedBody(1 << 20)
        pos = body.feed(raw[:cut], 4)
        if not body.done:
            assert pos == cut
            pos += body.feed(raw[cut:], 0)
        assert body.done
        assert raw[pos:] == b"next"
        assert body.feed(b"next", 0) == 0
        assert body.take() == MIXED_CONTENT


@given(st.lists(st.tuples(st.sampled_from([1, 2, 700, 1023, 1024, 5000]), st.integers(0, 255)), max_size=12), st.data())
def test_content_of_any_chunk_sizes_comes_out_whole(chunks: list[tuple[int, int]], data: st.DataObject) -> None:
    parts = [bytes([value]) * size for size, value in chunks]
    raw = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    blocks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert read(*blocks) == b"".join(parts)


def test_an_empty_body_is_a_last_chunk() -> None:
    assert read(b"0\r\n\r\n") == b""
    assert read(b"0000000000000000\r\n\r\n") == b""


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"x\r\n",
        b" 2\r\n",
        b"2 \r\n",
        b"+2\r\n",
        b"-2\r\n",
        b"0x2\r\n",
        b"0_2\r\n",
        b"00000000000000002\r\n",
        b"2\n",
        b"2\r\r\n",
        b"2;\r\n",
        b"2;;a\r\n",
        b"2 ;a\r\n",
        b"2; a\r\n",
        b"2;a =b\r\n",
        b"2;a=\r\n",
        b"2;=b\r\n",
        b'2;a="b\r\n',
        b'2;a="b"c\r\n',
        b'2;a="\x01"\r\n',
        b"2;a=\xe9\r\n",
        b"2;a\nb\r\n",
        b"2,a\r\n",
        b"\xb2\r\n",
    ],
)
def test_a_malformed_chunk_line_is_refused(line: bytes) -> None:
    assert bad(line + b"hi\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"!\r\n", b"\n0\r\n", b"\r0", b"\r\r\n"])
def test_a_chunk_ends_with_exactly_crlf(end: bytes) -> None:
    assert bad(b"2\r\nhi" + end) == 400


def test_the_limit_is_for_the_content_and_told_before_it_comes() -> None:
    assert read(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", limit=5) == b"abcde"
    assert bad(b"3\r\nabc\r\n3\r\n", limit=5) == 413
    assert bad(b"ffffffffffffffff\r\n") == 413


def test_a_chunk_line_is_bounded() -> None:
    longest = b"1;" + b"a" * (MAX_CHUNK_LINE - 4) + b"\r\n"
    assert read(longest + b"x\r\n0\r\n\r\n") == b"x"
    assert bad(longest.replace(b";", b";a")) == 400
    assert bad(b"1;" + b"a" * MAX_CHUNK_LINE) == 400


def test_trailers_are_bounded_together() -> None:
    line = b"X: " + b"a" * 95 + b"\r\n"
    last = b"Y: " + b"a" * (MAX_TRAILERS - 2 - 81 * len(line) - 5) + b"\r\n"
    assert read(b"0\r\n" + line * 81 + last + b"\r\n") == b""
    assert bad(b"0\r\n" + line * 81 + last.replace(b"Y", b"YY") + b"\r\n") == 400
    assert bad(b"0\r\n" + b"a" * MAX_TRAILERS) == 400


@pytest.mark.parametrize("line", [b" a: b", b"a : b", b"a", b": b", b"a: \x00", b"a: b\r", b"a: b\r\n c", b"\xe9: b"])
def test_a_malformed_trailer_is_refused(line: bytes) -> None:
    assert bad(b"0\r\n" + line + b"\r\n\r\n") == 400


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS))
def test_a_trailer_that_would_change_the_request_is_refused(name: bytes) -> None:
    assert bad(b"0\r\nX: 1\r\n" + name.title() + b": 1\r\n\r\n") == 400


def test_one_chunk_inside_one_block_is_handed_out_as_it_was_cut() -> None:
    content = b"x" * (1 << 20)
    block = b"100000\r\n" + content + b"\r\n0\r\n\r\n"
    body = ChunkedBody(1 << 20)
    tracemalloc.start()
    try:
        body.feed(block, 0)
        taken = body.take()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken == content
    assert peak < 1.5 * len(content)


def test_tiny_chunks_cost_little_more_than_their_content() -> None:
    block = b"2\r\nhi\r\n" * 1000
    body = ChunkedBody(1 << 20)
    tracemalloc.start()
    try:
        for _ in range(20):
            body.feed(block, 0)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 4 * 40_000


def test_content_that_is_not_kept_is_counted_and_not_held() -> None:
    body = ChunkedBody(1 << 20, keep=False)
    assert body.feed(MIXED, 0) == len(MIXED)
    assert body.done
    assert body.take() == b""


@given(st.lists(st.sampled_from([b"0", b"2", b"a", b";", b"=", b'"', b"\\", b"hi", b"\r\n", b"\r", b"\n", b": "])))
def test_reading_anything_raises_nothing_but_bad_request_and_cutting_changes_nothing(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    results = []
    for step in (len(raw) or 1, 1):
        body = ChunkedBody(100)
        used = 0
        try:
            for pos in range(0, len(raw), step):
                used += body.feed(raw[pos : pos + step], 0)
        except BadRequest as error:
            results.append((error.status, b""))
        else:
            results.append((used, body.take()))
    assert results[0] == results[1]
