"""The decoder of connections: however bytes are cut, and whether or not a head was seen before, the same comes out."""

import ast
import gzip
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import compactor.wire.decoder
from compactor import PID
from compactor.wire.decoder import Decoder, HeadBudget, Request, _HeadTable
from compactor.wire.encoder import encode_head
from compactor.wire.head import AGENT_COMPACTOR, AGENT_LIBPROCESS, AGENT_OTHER

DATA = Path(__file__).parent / "data"
RECEIVED = {
    case["case"]: ast.literal_eval(case["sent"])
    for case in json.loads((DATA / "libprocess-receiver.json").read_text())
    if ")..." not in case["sent"]  # the recording abbreviates long ones
}
SENT = {
    f"{name} {number}": b"".join(map(ast.literal_eval, connection))
    for name, connections in json.loads((DATA / "senders.json").read_text()).items()
    for number, connection in enumerate(connections)
}
VECTORS = {
    vector["name"]: vector["raw"].encode("latin-1")
    for vector in map(json.loads, (DATA / "llhttp.jsonl").read_text().splitlines())
}
RECORDED = {**RECEIVED, **SENT, **VECTORS}
LIMIT = 1 << 20
START = b"POST /b/ping HTTP/1.1\r\nLibprocess-From: a@127.0.0.1:5050\r\n"


class Forgetful(_HeadTable):
    """A head table that never remembers, so that every head goes the strict way."""

    def offer(self, key, entry):
        pass


def strict_decoder(limit=LIMIT):
    decoder = Decoder(body_limit=limit)
    decoder._table = Forgetful(HeadBudget())
    return decoder


def shown(item):
    """One item as a value that can be compared; None for what depends on how the bytes were cut."""
    what, body = item
    if not isinstance(what, Request):
        return ("message", str(what.sender), what.id, what.name, body)
    if what.expects:
        return None
    envelope = what.envelope and (str(what.envelope.sender), what.envelope.id, what.envelope.name)
    refusal = what.refusal and what.refusal.status
    return ("request", what.head.method, what.head.target, what.head.headers, what.body, envelope, refusal)


def feed(decoder, *blocks):
    """Return what comes out as values, and the state at the end."""
    items = []
    for block in blocks:
        items += filter(None, map(shown, decoder.feed(block)))
    return items, (decoder.error and decoder.error.status, decoder.closing, decoder.idle)


def bodies(decoder, *blocks):
    return [item[-1] for item in feed(decoder, *blocks)[0]]


def bytewise(raw):
    return [raw[i : i + 1] for i in range(len(raw))]


def by_length(body, head=START):
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def by_chunk(body, head=START):
    """As libprocess does: one chunk, or nothing at all."""
    if not body:
        return head + b"\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


# ---- cut anywhere, seen before or not


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_bytes_mean_the_same_whole_byte_by_byte_and_cut_in_two_anywhere(name):
    raw = RECORDED[name]
    items, (error, closing, idle) = feed(strict_decoder(), raw)
    assert feed(Decoder(body_limit=LIMIT), *bytewise(raw)) == (items, (error, closing, idle))
    for cut in range(1, len(raw)):
        assert feed(Decoder(body_limit=LIMIT), raw[:cut], raw[cut:]) == (items, (error, closing, idle)), cut


@pytest.mark.parametrize("name", SENT)
def test_the_same_bytes_for_the_fifth_time_mean_what_they_meant_at_first_wherever_they_are_cut(name):
    raw = SENT[name]
    strict = feed(strict_decoder(), raw)
    decoder = Decoder()
    for cut in range(len(raw)):
        if strict[1][0] is not None:
            decoder = Decoder()
        assert feed(decoder, raw[:cut], raw[cut:]) == strict


@pytest.mark.parametrize("form", [by_length, by_chunk])
def test_many_messages_in_one_block_come_out_in_order(form):
    sent = [b"%d" % number * (number % 5) for number in range(1000)]
    block = b"".join(form(body) for body in sent)
    assert bodies(Decoder(), block, block) == sent * 2
    assert bodies(Decoder(), *(block[i : i + 997] for i in range(0, len(block), 997))) == sent


