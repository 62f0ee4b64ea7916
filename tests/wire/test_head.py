"""The strict parser of request heads, against recorded peers, llhttp's vectors and inputs of our own."""

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.pid import NOBODY, PID
from compactor.wire.chunked import ChunkedBody
from compactor.wire.head import (
    AGENT_COMPACTOR,
    AGENT_LIBPROCESS,
    AGENT_OTHER,
    MAX_HEAD,
    BadRequest,
    Head,
    early_error,
    parse_head,
)

DATA = Path(__file__).parent / "data"
VECTORS = [json.loads(line) for line in (DATA / "llhttp.jsonl").read_text().splitlines()]
RECEIVED = json.loads((DATA / "libprocess-receiver.json").read_text())
SENDERS = json.loads((DATA / "senders.json").read_text())
SENDER = "Libprocess-From: a@127.0.0.1:5050\r\n"


def read(raw: bytes) -> tuple[list[tuple[Head, bytes]], str]:
    """Read requests as a connection would; the end is "between", "waits", "closes" or "bad <status>"."""
    requests: list[tuple[Head, bytes]] = []
    pos = 0
    try:
        while True:
            while raw.startswith(b"\r\n", pos):
                pos += 2
            if pos == len(raw):
                return requests, "between"
            end = raw.find(b"\r\n\r\n", pos) + 4
            if end < 4:
                error = early_error(raw[pos:])
                return requests, f"bad {error.status}" if error else "waits"
            head = parse_head(raw[pos:end])
            if head.chunked:
                chunks = ChunkedBody(1 << 30)
                pos = chunks.feed(raw, end)
                if not chunks.done:
                    return requests, "waits"
                body = chunks.take()
            else:
                pos = end + head.length
                if pos > len(raw):
                    return requests, "waits"
                body = raw[end:pos]
            requests.append((head, body))
            if not head.persistent:
                return requests, "closes"
    except BadRequest as error:
        return requests, f"bad {error.status}"


def message(path: str = "/b/ping", headers: str = SENDER, version: str = "1.1", method: str = "POST") -> Head:
    return parse_head(f"{method} {path} HTTP/{version}\r\n{headers}\r\n".encode("latin-1"))


def request(headers: str = "Host: a\r\n", target: str = "/", version: str = "1.1", method: str = "GET") -> Head:
    return message(target, headers, version, method)


def bad(head: str | bytes) -> int:
    """Return the status with which a head is refused."""
    with pytest.raises(BadRequest) as caught:
        parse_head(head.encode("latin-1") if isinstance(head, str) else head)
    return caught.value.status


# ---- llhttp's vectors

REFUSED = {
    "method.md: M-SEARCH request": "bad 400",  # `*` belongs to OPTIONS only (RFC 9112, 3.2.4)
    "method.md: SOURCE request with ICE": "bad 400",  # not HTTP
    "method.md: OPTIONS request with RTSP": "bad 400",  # not HTTP
    "method.md: ANNOUNCE request with RTSP": "bad 400",  # not HTTP
    "sample.md: No HTTP version": "bad 400",  # HTTP/0.9
    # Well framed, with a transfer coding that is not implemented (RFC 9112, 6.1):
    "transfer-encoding.md: POST with `chunked` as last transfer-encoding": "bad 501",
    "transfer-encoding.md: POST with `chunked` as last transfer-encoding (multiple headers)": "bad 501",
}
"""What llhttp accepts and we do not, once a Host is there."""


def with_host(raw: str) -> bytes:
    """Most vectors lack the Host that HTTP/1.1 asks for: give it, so that they test what they were written for."""
    if "\nhost:" not in raw.lower():
        raw = raw.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n")
    return raw.encode("latin-1")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_each_vector_of_llhttp_comes_out_as_it_must(vector: dict[str, str]) -> None:
    requests, end = read(with_host(vector["raw"]))
    if vector["name"] in REFUSED:
        assert end == REFUSED[vector["name"]]
    elif vector["expect"] == "accept":
        assert requests
        assert not end.startswith("bad")
    elif vector["expect"] == "incomplete":
        assert (requests, end) == ([], "waits")
    else:
        assert end.startswith("bad") or (end == "closes" and vector["kind"].startswith("Data after"))


