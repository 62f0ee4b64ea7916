"""Messages to bytes: names, ids and bodies that may travel, and the exact head that they travel under."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor import PID
from compactor._version import VERSION
from compactor.pid import check_id
from compactor.wire.decoder import Decoder
from compactor.wire.encoder import as_bytes, check_name, decode_id, encode_head, encode_path
from compactor.wire.head import parse_head

SENDER = PID("127.0.0.1", 5050, "a(1)")


def test_the_head_of_a_message_is_exactly_this():
    assert encode_head(SENDER, PID("10.0.0.1", 80, "b(2)"), "pkg.Name") == (
        b"POST /b(2)/pkg.Name HTTP/1.1\r\n"
        b"Host: 10.0.0.1:80\r\n"
        b"Connection: Keep-Alive\r\n"
        b"User-Agent: compactor/" + VERSION.encode() + b"\r\n"
        b"Libprocess-From: a(1)@127.0.0.1:5050\r\n"
        b"Content-Length: "
    )


def test_a_message_without_a_sender_says_so_as_libprocess_does():
    assert b"\r\nLibprocess-From: @0.0.0.0:0\r\n" in encode_head(None, PID("10.0.0.1", 80, "b"), "x")


def test_the_host_of_an_ipv6_address_stands_in_brackets():
    assert b"\r\nHost: [::1]:80\r\n" in encode_head(SENDER, PID("::1", 80, "b"), "x")


@pytest.mark.parametrize(
    ("id_", "path"),
    [
        ("b", "/b/ping"),
        ("b(1)", "/b(1)/ping"),
        ("", "/ping"),
        ("a/b", "/a%2Fb/ping"),
        ("a?b#c", "/a%3Fb%23c/ping"),
        ("100%", "/100%25/ping"),
        ("\xe9", "/%C3%A9/ping"),
        ("a+b", None),
        ("a.b-c_d~e", "/a.b-c_d~e/ping"),
    ],
)
def test_only_what_would_break_the_request_line_is_escaped_in_an_id(id_, path):
    encoded = encode_path(id_, "ping")
    if path is not None:
        assert encoded == path
    if id_:
        assert decode_id(encoded.removesuffix("/ping")[1:]) == id_


@pytest.mark.parametrize("segment", ["%", "a%2", "%zz", "%e9", "%C3"])
def test_a_malformed_escape_in_an_id_is_an_error(segment):
    with pytest.raises(ValueError, match="the id"):
        decode_id(segment)


def test_a_plus_in_an_id_is_a_plus():
    assert decode_id("a+b") == "a+b"


@pytest.mark.parametrize("name", ["ping", "", "a.b/c", "../x", "p%69ng", "a&b=c;d", "~!$'()*,:@[]{}|\\^`\"<>"])
def test_printable_ascii_can_be_a_name(name):
    check_name(name)
    assert parse_head(encode_head(SENDER, PID("h", 1, "b"), name) + b"0\r\n\r\n").envelope.name == name


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\nb", "a\r\nX: y", "a?b", "a#b", "\xe9", "a\x00", "a\x7f", " "])
def test_a_name_that_would_break_or_shorten_the_request_line_is_a_value_error(name):
    with pytest.raises(ValueError, match="cannot be a message name"):
        check_name(name)


@pytest.mark.parametrize("name", [None, b"ping", 5])
def test_a_name_that_is_no_text_is_a_type_error(name):
    with pytest.raises(TypeError):
        check_name(name)


def test_bodies_are_bytes_of_any_kind_and_a_copy_of_what_can_change():
    changing = bytearray(b"body")
    for given_, bytes_ in ((None, b""), (b"body", b"body"), (changing, b"body"), (memoryview(changing)[1:], b"ody")):
        assert as_bytes(given_) == bytes_
        assert type(as_bytes(given_)) is bytes
    body = as_bytes(changing)
    changing[0] = 0
    assert body == b"body"


@pytest.mark.parametrize("body", ["text", 5, [1], object()])
def test_a_body_that_is_no_bytes_is_a_type_error_that_names_its_type(body):
    with pytest.raises(TypeError, match=type(body).__name__):
        as_bytes(body)


def is_id(text):
    try:
        check_id(text)
    except ValueError:
        return False
    return bool(text)


IDS = st.text(max_size=12).filter(is_id)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#"), max_size=12)


@given(IDS, IDS, NAMES, st.binary(max_size=100))
def test_whatever_can_be_sent_is_read_back_as_it_was(sender_id, id_, name, body):
    sender = PID("127.0.0.1", 5050, sender_id)
    raw = encode_head(sender, PID("127.0.0.1", 80, id_), name) + b"%d\r\n\r\n%b" % (len(body), body)
    decoder = Decoder()
    for _ in range(3):
        ((envelope, read),) = decoder.feed(raw)
        assert (envelope.sender, envelope.id, envelope.name, read) == (sender, id_, name, body)
