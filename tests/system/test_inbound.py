"""What connections bring, from peers made of bare sockets: recorded and cut bytes, ends of all kinds, and answers."""

import ast
import io
import json
import re

import pytest
from helpers import DEADLINE, TESTS, RawPeer, Recorder, eventually, post, wait_for
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
NO_PID = "a sender that is no PID is refused, never guessed, and the connection goes on"
BROKEN = "what follows broken framing cannot be read: it is told so, and the connection closes at once"
TRAILERS = "trailers are legal; C++ has a TODO there"
GARBAGE = "garbage is told so and ends the connection, in whichever block it came"
DIFFERENCES = {
    "d_agent_no_pid": ([400], "open", 0, NO_PID),
    "g_chunked_bad": ([400], "closed", 0, BROKEN),
    "g_chunked_bad_then_good": ([400], "closed", 0, BROKEN),
    "g_chunked_many": ([202], "open", 1, TRAILERS),
    "g_chunked_trailer": ([202], "open", 1, TRAILERS),
    "h_get_close": ([400], "closed", 0, HOSTLESS),
    "h_http20": ([505], "closed", 0, "HTTP/2.0 is another protocol"),
    "i_folded_header": ([400], "closed", 0, "folded lines are obsolete and read differently by different peers"),
    "i_garbage_then_good": ([202, 400], "closed", 1, GARBAGE),
    "i_good_then_garbage": ([202, 400], "closed", 1, GARBAGE),
    "i_good_then_garbage_split": ([202, 400], "closed", 1, GARBAGE),
    "i_lf_only": ([400], "closed", 0, "lines end with CRLF"),
    "i_no_version": ([400], "closed", 0, "no HTTP/0.9"),
    "i_short_length": ([202, 400], "closed", 1, GARBAGE),
    "i_star": ([404], "open", 0, "nobody serves the path"),
    "k_pid_bad_from_good_agent": ([400], "open", 0, NO_PID),
    "k_pid_bad_port": ([400], "open", 0, NO_PID),
    "k_pid_big_port": ([400], "open", 0, "C++ takes the port modulo 65536"),
    "k_pid_empty": ([400], "open", 0, NO_PID),
    "k_pid_garbage": ([400], "open", 0, NO_PID),
    "k_pid_no_port": ([400], "open", 0, NO_PID),
    "k_pid_space": ([400], "open", 0, NO_PID),
    "k_pid_trailing": ([400], "open", 0, "C++ ignores what follows the digits of the port"),
    "k_pid_two_at": ([400], "open", 0, NO_PID),
    "l_utf8_name": ([400], "closed", 0, "targets are ASCII"),
    "m_bad_percent": ([400], "open", 0, "the fault is the client's"),
    "m_bad_percent2": ([400], "open", 0, "the fault is the client's"),
    "m_get_percent_id": ([400], "closed", 0, HOSTLESS),
    "n_head_hello": ([400], "closed", 0, HOSTLESS),
    "o_pipelined": ([202, 202, 400], "closed", 2, HOSTLESS),
    "p_dup_from": ([400], "closed", 0, "C++ believes the last of two senders"),
    "p_get_with_from": ([400], "closed", 0, HOSTLESS),
    "p_put_with_from": ([400], "closed", 0, HOSTLESS),
    "z_still_works": ([400], "closed", 0, HOSTLESS),
}
"""By case: statuses, end of the connection and replies here, and why they are not those of C++."""


def statuses_of(recording):
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

    @route("/hello", methods=["GET", "HEAD", "POST"])
    def hello(self, handler):
        handler.write("hello\n")

    @route("/probe")
    def probe(self, handler):
        handler.set_header("X-Probe", "reached")


def replay(case, context, peer):
    """Send the bytes of a case, with ports of ours; return the statuses of the answers, and "open" or "closed"."""

    ports = {b"38535": context.port, b"99999": 99999}

    def with_our_port(match):
        return b"@%b:%d" % (match[1], ports.get(match[2], peer.pid("").port))

    raw = ast.literal_eval(case["sent"])
    raw = re.sub(rb"@(127\.0\.0\.1|localhost|0\.0\.0\.0):([0-9]{5})\b", with_our_port, raw)
    answers = []
    with RawClient(context) as client:
        client.send(raw)
        if "half-close" in case["what"]:
            client.half_close()
        else:
            # Answered when the connection is open, and behind all that is answered before.
            client.send(b"GET /echo/probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while client.file.peek(1):
            answers.append(client.answer("HEAD" if raw.startswith(b"HEAD") and not answers else "POST"))
    if answers and "x-probe" in answers[-1].headers:
        return [answer.status for answer in answers[:-1]], "open"
    return [answer.status for answer in answers], "closed"


def recorded_outcome(case):
    """Return what `replay` would of a C++ process, but for one thing: it closes without a word where we say 400."""
    statuses = statuses_of(ast.literal_eval(case["answer"]))
    end = "open" if case["connection_after"].startswith("open") else "closed"
    if not statuses and end == "closed" and "half-close" not in case["what"]:
        statuses = [400]
    return statuses, end, sum(line.count("POST /") for line in case["connections_to_from_address"])


@pytest.mark.parametrize("name", CASES)
def test_each_recorded_case_is_answered_as_a_c_process_did_or_as_the_table_says(name, context):
    case = CASES[name]
    echo = Echo("echo")
    context.spawn(echo)
    context.spawn(Echo("echo(1)"))
    with RawPeer() as peer:
        statuses, end = replay(case, context, peer)
        post(echo.pid, "ping", sender=peer.pid("last"))
        replies = list(iter(lambda: peer.take()[1], "/last/pong"))
    ours = statuses, end, len(replies)
    recorded = recorded_outcome(case)
    if name in DIFFERENCES:
        assert ours == DIFFERENCES[name][:3]
        assert ours != recorded
    else:
        assert ours == recorded
