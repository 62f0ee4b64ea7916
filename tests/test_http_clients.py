"""HTTP clients that everybody has as peers: curl, `http.client` and a bare socket, for routes and for messages."""

import http.client
import re
import shutil
import socket
import subprocess
import threading

import pytest
from helpers import DEADLINE, Recorder

from compactor import PID, Process

SENDER = PID("127.0.0.1", 9, "someone")
PAGE = b"<p>hello</p>"
LARGE = bytes(range(256)) * 8192
"""A body of 2 MiB: more than curl sends without asking first, and many times a socket's buffer."""


class Web(Recorder):
    """Has a page, and records the message `note`."""

    @Process.route("/page")
    def page(self, handler):
        handler.write(PAGE)


@pytest.fixture
def web(context):
    """Return a spawned process with a page and a recording mailbox."""
    web = Web("web(1)")
    context.spawn(web)
    return web


@pytest.fixture
def connection(web):
    """Return an `http.client` connection to our context."""
    connection = http.client.HTTPConnection(web.pid.ip, web.pid.port, timeout=DEADLINE)
    yield connection
    connection.close()


def curl(*arguments, stdin=b""):
    """Run curl, and return what it wrote to stdout and to stderr."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [program, "--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(DEADLINE), *arguments],
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout, done.stderr.decode()


def curl_status(*arguments, stdin=b""):
    """Run curl, and return the status that it was answered."""
    out, _ = curl("--output", "/dev/null", "--write-out", "%{http_code}", *arguments, stdin=stdin)
    return int(out)


def test_curl_gets_a_page_twice_over_one_connection(web):
    url = web.pid.as_url("page")
    out, _ = curl("--write-out", "|%{http_code} %{num_connects}|", url, url)
    assert out == PAGE + b"|200 1|" + PAGE + b"|200 0|"


def test_curl_gets_a_page_with_http_1_0(web):
    out, _ = curl("--http1.0", "--write-out", "|%{http_code}", web.pid.as_url("page"))
    assert out == PAGE + b"|200"


def test_curl_asks_for_the_head_of_a_page(web):
    out, _ = curl("--head", web.pid.as_url("page"))
    head, _, body = out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert re.search(rb"(?im)^content-length: %d\r?$" % len(PAGE), head)
    assert body == b""


@pytest.mark.parametrize(
    "identity",
    [("--header", f"Libprocess-From: {SENDER}"), ("--user-agent", f"libprocess/{SENDER}")],
    ids=["Libprocess-From", "User-Agent"],
)
def test_curl_posts_a_message(web, identity):
    assert curl_status(*identity, "--data", "body", web.pid.as_url("note")) == 202
    assert web.take() == ("note", SENDER, b"body")


def test_curl_posts_a_message_without_a_body(web):
    assert curl_status("--header", f"Libprocess-From: {SENDER}", "--data", "", web.pid.as_url("note")) == 202
    assert web.take() == ("note", SENDER, b"")


def test_curl_posts_a_message_to_nobody(web):
    nobody = PID(web.pid.ip, web.pid.port, "nobody")
    assert curl_status("--header", f"Libprocess-From: {SENDER}", "--data", "body", nobody.as_url("note")) == 404


def test_curl_posts_a_message_from_what_is_no_pid(web):
    assert curl_status("--header", "Libprocess-From: somebody", "--data", "body", web.pid.as_url("note")) == 400


def test_curl_uploads_a_message_in_chunks(web):
    status = curl_status(
        "--request", "POST", "--header", f"Libprocess-From: {SENDER}", "--header", "Transfer-Encoding: chunked",
        "--upload-file", "-", web.pid.as_url("note"), stdin=LARGE,
    )  # fmt: skip
    assert status == 202
    assert web.take() == ("note", SENDER, LARGE)


def test_curl_is_told_to_continue_before_it_sends_a_large_body(web):
    """Without our 100 it would wait, longer than it is given here, before it sends the body anyway."""
    out, log = curl(
        "--verbose", "--expect100-timeout", str(2 * DEADLINE), "--header", "Expect: 100-continue",
        "--header", f"Libprocess-From: {SENDER}", "--data-binary", "@-", web.pid.as_url("note"), stdin=LARGE,
    )  # fmt: skip
    assert re.findall(r"^< HTTP/1\.1 (\d+)", log, re.MULTILINE) == ["100", "202"]
    assert out == b""
    assert web.take() == ("note", SENDER, LARGE)


def test_http_client_gets_a_page_twice_over_one_connection(web, connection):
    ports = set()
    for _ in range(2):
        connection.request("GET", "/web(1)/page")
        ports.add(connection.sock.getsockname())
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, PAGE)
    assert len(ports) == 1


def test_http_client_asks_for_the_head_of_a_page_and_then_for_the_page(web, connection):
    connection.request("HEAD", "/web(1)/page")
    head = connection.getresponse()
    assert (head.status, head.getheader("Content-Length"), head.read()) == (200, str(len(PAGE)), b"")
    connection.request("GET", "/web(1)/page")
    assert connection.getresponse().read() == PAGE


def test_http_client_posts_messages_in_order_over_one_connection(web, connection):
    ports = set()
    for number in range(100):
        connection.request("POST", "/web(1)/note", b"%d" % number, {"Libprocess-From": str(SENDER)})
        ports.add(connection.sock.getsockname())
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (202, b"")
    assert len(ports) == 1
    assert [web.take() for _ in range(100)] == [("note", SENDER, b"%d" % number) for number in range(100)]


def test_http_client_posts_a_message_in_chunks(web, connection):
    pieces = [b"one ", b"two ", b"three"]
    connection.request("POST", "/web(1)/note", iter(pieces), {"Libprocess-From": str(SENDER)}, encode_chunked=True)
    assert connection.getresponse().status == 202
    assert web.take() == ("note", SENDER, b"".join(pieces))


def test_pipelined_requests_for_pages_and_messages_are_answered_in_order(web):
    get = b"GET /web(1)/page HTTP/1.1\r\nHost: h\r\n\r\n"
    post = b"POST /web(1)/%s HTTP/1.1\r\nHost: h\r\nLibprocess-From: someone@127.0.0.1:9\r\nContent-Length: 1\r\n\r\n%d"
    last = b"GET /web(1)/nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    with socket.create_connection((web.pid.ip, web.pid.port), timeout=DEADLINE) as client:
        client.sendall(get + post % (b"note", 1) + post % (b"note", 2) + get + post % (b"note", 3) + last)
        with client.makefile("rb") as stream:
            answers = stream.read()
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"200", b"202", b"202", b"200", b"202", b"404"]
    assert answers.count(PAGE) == 2
    assert [web.take()[2] for _ in range(3)] == [b"1", b"2", b"3"]


def test_clients_at_the_same_time_each_get_their_own_answers(web):
    statuses = []

    def post_all(sender):
        connection = http.client.HTTPConnection(web.pid.ip, web.pid.port, timeout=DEADLINE)
        for number in range(50):
            connection.request("POST", "/web(1)/note", b"%d" % number, {"Libprocess-From": str(sender)})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    senders = [PID("127.0.0.1", 9, f"someone({number})") for number in range(4)]
    threads = [threading.Thread(target=post_all, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [202] * 200
    received = [web.take() for _ in range(200)]
    for sender in senders:
        assert [int(body) for _, pid, body in received if pid == sender] == list(range(50))