LENGTHS = st.one_of(
    st.sampled_from([b"0", b"2", b"02", b"2", b"3", b"5000", b"1048577", b"99999999999999999999", b"2\r\nX: y"]),
    st.sampled_from([b"%0*d" % (width, 2) for width in (14, 15, 16, 19, 20)]),
    st.sampled_from([b"+2", b"-2", b" 2", b"\t2", b"2 ", b"2\t", b"", b"1_0", b"0x2", b"2,2", b"2 2", b"\xb2"]),
)
CODINGS = st.sampled_from([b"chunked", b"Chunked", b"chunked ", b"gzip", b"", b"xchunked", b"chunked\r\nX: y z"])
CHUNKS = st.builds(
    lambda chunk, end: chunk + end,
    st.sampled_from([b"2\r\nhi\r\n", b"2\r\nhi\r\n1\r\n!\r\n", b"02\r\nhi\r\n", b"2;x=y\r\nhi\r\n"])
    | st.sampled_from([b"", b"zz\r\nhi\r\n", b"2 \r\nhi\r\n", b"+2\r\nhi\r\n", b"fffff1\r\n", b"2\nhi\n"])
    | st.sampled_from([b"A\r\n0123456789\r\n", b"2\r\nhiX\r\n"]),
    st.sampled_from([b"0\r\n\r\n", b"0\r\n\r\n", b"00\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0;x\r\n\r\n", b"0\n\n", b""]),
)
PATHS = st.sampled_from([b"/b/ping", b"/b%28/ping", b"/b%2/ping", b"http://x/b/ping", b"/b/__link__", b"/b"])
FIRST_FIELDS = st.one_of(
    st.sampled_from([b"", b"Host: x\r\n", b"Connection: close\r\n", b"Content-Encoding: gzip\r\n"]),
    st.sampled_from([b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"X:\xe9 \r\n", b"Content-Length: 2\r\n"]),
    st.just(b"Libprocess-From: b@h:1\r\n"),
)
BEGINNINGS = st.builds(
    lambda before, path, fields: before + START.replace(b"/b/ping", path) + fields,
    st.sampled_from([b"", b"", b"", b"\r\n", b"\r\n\r\n"]),
    PATHS,
    FIRST_FIELDS,
)
MESSAGES = st.one_of(
    st.builds(lambda begin, length: begin + b"Content-Length: " + length + b"\r\n\r\nhi", BEGINNINGS, LENGTHS),
    st.builds(
        lambda begin, coding, body: begin + b"Transfer-Encoding: %b\r\n\r\n%b" % (coding, body),
        BEGINNINGS,
        CODINGS,
        CHUNKS,
    ),
    st.builds(lambda begin: begin + b"\r\n", BEGINNINGS),
    st.just(b"GET /b/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    st.sampled_from([b"garbage\r\n\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n bad", b"\r", b"\n"]),
)
GOOD = [by_length(b"hi"), by_chunk(b"hi"), START + b"\r\n", by_length(b"x" * 70)]
STREAMS = st.tuples(
    st.lists(st.sampled_from(GOOD), max_size=8),
    st.lists(MESSAGES, min_size=1, max_size=3),
    st.lists(st.sampled_from(GOOD), max_size=3),
).map(lambda parts: b"".join(b"".join(part) for part in parts))


def cut(raw, cuts):
    places = [0, *sorted(place % (len(raw) + 1) for place in cuts), len(raw)]
    return [raw[begin:end] for begin, end in itertools.pairwise(places)]


@settings(max_examples=400, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 5000), max_size=6))
@example(by_length(b"hi") * 3 + b"\r\n" + START + b"Content-Length: 02\r\n\r\nhi", [])
def test_remembered_heads_and_the_strict_way_give_the_same(stream, cuts):
    warm = b"".join(GOOD) * 3
    blocks = cut(warm + stream, cuts)
    fast, strict = Decoder(body_limit=LIMIT), strict_decoder()
    for block in blocks:
        # Block by block, so that an answer or an error does not come later on either way.
        assert feed(fast, block) == feed(strict, block)
    whole, strict_whole = Decoder(body_limit=LIMIT), strict_decoder()
    assert feed(whole, warm + stream) == feed(strict_whole, warm + stream)


