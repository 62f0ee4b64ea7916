"""What connections bring, from peers made of bare sockets: recorded bytes, cut bytes, ends of all kinds, and answers."""

import ast
import io
import json
import re

import pytest
from helpers import TESTS, RawPeer, Recorder
from raw import RawClient, read_answer

from compactor import Process, install, route

DATA = TESTS / "wire" / "data"
SENDERS = json.loads((DATA / "senders.json").read_text())
OTHER = b"Libprocess-From: a@127.0.0.1:9\r\n"
LIBPROCESS = b"User-Agent: libprocess/a@127.0.0.1:9\r\n" + OTHER + b"Connection: Keep-Alive\r\n"
COMPACTOR = b"User-Agent: compactor/9\r\n" + OTHER
SILENCE = 0.3
"""Seconds in which an answer that must not come would come: ten times what a libprocess peer has to be quiet for."""


def message(body=b"hi", path="/recorder/note", agent=OTHER, fields=b"", version=b"1.1"):
    """Return a message as peers that give a length send it."""
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return b"POST %b HTTP/%b\r\n%b%b%b%b" % (path.encode(), version, agent, fields, length, body)


def libprocess_message(body, path="/recorder/note"):
    """Return a message as the C++ library sends it."""
    head = b"POST %b HTTP/1.1\r\n%bHost: 127.0.0.1:5050\r\n" % (path.encode(), LIBPROCESS)
    if not body:
        return head + b"\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.fixture
def recorder(context):
    process = Recorder()
    context.spawn(process)
    return process


@pytest.fixture
def client(context):
    with RawClient(context) as client:
        yield client


def fence(context, path="/recorder/fence"):
    """Have a recorder see a fence behind everything that was queued for it before."""
    with RawClient(context) as client:
        client.send(message(b"", path))
        assert client.answer().status == 202


# ---- replays of what was recorded

HOSTLESS = "an ordinary HTTP/1.1 request needs a Host"
NO_PID = "a sender that is no PID is refused, never guessed"
BROKEN = "what follows broken framing cannot be read: the connection closes at once"
DIFFERENCES = {}
"""By case: the statuses and the end of the connection here, and why they are not what C++ did."""


def parts_of(recording):
    """Return the statuses of recorded answers."""
    file = io.BufferedReader(io.BytesIO(recording))
    statuses = []
    while file.peek(1):
        statuses.append(read_answer(file).status)
    return statuses


def recorded_cases():
    """Return the cases whose bytes the recording has in full and that are not about endpoints of the C++ library."""
    cases = {}
    for case in json.loads((DATA / "libprocess-receiver.json").read_text()):
        name = case["case"]
        its_own = re.match(r"n_get_(processes|help|metrics|logging|system|profiler|version)", name)
        if ")..." not in case["sent"] and not its_own and name not in ("i_half_idle", "i_connect_only"):
            cases[name] = case
    return cases


CASES = recorded_cases()


class Echo(Process):
    """The process of the recordings."""

    @install("ping")
    def ping(self, from_pid, body):
        if from_pid.port:
            self.reply("pong", body)

    @install("fence")
    def fence(self, from_pid, body):
        self.reply("fence")

    @route("/hello", methods=["GET", "HEAD", "POST"])
    def hello(self, handler):
        handler.write("hello\n")


def replay(case, context, peer):
    """Send the bytes of a case; return the statuses of the answers, and "open" or "closed"."""
    raw = ast.literal_eval(case["sent"])
    raw = raw.replace(b":38535", b":%d" % context.port)
    raw = re.sub(rb"(?<=client@127\.0\.0\.1:)[0-9]{5}\b", b"%d" % peer.pid("").port, raw)
    raw = re.sub(rb"(?<=client@(?:localhos|0\.0\.0\.)[t0]:)[0-9]{5}\b", b"%d" % peer.pid("").port, raw)
    statuses = []
    with RawClient(context) as client:
        client.send(raw)
        if "half-close" in case["what"]:
            client.half_close()
        method = "HEAD" if raw.startswith(b"HEAD") else "POST"
        expected = DIFFERENCES.get(case["case"], (parts_of(ast.literal_eval(case["answer"])),))[0]
        for _ in range(len(expected)):
            statuses.append(client.answer(method).status)
        # Another message: answered when the connection is open, with the answers that must not be before it.
        try:
            client.send(message(b"", "/echo/probe"))
            client.half_close()
            while client.file.peek(1):
                statuses.append(client.answer().status)
        except OSError:
            pass
    if statuses[-1:] == [202] and len(statuses) > len(expected):
        return statuses[:-1], "open"
    return statuses, "closed"


@pytest.mark.parametrize("name", CASES)
def test_each_recorded_case_is_answered_as_a_c_process_did_or_as_the_table_says(name, context):
    case = CASES[name]
    context.spawn(Echo("echo"))
    context.spawn(Echo("echo(1)"))
    with RawPeer() as peer:
        ours = replay(case, context, peer)
    recorded = parts_of(ast.literal_eval(case["answer"])), "open" if case["connection_after"].startswith("open") else "closed"
    print(name, ours, recorded)
    assert ours == recorded