def test_an_ordinary_request_of_http_1_1_needs_a_host() -> None:
    hostless = [
        vector
        for vector in VECTORS
        if vector["expect"] == "accept" and " HTTP/1.1\r\n" in vector["raw"] and "\nhost:" not in vector["raw"].lower()
    ]
    assert len(hostless) > 20
    assert {read(vector["raw"].encode("latin-1"))[1] for vector in hostless} == {"bad 400"}


# ---- what a C++ process was sent, and what it took

HOSTLESS = "an ordinary HTTP/1.1 request needs a Host"
NO_PID = "a sender that is no PID is refused, never guessed"
DIFFERENCES = {
    "d_agent_no_pid": ("refused 400", NO_PID),
    "g_chunked_bad": ("bad 400", "what follows broken framing cannot be read: the connection closes at once"),
    "g_chunked_bad_then_good": ("bad 400", "what follows broken framing cannot be read: the connection closes at once"),
    "g_chunked_many": ("accepted", "trailers are legal; C++ has a TODO there"),
    "g_chunked_trailer": ("accepted", "trailers are legal; C++ has a TODO there"),
    "g_short_body": ("waits", "the end of the stream is not the codec's to see"),
    "h_http20": ("bad 505", "HTTP/2.0 is another protocol"),
    "i_folded_header": ("bad 400", "folded lines are obsolete and read differently by different peers"),
    "i_good_then_garbage": ("bad 400", "garbage ends the connection, in whichever block it came"),
    "i_half_then_close": ("waits", "the end of the stream is not the codec's to see"),
    "i_lf_only": ("bad 400", "lines end with CRLF"),
    "i_no_version": ("bad 400", "no HTTP/0.9"),
    "k_pid_bad_port": ("refused 400", NO_PID),
    "k_pid_big_port": ("refused 400", "C++ takes the port modulo 65536"),
    "k_pid_empty": ("refused 400", NO_PID),
    "k_pid_garbage": ("refused 400", NO_PID),
    "k_pid_bad_from_good_agent": ("refused 400", NO_PID),
    "k_pid_no_port": ("refused 400", NO_PID),
    "k_pid_space": ("refused 400", NO_PID),
    "k_pid_trailing": ("refused 400", "C++ ignores what follows the digits of the port"),
    "k_pid_two_at": ("refused 400", NO_PID),
    "l_utf8_name": ("bad 400", "targets are ASCII"),
    "n_get_metrics_gzip": ("bad 400", HOSTLESS),
    "n_get_processes_jsonp": ("bad 400", HOSTLESS),
    "n_get_help_html": ("bad 400", HOSTLESS),
    "n_head_hello": ("bad 400", HOSTLESS),
    "m_get_percent_id": ("bad 400", HOSTLESS),
    "h_get_close": ("bad 400", HOSTLESS),
    "z_still_works": ("bad 400", HOSTLESS),
    "o_pipelined": ("bad 400", HOSTLESS),
    "p_get_with_from": ("bad 400", HOSTLESS),
    "p_put_with_from": ("bad 400", HOSTLESS),
    "p_dup_from": ("bad 400", "C++ believes the last of two senders"),
    "i_star": ("accepted", "a path that nobody serves is the router's to refuse"),
    "n_get_profiler": ("accepted", "the 400 is the route's own"),
}
"""By case: what becomes of it here, and why that is not what C++ did."""

SENDER_READ_DIFFERENTLY = {
    "k_pid_bad_host": "client@no.such.host.invalid:5050",  # C++ looks names up while it parses
    "k_pid_localhost": "client@localhost:44027",
    "k_pid_ipv6": "client@[::1]:38545",  # C++ knows IPv4 only
}