@settings(max_examples=300, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 5000), max_size=6))
def test_generated_bytes_mean_the_same_however_they_are_cut(stream, cuts):
    items, (error, closing, _) = feed(Decoder(body_limit=LIMIT), stream)
    cut_items, (cut_error, cut_closing, _) = feed(Decoder(body_limit=LIMIT), *cut(stream, cuts))
    assert cut_items == items
    assert (cut_error is None, cut_closing) == (error is None, closing)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(GOOD), min_size=4, max_size=8), st.integers(0, 5000), st.integers(0, 255))
def test_one_changed_byte_changes_the_same_on_both_ways(messages, place, byte):
    warm, raw = b"".join(GOOD) * 3, bytearray(b"".join(messages))
    raw[place % len(raw)] = byte
    assert feed(Decoder(body_limit=LIMIT), warm, bytes(raw)) == feed(strict_decoder(), warm, bytes(raw))


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_feeding_anything_raises_nothing(blocks):
    decoder = Decoder()
    for block in blocks:
        decoder.feed(block)
    assert decoder.error is None or decoder.feed(by_length(b"hi")) == []


# ---- what is remembered


@pytest.fixture
def parsed(monkeypatch):
    """Return the list of all heads that the strict parser has seen."""
    heads = []
    parse_head = compactor.wire.decoder.parse_head

    def parse(head):
        heads.append(head)
        return parse_head(head)

    monkeypatch.setattr(compactor.wire.decoder, "parse_head", parse)
    return heads


@pytest.mark.parametrize("raw", [*GOOD, SENT["02_link_ping 0"], SENT["10_empty_body 0"], SENT["11_body_1023 0"]])
def test_a_head_is_parsed_twice_and_then_known(raw, parsed):
    decoder = Decoder()
    assert len(bodies(decoder, *[raw] * 10)) == 10
    assert len(parsed) == 2


def test_the_length_is_no_part_of_what_is_known(parsed):
    sent = [b"x" * length for length in (0, 1, 10, 4096, 4097, 100_000)]
    assert bodies(Decoder(), *map(by_length, sent * 2)) == sent * 2
    assert len(parsed) == 2


@pytest.mark.parametrize(
    "raw",
    [
        START + b"Content-Length: 2\r\nX: y\r\n\r\nhi",
        START + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        START + b"Content-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi",
        by_length(b"hi", START.replace(b"/b/", b"/__ask__1/")),
        by_length(b"hi", START.replace(b" a@", b" __ask__1@")),
        by_length(b"hi", START + b"X: " + b"x" * 1024 + b"\r\n"),
    ],
)
def test_heads_that_vary_or_come_once_or_are_long_are_not_remembered(raw, parsed):
    decoder = Decoder()
    assert len(bodies(decoder, *[raw] * 5)) == 5
    assert len(parsed) == 5


def test_a_control_message_is_never_taken_for_a_plain_one():
    raw = by_length(b"hi", START.replace(b"/ping", b"/__link__"))
    decoder = Decoder()
    for _ in range(4):
        ((request, nothing),) = decoder.feed(raw)
        assert nothing is None
        assert (request.envelope.name, request.body, request.id) == ("__link__", b"hi", None)


def test_what_all_connections_remember_together_is_bounded_and_each_keeps_a_small_share():
    budget = HeadBudget(limit=100_000)
    decoders = [Decoder(budget) for _ in range(10)]
    for decoder in decoders:
        for number in range(200):
            raw = by_length(b"hi", START + b"X: %d\r\n" % number)
            assert bodies(decoder, raw, raw) == [b"hi", b"hi"]
    assert 0 < budget.used <= 100_000 + len(decoders) * _HeadTable.FLOOR
    assert all(decoder._table.entries for decoder in decoders)
    for decoder in decoders:
        decoder.close()
    assert budget.used == 0


