"""The documentation: cited tests and linked files exist, and the bytes in docs/protocol.md are those on the wire."""

import ast
import itertools
import re
import socket

import pytest
from helpers import DEADLINE, TESTS

from compactor import PID, Process, __version__, install, route
from compactor.wire.answers import AnswerParser
from compactor.wire.decoder import Decoder
from compactor.wire.encoder import encode_head
from compactor.wire.head import parse_head

ROOT = TESTS.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
GUARANTEES = (DOCS / "guarantees.md").read_text()
NONCE = b"00112233445566778899aabbccddeeff"


# ---- links and citations


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_links_to_exist(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_headings_that_a_page_links_to_exist(page):
    text = page.read_text()
    headings = {re.sub(r"[^\w\- ]", "", line).replace(" ", "-").lower() for line in re.findall(r"(?m)^#+ (.+)$", text)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def promises():
    """Return the text of each numbered guarantee, up to the next one or the next heading."""
    parts = re.split(r"(?m)^\*\*(G[0-9]+)\*\*|^## .*$", GUARANTEES)
    return {name: text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name}


def cited(text):
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def functions_of(path):
    file = ROOT / path
    tree = ast.parse(file.read_text()) if file.exists() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_guarantees_are_numbered_without_a_gap():
    assert list(promises()) == [f"G{number}" for number in range(1, len(promises()) + 1)]


@pytest.mark.parametrize("name", promises())
def test_each_guarantee_cites_tests_that_exist(name):
    tests = cited(promises()[name])
    assert tests
    assert [f"{path}::{test}" for path, test in tests if test not in functions_of(path)] == []


def test_whatever_else_names_a_test_names_one_that_exists():
    for page in PAGES:
        assert [(path, test) for path, test in cited(page.read_text()) if test not in functions_of(path)] == []


# ---- examples


def as_bytes(text):
    """Return an example as it is on the wire: a head with CRLF, and a body as long as the head says."""
    text = text.replace("compactor/1.0.0", f"compactor/{__version__}")
    head, _, body = text.partition("\n\n")
    raw = head.rstrip("\n").replace("\n", "\r\n").encode() + b"\r\n\r\n"
    if "chunked" in head:
        return raw + body.replace("\n", "\r\n").encode()
    length = re.search(r"(?m)^Content-Length: ([0-9]+)$", head)
    content = body.encode()
    if length is None or len(content) != int(length[1]):
        content = content.removesuffix(b"\n")
    return raw + content


EXAMPLES = [
    (kind, as_bytes(text))
    for kind, text in re.findall(r"(?ms)^```http (\w+)\n(.*?)^```$", (DOCS / "protocol.md").read_text())
]


def first_line(raw):
    return raw.partition(b"\r\n")[0].decode()


def of_kind(kind):
    return [raw for found, raw in EXAMPLES if found == kind]


def exchanges():
    """Return the pairs of a request and the answer that the page prints below it."""
    return [
        (raw, following)
        for (kind, raw), (kind_of_following, following) in itertools.pairwise(EXAMPLES)
        if (kind, kind_of_following) == ("request", "answer")
    ]


def test_each_example_says_what_it_is():
    counts = [len(of_kind(kind)) for kind in ("sent", "request", "answer", "peer")]
    assert sum(counts) == len(EXAMPLES) == (DOCS / "protocol.md").read_text().count("\n```http")
    assert counts[1] == counts[2] == len(exchanges())
    assert min(counts) > 0


@pytest.mark.parametrize("raw", of_kind("sent"), ids=first_line)
def test_each_message_of_ours_is_what_the_encoder_writes(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    envelope = parse_head(head + b"\r\n\r\n").envelope
    host = re.search(rb"\r\nHost: (\S+)\r\n", head)[1].decode()
    # A target of one part is that of an empty id, which is read as an id without a name.
    id_, name = (envelope.id, envelope.name) if envelope.name else ("", envelope.id)
    to = PID.from_string(f"{id_}@{host}")
    assert raw == encode_head(envelope.sender, to, name) + b"%d\r\n\r\n%b" % (len(body), body)


class Example(Process):
    """The process of the examples."""

    @install("ping")
    def ping(self, from_pid, body):
        pass

    @route("/hello")
    def hello(self, handler):
        handler.write("hello\n")


def without_what_varies(raw):
    raw = re.sub(rb"(?m)^Date: [^\r]*", b"Date: now", raw)
    return re.sub(rb"(?m)^Compactor-Incarnation: [0-9a-f]{16}\r", b"Compactor-Incarnation: this one\r", raw)


@pytest.mark.parametrize(("request_", "answer"), exchanges(), ids=first_line)
def test_each_answer_of_ours_is_what_a_context_writes(request_, answer, context):
    context.spawn(Example("b(2)"))
    with socket.create_connection((context.ip, context.port), DEADLINE) as client, client.makefile("rb") as answers:
        client.sendall(request_)
        client.shutdown(socket.SHUT_WR)
        assert without_what_varies(answers.read()) == without_what_varies(answer)


def message_named(name):
    return next(raw for raw in of_kind("sent") if f"/{name} HTTP".encode() in raw)



@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        yield server


def next_message(listener, length):
    """Return the first bytes that somebody who connects sends."""
    connection, _ = listener.accept()
    connection.settimeout(DEADLINE)
    with connection, connection.makefile("rb") as stream:
        return stream.read(length)


def moved(raw, *addresses):
    """Return an example with other addresses."""
    for printed, real in zip((b"10.0.0.1:5050", b"10.0.0.2:5051"), addresses, strict=True):
        raw = raw.replace(printed, b"127.0.0.1:%d" % real)
    return raw


def test_a_link_is_asked_for_as_the_example_shows(context, listener):
    port = listener.getsockname()[1]
    linker = Process("a(1)")
    context.spawn(linker)
    linker.link(PID("127.0.0.1", port, "b(2)"))
    expected = moved(message_named("__link__"), context.port, port)
    written = next_message(listener, len(expected))
    assert re.sub(rb"(?m)^[0-9a-f]{32} ", NONCE + b" ", written) == expected


def test_an_end_is_told_as_the_example_shows(context, listener):
    port = listener.getsockname()[1]
    linkee = context.spawn(Process("b(2)"))
    asked = moved(message_named("__link__"), port, context.port)
    with socket.create_connection((context.ip, context.port), DEADLINE) as client:
        client.sendall(asked)
        assert client.recv(1)
        context.terminate(linkee)
        expected = moved(message_named("__exited__"), port, context.port)
        assert next_message(listener, len(expected)) == expected


@pytest.mark.parametrize("raw", of_kind("peer"), ids=first_line)
def test_what_peers_send_is_understood(raw):
    if raw.startswith(b"HTTP/"):
        ((answer, number),) = AnswerParser().feed(raw)
        assert (answer.status, number) == (202, 1)
        return
    decoder = Decoder()
    ((envelope, body),) = decoder.feed(raw)
    assert decoder.idle
    assert (bool(envelope.id), bool(envelope.name), bool(body)) == (True, True, True)