TRAILERS_READ = {"g_chunked_many": 13, "g_chunked_trailer": 2}
"""The lengths of messages that C++ does not take, for their trailers."""


def outcome(raw: bytes) -> str:
    requests, end = read(raw)
    if end.startswith("bad") or (end == "waits" and not requests):
        return end
    refusals = [head.refusal for head, _ in requests if head.refusal is not None]
    return f"refused {refusals[0].status}" if refusals else "accepted"


GARBAGE_AFTER_A_MESSAGE = ("i_garbage_then_good", "i_short_length", "i_good_then_garbage_split", "i_good_then_garbage")
"""The message before it is delivered; but for the last, C++ then closes as we do."""


def recorded_outcome(case: dict[str, str]) -> str:
    if case["case"] in GARBAGE_AFTER_A_MESSAGE[:-1]:
        return "bad"
    if case["answer"] == "b''":
        return "waits" if case["connection_after"].startswith("open") else "bad"
    status = int(case["answer"].split(" ")[1])
    return "accepted" if status < 300 or status == 404 else "refused"


def whole(case: dict[str, object]) -> bytes | None:
    """The bytes of a case, None where the recording abbreviates them."""
    if ")..." in str(case["sent"]):
        return None
    raw = ast.literal_eval(str(case["sent"]))
    assert len(raw) == case["sent_bytes"]
    return raw or None


CASES = {case["case"]: case for case in RECEIVED if whole(case) is not None}


@pytest.mark.parametrize("name", CASES)
def test_each_recorded_request_is_taken_or_refused_as_a_c_process_did_or_as_the_table_says(name: str) -> None:
    case = CASES[name]
    ours = outcome(whole(case) or b"")
    recorded = recorded_outcome(case)
    if name in DIFFERENCES:
        assert ours == DIFFERENCES[name][0]
        assert ours.split()[0] != recorded
    else:
        assert ours.split()[0] == recorded


@pytest.mark.parametrize("name", CASES)
def test_each_recorded_message_is_read_as_a_c_process_read_it(name: str) -> None:
    case = CASES[name]
    seen = []
    for head, body in read(whole(case) or b"")[0]:
        envelope = head.envelope
        if envelope is not None and envelope.id in ("echo", "echo(1)"):
            length = 2 if head.gzip else len(body)
            seen.append((envelope.name, str(envelope.sender), envelope.id, length))
    expected = []
    for line in case["saw"]:
        if line.startswith("SAW message") and 'name="pong"' not in line:
            parts = dict(part.split("=", 1) for part in line.split(" ")[2:6])
            sender = SENDER_READ_DIFFERENTLY.get(name, parts["from"].strip('"'))
            id_ = parts["to"].strip('"').split("@")[0]
            expected.append((parts["name"].strip('"'), sender, id_, int(parts["length"])))
    if DIFFERENCES.get(name, ("accepted",))[0] != "accepted" and name not in (*GARBAGE_AFTER_A_MESSAGE, "o_pipelined"):
        expected = []
    if name in TRAILERS_READ:
        expected = [("ping", seen[0][1], "echo", TRAILERS_READ[name])]
    assert seen == expected


@pytest.mark.parametrize("name", SENDERS)
def test_everything_that_recorded_peers_send_is_a_message(name: str) -> None:
    for connection in SENDERS[name]:
        requests, end = read(b"".join(map(ast.literal_eval, connection)))
        if name == "19_name_space":  # its sender broke the request line: C++ does not check names
            assert (requests, end) == ([], "bad 400")
            continue
        assert requests
        assert end == "between"
        for head, _ in requests:
            if name == "13_id_odd":  # `a%20b`: no id of ours has a space
                assert head.refusal is not None
            else:
                assert head.envelope is not None
                assert head.cacheable
            assert head.agent == (AGENT_OTHER if name == "mesos-go-sender" else AGENT_LIBPROCESS)


# ---- lines and characters


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno header\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nn\xe9: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nn: \x00\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nn: \x0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nn: \x7f\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nx",
        "",
    ],
)
def test_a_broken_line_is_refused(head: str) -> None:
    assert bad(head) == 400