def test_a_flood_of_different_heads_does_not_grow_one_connection_beyond_its_share():
    budget = HeadBudget()
    decoder = Decoder(budget)
    for number in range(10_000):
        raw = by_length(b"hi", START + b"X: %d\r\n" % number)
        decoder.feed(raw + raw)
    assert 0 < budget.used <= 1024 * 1024
    assert len(decoder._table._seen) <= 4096


# ---- states


def test_a_decoder_is_idle_between_requests_only():
    decoder = Decoder()
    assert decoder.idle
    for raw in (by_length(b"hi"), by_chunk(b"hi")):
        for byte in bytewise(raw)[:-1]:
            decoder.feed(byte)
            assert not decoder.idle
        decoder.feed(raw[-1:])
        assert decoder.idle


@pytest.mark.parametrize("last", [b"Connection: close\r\n", b""])
def test_nothing_is_read_behind_a_request_that_ends_the_connection(last):
    version = b"1.1" if last else b"1.0"
    raw = by_length(b"hi", START.replace(b"1.1", version) + last)
    decoder = Decoder()
    ((request, _),) = decoder.feed(raw + by_length(b"no"))
    assert (request.envelope.name, request.body) == ("ping", b"hi")
    assert decoder.closing
    assert decoder.error is None
    assert decoder.feed(by_length(b"no")) == []


def test_nothing_is_read_behind_an_error():
    decoder = Decoder()
    assert bodies(decoder, by_length(b"hi") + b"garbage\r\n\r\n" + by_length(b"no"), by_length(b"no")) == [b"hi"]
    assert decoder.error.status == 400


def test_a_hopeless_beginning_is_told_at_once_also_behind_remembered_heads_that_came_in_pieces():
    decoder = Decoder()
    raw = by_length(b"hi", START + b"X: " + b"x" * 200 + b"\r\n")
    decoder.feed(raw * 3)
    decoder.feed(raw[:-20])
    assert bodies(decoder, raw[-20:]) == [b"hi"]
    decoder.feed(b"\x16\x03\x01" + bytes(100))
    assert decoder.error.status == 400


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("form", [by_length, by_chunk])
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(form, times):
    decoder = Decoder(body_limit=100)
    assert bodies(decoder, *[form(b"x" * 100)] * times) == [b"x" * 100] * times
    assert bodies(decoder, form(b"x" * 101)) == []
    assert decoder.error.status == 413


def test_a_body_over_the_limit_is_refused_before_it_comes():
    decoder = Decoder(body_limit=100)
    assert decoder.feed(START + b"Content-Length: 101\r\n\r\n") == []
    assert decoder.error.status == 413


def test_a_client_that_waits_for_100_continue_is_reported_once_before_its_body():
    raw = START + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
    decoder = Decoder()
    ((request, _),) = decoder.feed(raw[:-2])
    assert request.expects
    assert bodies(decoder, raw[-2:]) == [b"hi"]
    ((_, body),) = decoder.feed(raw)  # the body is there: nobody waits
    assert body == b"hi"


def test_a_gzip_body_is_inflated_within_the_limit_or_refused_and_the_connection_goes_on():
    def packed(body):
        return by_length(body, START + b"Content-Encoding: gzip\r\n")

    whole = gzip.compress(b"x" * 100)
    decoder = Decoder(body_limit=100)
    assert feed(decoder, packed(whole))[0] == [("message", "a@127.0.0.1:5050", "b", "ping", b"x" * 100)]
    for broken, status in (
        (whole[:-1], 400),
        (whole + b"x", 400),
        (b"x" + whole, 400),
        (b"", 400),
        (gzip.compress(b"x" * 101), 413),
        (gzip.compress(bytes(50_000)), 413),
    ):
        ((request, _),) = decoder.feed(packed(broken))
        assert request.refusal.status == status
    assert decoder.error is None
    assert bodies(decoder, by_length(b"hi")) == [b"hi"]


@pytest.mark.parametrize(
    ("fields", "agent"),
    [
        (b"", AGENT_OTHER),
        (b"User-Agent: libprocess/a@127.0.0.1:5050\r\n", AGENT_LIBPROCESS),
        (b"User-Agent: compactor/9\r\n", AGENT_COMPACTOR),
    ],
)
def test_the_decoder_tells_what_kind_of_peer_sends(fields, agent):
    decoder = Decoder()
    assert decoder.agent is None
    decoder.feed(by_length(b"hi", START + fields))
    assert decoder.agent == agent


def test_a_large_body_in_many_pieces_is_joined_once(monkeypatch):
    body = bytes(range(256)) * 40_000
    raw = by_length(body)
    decoder = Decoder()
    pieces = [raw[i : i + 60_000] for i in range(0, len(raw), 60_000)]
    assert [item for piece in pieces[:-1] for item in decoder.feed(piece)] == []
    assert decoder._parts[1] is pieces[1]  # kept as they came, not added to one another
    assert bodies(decoder, pieces[-1]) == [body]


# ---- heads of our own, which have a short way


def taken(data, monkeypatch, short):
    """What a decoder makes of some bytes, with the short way or without it."""
    with monkeypatch.context() as patch:
        if not short:
            patch.setattr(compactor.wire.decoder, "_plain_head", lambda data, pos, stop: None)
        decoder = Decoder()
        items = [
            (what.sender, what.id, what.name, body) if body is not None else (what.head.method, what.refusal, what.body)
            for what, body in decoder.feed(data)
        ]
        error = decoder.error and decoder.error.status
        return items, error, decoder.closing, decoder.agent, decoder.idle


OUR_IDS = ["echo", "slave(1)", "__ask__1f-2", "a+b", "a%20b", "-", "a b", "", "ünï", "a/b", "a;b,c=d"]
OUR_NAMES = ["ping", "", "a/b", "m.internal.Ping", "__link__", "__exited__", "p%69ng", "a@b", "x?y", "x#y", "x y"]


@pytest.mark.parametrize("id_", OUR_IDS)
@pytest.mark.parametrize("name", OUR_NAMES)
def test_a_head_of_our_own_means_the_same_by_the_short_way(id_, name, monkeypatch):
    target = f"/{id_}/{name}".encode()
    head = encode_head(PID("127.0.0.1", 9, "me"), PID("127.0.0.1", 8, "x"), "n").replace(b"/x/n", target)
    for length in (b"2\r\n\r\nhi", b"02\r\n\r\nhi", b"+2\r\n\r\nhi", b"3\r\n\r\nhi", b"\r\n\r\nhi"):
        data = head + length
        assert taken(data, monkeypatch, True) == taken(data, monkeypatch, False)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_head_of_our_own_with_some_bytes_changed_means_the_same_by_the_short_way(data, monkeypatch):
    head = bytearray(encode_head(PID("10.0.0.1", 5051, "me(1)"), PID("127.0.0.1", 80, "you"), "name") + b"2\r\n\r\nhi")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(head) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "add"]))
        byte = data.draw(st.one_of(st.sampled_from(b" \t\r\n:/@%?#+0"), st.integers(0, 255)))
        if change == "set":
            head[place] = byte
        elif change == "cut":
            del head[place]
        else:
            head.insert(place, byte)
    assert taken(bytes(head), monkeypatch, True) == taken(bytes(head), monkeypatch, False)


def test_heads_of_questions_take_the_short_way(monkeypatch):
    monkeypatch.setattr(compactor.wire.decoder, "parse_head", None)
    asker, asked = PID("127.0.0.1", 9, "__ask__0f3a-1c"), PID("127.0.0.1", 8, "echo(1)")
    question = encode_head(asker, asked, "ping") + b"2\r\n\r\nhi"
    answer = encode_head(asked, asker, "pong") + b"0\r\n\r\n"
    assert [(what.name, body) for what, body in Decoder().feed(question + answer)] == [("ping", b"hi"), ("pong", b"")]