def test_bytes_above_ascii_may_stand_in_values_and_come_out_as_latin_1() -> None:
    assert request("Host: a\r\nX:\t \xfc x\t \r\nY: \r\nZ:\r\n").headers == [
        ("Host", "a"),
        ("X", "\xfc x"),
        ("Y", ""),
        ("Z", ""),
    ]


@pytest.mark.parametrize("version", ["2.0", "1.2", "0.9", "1.10", "11.1"])
def test_another_version_of_http_is_answered_505(version: str) -> None:
    assert bad(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n") == 505


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://:80/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://u@/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://[::g]/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://[:::]/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_a_method_or_target_that_is_not_served_is_refused(head: str, status: int) -> None:
    assert bad(head) == status


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a/b?x=1?y#z", "/a/b", "x=1?y"),
        ("/a#b?c", "/a", ""),
        ("//a", "//a", ""),
        ("http://a", "/", ""),
        ("HTTPS://a:1/b?c", "/b", "c"),
        ("http://[::1]:80?c", "/", "c"),
    ],
)
def test_a_target_is_split_into_path_and_query(target: str, path: str, query: str) -> None:
    head = request(target=target)
    assert (head.target, head.path, head.query) == (target, path, query)


def test_options_may_ask_about_the_server_as_a_whole() -> None:
    assert request(target="*", method="OPTIONS").path == "*"


def test_a_head_may_be_as_long_as_the_limit_and_no_longer() -> None:
    empty = f"POST /b/ping HTTP/1.1\r\n{SENDER}X: \r\n\r\n"
    filled = empty.replace("X: ", "X: " + "a" * (MAX_HEAD - len(empty)))
    assert parse_head(filled.encode()).envelope is not None
    assert bad(filled.replace("X: ", "X: a")) == 431


def test_a_head_may_have_a_thousand_lines_and_no_more() -> None:
    assert len(message(headers=SENDER + "X: 1\r\n" * 999).headers) == 1000
    assert bad("POST /b/ping HTTP/1.1\r\n" + SENDER + "X: 1\r\n" * 1000 + "\r\n") == 431


# ---- framing


@pytest.mark.parametrize("value", ["", "+5", "-5", "5_0", "5 0", "5,5", "0x5", "5.0", "\xb2", "1" * 20])
def test_a_content_length_that_is_not_digits_only_is_refused(value: str) -> None:
    assert bad(f"POST /b/ping HTTP/1.1\r\n{SENDER}Content-Length: {value}\r\n\r\n") == 400


def test_a_content_length_may_have_leading_zeros_and_white_space_around() -> None:
    head = message(headers=SENDER + "content-LENGTH: \t 007 \t\r\n")
    assert (head.has_length, head.length, head.chunked) == (True, 7, False)


def test_without_a_length_there_is_no_body() -> None:
    head = message()
    assert (head.has_length, head.length, head.chunked) == (False, 0, False)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunkedchunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: , chunked\r\n",
        'Transfer-Encoding: "chunked"\r\n',
        "Transfer-Encoding: chunked;q=1\r\n",
    ],
)
def test_ambiguous_framing_is_refused(headers: str) -> None:
    assert bad(f"POST /b/ping HTTP/1.1\r\n{SENDER}{headers}\r\n") == 400


@pytest.mark.parametrize("headers", ["gzip, chunked", "gzip\r\nTransfer-Encoding: chunked"])
def test_a_transfer_coding_below_chunked_is_not_implemented(headers: str) -> None:
    assert bad(f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {headers}\r\n\r\n") == 501


def test_chunked_is_known_in_any_case_and_with_white_space() -> None:
    assert request("Host: a\r\nTransfer-Encoding: \t Chunked \r\n").chunked


def test_on_http_1_0_only_messages_may_be_chunked() -> None:
    assert message(headers=SENDER + "Transfer-Encoding: chunked\r\n", version="1.0").chunked
    assert bad("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("version", "headers", "persistent"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: Close\r\n", False),
        ("1.1", "Connection: x, close\r\n", False),
        ("1.1", "Connection: x\r\nConnection: close\r\n", False),
        ("1.1", "Connection: closed\r\n", True),
        ("1.0", "", False),
        ("1.0", "Connection: x ,\tKEEP-alive\r\n", True),
        ("1.0", "Connection: keep-alive, close\r\n", False),
        ("1.0", "Connection: close\r\n", False),
    ],
)
def test_the_connection_goes_on_as_version_and_connection_say(version: str, headers: str, persistent: bool) -> None:
    assert message(headers=SENDER + headers, version=version).persistent is persistent


# ---- Host and Expect


@pytest.mark.parametrize("host", ["", "a", "a:80", "1.2.3.4:5", "[::1]", "[::1]:80", "0.0.0.0=5000", "a%20b", "a:"])
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(host: str) -> None:
    assert request(f"Host: {host}\r\n").headers == [("Host", host)]


@pytest.mark.parametrize("host", ["a b", "a/b", "u@a", "a:b", "::1", "[::1", "[]", "[1]", "a%2", "\xe9", "a:1:2"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_malformed_host_is_refused_but_not_on_a_message(host: str, version: str) -> None:
    assert bad(f"GET / HTTP/{version}\r\nHost: {host}\r\n\r\n") == 400
    assert message(headers=f"{SENDER}Host: {host}\r\n", version=version).envelope is not None


def test_two_hosts_are_refused_even_when_they_are_equal() -> None:
    assert bad("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n") == 400
    assert bad("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n") == 400
    assert bad(f"POST /b/ping HTTP/1.1\r\n{SENDER}Host: a\r\nHost: a\r\n\r\n") == 400


def test_http_1_0_needs_no_host() -> None:
    assert request("", version="1.0").minor == 0


def test_only_100_continue_can_be_expected() -> None:
    assert request("Host: a\r\nExpect: 100-Continue\r\n").expect_continue
    assert not request("Expect: 100-continue\r\n", version="1.0").expect_continue
    assert not request().expect_continue
    assert bad("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n") == 417
    assert bad("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n") == 417


# ---- messages


def test_a_message_says_who_sends_what_to_whom() -> None:
    envelope = message("/b(1)/a.b/c?x#y").envelope
    assert envelope is not None
    assert (envelope.sender, envelope.id, envelope.name) == (PID("127.0.0.1", 5050, "a"), "b(1)", "a.b/c")


@pytest.mark.parametrize(
    ("path", "id_", "name"),
    [
        ("/b", "b", ""),
        ("/b/", "b", ""),
        ("/", "", ""),
        ("//ping", "", "ping"),
        ("/b+1/p+1", "b+1", "p+1"),
        ("/b%281%29/p%69", "b(1)", "p%69"),
        ("/%C3%A9%2f/x", "\xe9/", "x"),
        ("http://h/b/x", "b", "x"),
    ],
)
def test_id_and_name_are_the_two_parts_of_the_path(path: str, id_: str, name: str) -> None:
    envelope = message(path).envelope
    assert envelope is not None
    assert (envelope.id, envelope.name) == (id_, name)


@pytest.mark.parametrize("id_", ["b%", "b%2", "b%zz", "%e9", "%20", "%40", "%00", "%0d%0a", "%ed%a0%80"])
def test_an_id_that_cannot_be_is_refused_and_the_connection_goes_on(id_: str) -> None:
    head = message(f"/{id_}/ping", SENDER + "Content-Length: 3\r\n")
    assert head.envelope is None
    assert head.refusal is not None
    assert head.refusal.status == 400
    assert (head.length, head.persistent, head.cacheable) == (3, True, False)


@pytest.mark.parametrize("sender", ["", "x", "a@b", "a@1.2.3.4:", "a@1.2.3.4:99999", "a b@1.2.3.4:5", "\xe9@1.2.3.4:5"])
def test_a_sender_that_is_no_pid_is_refused_whatever_the_user_agent_says(sender: str) -> None:
    head = message(headers=f"Libprocess-From: {sender}\r\nUser-Agent: libprocess/a@127.0.0.1:5050\r\n")
    assert head.envelope is None
    assert head.refusal is not None
    assert head.refusal.status == 400
    assert ascii(sender).strip("'") in ascii(head.refusal.why)


def test_a_sender_may_be_utf_8() -> None:
    envelope = message(headers="Libprocess-From: \xc3\xa9@1.2.3.4:5\r\n").envelope
    assert envelope is not None
    assert envelope.sender.id == "\xe9"


def test_a_message_may_have_no_sender() -> None:
    envelope = message(headers="Libprocess-From: @0.0.0.0:0\r\n").envelope
    assert envelope is not None
    assert envelope.sender is NOBODY


@pytest.mark.parametrize("rest", ["", " comment", "\tcomment (x)"])
def test_the_user_agent_names_the_sender_up_to_white_space(rest: str) -> None:
    envelope = message(headers=f"User-Agent: libprocess/a@127.0.0.1:1{rest}\r\n").envelope
    assert envelope is not None
    assert envelope.sender == PID("127.0.0.1", 1, "a")


def test_a_request_that_names_no_sender_or_does_not_post_is_no_message() -> None:
    for head in (
        request("Host: a\r\n", method="POST"),
        request("Host: a\r\nUser-Agent: x libprocess/a@127.0.0.1:1\r\n", method="POST"),
        request("Host: a\r\n" + SENDER),
        request("Host: a\r\n" + SENDER, method="PUT"),
    ):
        assert (head.envelope, head.refusal, head.cacheable) == (None, None, False)


def test_two_senders_are_refused() -> None:
    agent = "User-Agent: libprocess/a@127.0.0.1:1\r\n"
    assert bad(f"POST /b/ping HTTP/1.1\r\n{SENDER}{SENDER}\r\n") == 400
    assert bad(f"POST /b/ping HTTP/1.1\r\n{agent}{agent}\r\n") == 400
    assert bad(f"POST /b/ping HTTP/1.1\r\nUser-Agent: x\r\n{agent}\r\n") == 400
    assert message(headers=SENDER + agent + agent).envelope is not None


@pytest.mark.parametrize(
    ("headers", "agent"),
    [
        ("", AGENT_OTHER),
        ("User-Agent: curl/8\r\n", AGENT_OTHER),
        ("User-Agent: compactor/1.0\r\n", AGENT_COMPACTOR),
        ("User-Agent: libprocess/a@127.0.0.1:1\r\n", AGENT_LIBPROCESS),
    ],
)
def test_the_user_agent_tells_which_implementation_sends(headers: str, agent: int) -> None:
    assert message(headers=SENDER + headers).agent == agent


@pytest.mark.parametrize(
    ("coding", "gzip", "status"),
    [
        ("gzip", True, None),
        ("X-GZIP", True, None),
        ("identity", False, None),
        ("", False, None),
        ("br", False, 415),
        ("gzip, gzip", False, 415),
    ],
)
def test_gzip_is_the_only_content_coding_of_a_message(coding: str, gzip: bool, status: int | None) -> None:
    head = message(headers=f"{SENDER}Content-Encoding: {coding}\r\n")
    assert head.gzip is gzip
    assert (head.refusal.status if head.refusal else None) == status
    assert (head.envelope is None) is (status is not None)


def test_the_content_coding_of_an_ordinary_request_is_its_handlers_business() -> None:
    head = request("Host: a\r\nContent-Encoding: br\r\n", method="POST")
    assert (head.gzip, head.refusal) == (False, None)


@pytest.mark.parametrize(
    ("headers", "version", "cacheable"),
    [
        ("", "1.1", True),
        ("Content-Length: 1\r\n", "1.1", True),
        ("Transfer-Encoding: chunked\r\n", "1.1", True),
        ("Connection: keep-alive\r\n", "1.0", True),
        ("", "1.0", False),
        ("Connection: close\r\n", "1.1", False),
        ("Expect: 100-continue\r\n", "1.1", False),
        ("Upgrade: x\r\n", "1.1", False),
        ("Upgrade: websocket\r\nConnection: upgrade\r\n", "1.1", False),
        ("Content-Encoding: identity\r\n", "1.1", False),
    ],
)
def test_only_a_plain_persistent_message_may_be_remembered(headers: str, version: str, cacheable: bool) -> None:
    head = message(headers=SENDER + headers, version=version)
    assert head.envelope is not None
    assert head.cacheable is cacheable


# ---- heads that have only begun

GOOD = (
    f"POST http://[::1]:80/b/ping?x=\" HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t\xe9 \r\n{SENDER}Content-Length: 12\r\n\r\n"
).encode("latin-1")


def test_no_beginning_of_a_good_head_is_an_error() -> None:
    parse_head(GOOD)
    for stop in range(len(GOOD) - 1):
        assert early_error(GOOD[:stop]) is None, GOOD[:stop]


def test_half_an_empty_line_before_a_head_is_no_error() -> None:
    assert early_error(b"\r") is None


@pytest.mark.parametrize(
    ("partial", "status"),
    [
        (b"\rP", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"FROB", 400),
        (b"GET  ", 400),
        (b"GET / HTTP/5", 505),
        (b"GET / HTTP/5.", 505),
        (b"GET / HTTP/5.6", 505),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET / HTTPS", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\rX", 400),
        (b"GET / HTTP/1.1\r\n ", 400),
        (b"GET / HTTP/1.1\r\nHost :", 400),
        (b"GET / HTTP/1.1\r\nHost: a\x00", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n", 400),
    ],
)
def test_a_hopeless_beginning_is_told_before_the_head_ends(partial: bytes, status: int) -> None:
    error = early_error(partial)
    assert error is not None
    assert error.status == status


def test_an_error_says_what_is_wrong_in_printable_ascii() -> None:
    error = early_error(b"GET / HTTP/1.1\r\nHost: a\r\nn\xe9\x1b: b\r\n")
    assert error is not None
    assert error.why == r"a header line is malformed: 'n\xe9\x1b: b\r\n'"


# ---- anything at all

PIECES = st.sampled_from(
    [
        b"POST ",
        b"GET ",
        b"/",
        b"a",
        b"%",
        b"%2",
        b"%C3%A9",
        b"http://",
        b"[::",
        b"]",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"Host:",
        b"Content-Length: ",
        b"Transfer-Encoding: ",
        b"chunked",
        b"Libprocess-From: ",
        b"User-Agent: libprocess/",
        b"a@1.2.3.4:5",
        b"Content-Encoding: ",
        b"Connection: ",
        b"Expect: ",
        b"7",
        b",",
        b" ",
        b"\xe9",
        b"\r\n",
        b"\r\n\r\n",
    ]
)
ANYTHING = st.one_of(st.binary(), st.lists(PIECES, max_size=24).map(b"".join))


@given(ANYTHING)
def test_parsing_anything_raises_nothing_but_bad_request(raw: bytes) -> None:
    try:
        head = parse_head(raw)
    except BadRequest as error:
        status = error.status
    else:
        status = 400 if head.refusal is None else head.refusal.status
        assert raw.endswith(b"\r\n\r\n")
        assert head.envelope is None or head.refusal is None
    assert 400 <= status < 600


@given(st.lists(PIECES, max_size=24).map(lambda pieces: b"POST /b/ping HTTP/1.1\r\n" + b"".join(pieces) + b"\r\n\r\n"))
def test_a_beginning_is_hopeless_only_when_the_whole_is(raw: bytes) -> None:
    try:
        parse_head(raw)
    except BadRequest:
        return
    for stop in range(len(raw) - 4):
        assert early_error(raw[:stop]) is None
