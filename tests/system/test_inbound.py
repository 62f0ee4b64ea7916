"""What connections bring, from peers made of bare sockets: recorded and cut bytes, ends of all kinds, and answers."""

import ast
import asyncio
import gzip
import io
import json
import re
import subprocess
import sys
import threading

import pytest
from helpers import DEADLINE, TESTS, RawPeer, Recorder, eventually, in_thread, post, wait_for
from raw import RawClient, read_answer, read_request

from compactor import PID, Process, install, route

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


# ---- bytes in pieces


@pytest.mark.parametrize("name", SENDERS)
def test_everything_that_recorded_peers_sent_is_delivered(name, context):
    connections = [b"".join(map(ast.literal_eval, connection)) for connection in SENDERS[name]]
    if name in ("13_id_odd", "19_name_space"):  # an id that is none here, a request line that its sender broke
        with RawClient(context) as client:
            client.send(connections[0])
            assert client.answer().status == 400
        return
    sent = []
    for raw in connections:
        file = io.BytesIO(raw)
        while request := read_request(file):
            sent.append((request.sender, request.path.split("/", 2), request.body))
    id_ = sent[0][1][1]
    names = [path[2] if len(path) > 2 else "" for _, path, _ in sent]

    class Catcher(Recorder):
        @install(names[0])
        def catch(self, from_pid, body):
            self.seen.put((from_pid, body))

    catcher = Catcher(id_)
    context.spawn(catcher)
    for raw in connections:
        with RawClient(context) as client:
            client.send(raw)
    assert sorted(catcher.take() for _ in sent) == sorted((sender, body) for sender, _, body in sent)
    assert set(names) == names[:1] or len(set(names)) == 1


FORMS = {
    "length": message(b"hi there"),
    "chunk": libprocess_message(b"hi there").replace(LIBPROCESS, OTHER),
    "nothing": b"POST /recorder/note HTTP/1.1\r\n" + OTHER + b"\r\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_message_is_the_same_wherever_it_is_cut(form, client, recorder):
    raw = FORMS[form]
    expected = b"" if form == "nothing" else b"hi there"
    first = message(b"first")
    for cut in range(1, len(raw)):
        # The answer to the first shows that the beginning has been read, on its own.
        client.send(first + raw[:cut])
        assert client.answer().status == 202
        client.send(raw[cut:])
        assert client.answer().status == 202
        assert [recorder.take()[2] for _ in range(2)] == [b"first", expected]


def test_many_messages_in_one_block_are_delivered_in_order_and_answered_each(client, recorder):
    bodies = [b"%d" % number for number in range(1000)]
    client.send(b"".join(map(message, bodies)))
    assert client.statuses(1000) == [202] * 1000
    assert [recorder.take()[2] for _ in bodies] == bodies


def test_a_large_body_arrives_whole(client, recorder):
    body = bytes(range(256)) * 80 * 1024
    client.send(message(body))
    assert client.answer().status == 202
    assert recorder.take()[2] == body


def test_each_of_many_connections_that_flood_one_process_keeps_its_order_and_loses_nothing(context, recorder):
    clients = [RawClient(context) for _ in range(20)]
    for number in range(0, 1000, 100):
        for index, client in enumerate(clients):
            client.send(b"".join(message(b"%d %d" % (index, n), agent=COMPACTOR) for n in range(number, number + 100)))
    seen = [recorder.take()[2] for _ in range(20_000)]
    for index, client in enumerate(clients):
        mine = [body for body in seen if body.startswith(b"%d " % index)]
        assert mine == [b"%d %d" % (index, number) for number in range(1000)]
        client.close()


# ---- peers that go away

CPP_SENDER = TESTS / "system" / "programs" / "libprocess_sender.py"


@pytest.mark.parametrize("_", range(10))
def test_nothing_is_lost_of_1000_messages_of_a_sender_that_reads_no_answers_and_closes_at_once(_, context, recorder):
    with RawClient(context) as client:
        for number in range(1000):
            client.send(libprocess_message(b"%d" % number))
    assert [recorder.take()[2] for _ in range(1000)] == [b"%d" % number for number in range(1000)]


def test_nothing_is_lost_of_100000_messages_of_a_sender_that_reads_no_answers_and_closes_at_once(context, recorder):
    subprocess.run([sys.executable, CPP_SENDER, str(context.port), "100000"], check=True, timeout=60)
    assert [recorder.take()[2] for _ in range(100_000)] == [b"%d" % number for number in range(100_000)]


def test_nothing_is_lost_of_a_sender_that_closes_with_answers_unread_that_came_in_a_pause(context, recorder):
    bodies = [b"%d" % number for number in range(1000)]
    client = RawClient(context)
    client.send(b"".join(map(libprocess_message, bodies[:500])))
    assert client.has_more(DEADLINE)
    client.send(b"".join(map(libprocess_message, bodies[500:])))
    client.wait_until_arrived()
    client.close()
    assert [recorder.take()[2] for _ in bodies] == bodies


class Blocker(Recorder):
    """A recorder that a message `block` makes hold up its whole context, so that what follows arrives unread."""

    def __init__(self):
        super().__init__()
        self.blocking, self.go_on = threading.Event(), threading.Event()

    @install("block")
    def block(self, from_pid, body):
        self.blocking.set()
        wait_for(self.go_on)


@pytest.mark.parametrize("agent", [OTHER, LIBPROCESS, COMPACTOR], ids=["other", "libprocess", "compactor"])
@pytest.mark.parametrize("end", ["close", "half_close", "reset"])
def test_what_arrived_before_its_sender_went_away_is_delivered(agent, end, context):
    recorder = Blocker()
    context.spawn(recorder)
    client = RawClient(context)
    client.send(message(b"", "/recorder/block", agent))
    wait_for(recorder.blocking)
    bodies = [b"%d" % number for number in range(200)]
    client.send(b"".join(message(body, agent=agent) for body in bodies))
    client.wait_until_arrived()
    getattr(client, end)()
    recorder.go_on.set()
    assert [recorder.take()[2] for _ in bodies] == bodies
    client.close()
    eventually(lambda: context.statistics()["connections_inbound"] == 0)


@pytest.mark.parametrize("agent", [OTHER, COMPACTOR], ids=["other", "compactor"])
def test_a_sender_that_half_closes_gets_its_answers_and_an_orderly_end(agent, client, recorder):
    client.send(b"".join(message(agent=agent) for _ in range(100)))
    client.half_close()
    assert client.statuses(100) == [202] * 100
    assert client.ended_in_order()


def test_a_message_that_was_cut_off_is_counted_and_not_delivered(client, context, recorder):
    client.send(message() + message(b"whole")[:-1])
    client.half_close()
    assert client.answer().status == 202
    assert client.ended_in_order()
    fence(context)
    assert recorder.take_until_fence() == [b"hi"]
    assert context.statistics()["truncated_requests"] == 1


def test_a_message_whose_sender_is_gone_when_the_answer_is_written_does_no_harm(context, recorder):
    for _ in range(50):
        client = RawClient(context)
        client.send(message())
        client.reset()
    fence(context)
    assert set(recorder.take_until_fence()) <= {b"hi"}


# ---- answers: when, and in which order


def test_the_answer_to_a_libprocess_peer_waits_until_it_stands_between_messages(client, recorder):
    raw = libprocess_message(b"hi")
    client.send(raw + raw[:-1])
    assert recorder.take()[2] == b"hi"
    assert not client.has_more(SILENCE)
    client.send(raw[-1:])
    assert client.statuses(2) == [202, 202]


def test_anybody_else_is_answered_at_once_with_half_a_message_behind(client, recorder):
    for agent in (OTHER, COMPACTOR):
        client.send(message(agent=agent) + message()[:-1])
        assert client.answer().status == 202
        client.send(message()[-1:])
        assert client.answer().status == 202


def test_mesos_go_is_answered_before_the_handler_runs(context):
    recorder = Blocker()
    context.spawn(recorder)
    with RawClient(context) as client:
        client.send(message(b"", "/recorder/block"))
        try:
            assert client.answer().status == 202
        finally:
            recorder.go_on.set()


def test_late_answers_come_before_any_other_answer(client, recorder):
    to_nobody = message(path="/nobody/note")
    client.send(libprocess_message(b"1") * 3 + to_nobody + libprocess_message(b"2"))
    assert client.statuses(5) == [202, 202, 202, 404, 202]
    client.send(libprocess_message(b"3") + b"GET /nobody HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.statuses(2) == [202, 404]
    client.send(libprocess_message(b"4") + b"garbage\r\n\r\n")
    assert client.statuses(2) == [202, 400]
    assert client.ended_in_order()


@pytest.mark.parametrize("agent", [OTHER, LIBPROCESS.replace(b"Keep-Alive", b"close"), COMPACTOR])
def test_a_message_that_is_its_connections_last_is_answered_and_the_connection_closed(agent, client, recorder):
    client.send(message(agent=agent, fields=b"" if b"close" in agent else b"Connection: close\r\n") + message(b"no"))
    answer = client.answer()
    assert (answer.status, answer.headers["connection"]) == (202, "close")
    assert client.ended_in_order()
    assert recorder.take()[2] == b"hi"
    assert recorder.seen.empty()


@pytest.mark.parametrize(("fields", "stays"), [(b"Connection: Keep-Alive\r\n", True), (b"", False)])
def test_http_1_0_is_accepted_and_closes_unless_it_asks_for_more(fields, stays, client, recorder):
    client.send(message(version=b"1.0", fields=fields))
    assert client.answer().status == 202
    assert recorder.take()[2] == b"hi"
    if stays:
        client.send(message(b"again"))
        assert client.answer().status == 202
        assert recorder.take()[2] == b"again"
    else:
        assert client.ended_in_order()


class Slow(Recorder):
    """A recorder with a page that is not ready until the test says so."""

    def __init__(self):
        super().__init__()
        self.ready = asyncio.Event()

    @route("/slow")
    async def slow(self, handler):
        self.seen.put(("slow", None, handler.get_argument("n")))
        await self.ready.wait()
        handler.write(handler.get_argument("n"))

    @install("ready")
    def be_ready(self, from_pid, body):
        self.ready.set()


def test_answers_keep_their_order_around_a_slow_page_and_messages_behind_it_do_not_wait(client, context):
    slow = Slow()
    context.spawn(slow)
    page = b"GET /recorder/slow?n=%d HTTP/1.1\r\nHost: a\r\n\r\n"
    client.send(message(b"1") + page % 2 + message(b"3") + message(b"4", "/nobody/note") + page % 5 + message(b"6"))
    assert [slow.take() for _ in range(3)] == [
        ("note", PID("127.0.0.1", 9, "a"), b"1"),
        ("slow", None, "2"),
        ("note", PID("127.0.0.1", 9, "a"), b"3"),
    ]
    assert client.answer().status == 202
    assert not client.has_more(SILENCE)
    post(slow.pid, "ready")
    answers = [client.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 202, 404, 200, 202]
    assert (answers[0].body, answers[3].body) == (b"2", b"5")
    assert {slow.take()[2], slow.take()[2]} == {"5", b"6"}


def test_a_client_that_half_closes_behind_a_slow_page_gets_all_its_answers(client, context):
    slow = Slow()
    context.spawn(slow)
    client.send(b"GET /recorder/slow?n=1 HTTP/1.1\r\nHost: a\r\n\r\n" + message())
    client.half_close()
    assert [slow.take()[2], slow.take()[2]] == ["1", b"hi"]
    post(slow.pid, "ready")
    assert client.statuses(2) == [200, 202]
    assert client.ended_in_order()


def test_a_page_that_closes_the_connection_ends_it_behind_its_answer(client, context):
    slow = Slow()
    context.spawn(slow)
    post(slow.pid, "ready")
    client.send(b"GET /recorder/slow?n=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + message(b"no"))
    assert client.answer().body == b"1"
    assert client.ended_in_order()
    assert slow.take()[2] == "1"
    assert slow.seen.empty()


# ---- refusals


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\r\n\r\n",
        b"POST /recorder/note\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        message(fields=b"Content-Length: 2\r\n"),
    ],
)
def test_malformed_bytes_are_answered_400_and_nothing_behind_them_is_read(bad, client, context, recorder):
    client.send(message(b"good") + bad + message(b"no"))
    assert client.statuses(2) == [202, 400]
    assert client.ended_in_order()
    fence(context)
    assert recorder.take_until_fence() == [b"good"]
    assert context.statistics()["malformed_requests"] == 1


def test_what_a_client_still_sends_behind_malformed_bytes_does_not_destroy_the_answer(client, recorder):
    client.send(b"garbage\r\n\r\n")
    for _ in range(100):
        client.send(message(bytes(10_000)))
    assert client.answer().status == 400
    assert client.ended_in_order()


@pytest.mark.parametrize("sender", [b"", b"nobody", b"a@127.0.0.1:99999", b"a b@127.0.0.1:1", b"a@b@127.0.0.1:1"])
def test_a_bad_sender_is_refused_and_the_connection_goes_on(sender, client, context, recorder):
    client.send(message(agent=b"Libprocess-From: " + sender + b"\r\n") + message(b"good"))
    assert client.statuses(2) == [400, 202]
    assert recorder.take()[2] == b"good"
    assert context.statistics()["refused_requests"] == 1


def test_a_message_for_an_unknown_process_is_answered_404_and_a_dead_letter(client, context):
    client.send(message(b"lost", "/nobody/note"))
    assert client.answer().status == 404
    (letter,) = context.dead_letters
    assert (letter.sender, letter.to, letter.name) == (
        PID("127.0.0.1", 9, "a"),
        PID("127.0.0.1", context.port, "nobody"),
        "note",
    )
    assert (letter.size, letter.reason) == (4, "no such process")


def test_a_message_without_a_handler_is_answered_202_and_a_dead_letter(client, context, recorder):
    client.send(message(b"lost", "/recorder/unknown"))
    assert client.answer().status == 202
    letter = eventually(lambda: context.dead_letters)[0]
    assert (letter.to, letter.name, letter.size, letter.reason) == (recorder.pid, "unknown", 4, "no handler")


def test_an_ordinary_request_without_a_host_is_refused(client, recorder):
    client.send(b"GET /recorder/x HTTP/1.1\r\n\r\n")
    assert client.answer().status == 400
    assert client.ended_in_order()


@pytest.mark.parametrize("path", ["/slave(1)/note", "/slave%281%29/note", "/%73lave(1%29/note"])
def test_ids_are_percent_decoded(path, client, context):
    slave = Recorder("slave(1)")
    context.spawn(slave)
    client.send(message(path=path))
    assert client.answer().status == 202
    assert slave.take()[2] == b"hi"


@pytest.mark.parametrize("path", ["/", "//note", "/%2/note", "/%zz/note", "/%20/note"])
def test_a_message_to_an_empty_or_impossible_id_is_refused_and_the_connection_goes_on(path, client, recorder):
    client.send(message(path=path) + message(b"good"))
    assert client.statuses(2) == [400 if "%" in path else 404, 202]
    assert recorder.take()[2] == b"good"


def test_a_path_of_one_part_is_a_message_without_a_name(client, context):
    class Nameless(Recorder):
        @install("")
        def catch(self, from_pid, body):
            self.seen.put(body)

    nameless = Nameless("ping")
    context.spawn(nameless)
    client.send(message(path="/ping") + message(path="/ping/"))
    assert client.statuses(2) == [202, 202]
    assert [nameless.take(), nameless.take()] == [b"hi", b"hi"]


# ---- Expect, codings, limits


def test_a_client_that_expects_100_continue_gets_it_before_its_body(client, recorder):
    raw = message(fields=b"Expect: 100-continue\r\n")
    client.send(raw[:-2])
    assert client.file.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert client.file.readline() == b"\r\n"
    client.send(raw[-2:])
    assert client.answer().status == 202
    assert recorder.take()[2] == b"hi"


def test_a_client_that_does_not_wait_gets_no_100_continue(client, recorder):
    client.send(message(fields=b"Expect: 100-continue\r\n"))
    assert client.file.readline() == b"HTTP/1.1 202 Accepted\r\n"


def test_a_gzip_body_is_delivered_inflated(client, recorder):
    client.send(message(gzip.compress(b"body" * 100), fields=b"Content-Encoding: gzip\r\n"))
    assert client.answer().status == 202
    assert recorder.take()[2] == b"body" * 100


@pytest.mark.parametrize(("coding", "status"), [(b"gzip", 400), (b"br", 415), (b"gzip, br", 415)])
def test_a_body_that_cannot_be_inflated_is_refused_and_the_connection_goes_on(coding, status, client, recorder):
    client.send(message(fields=b"Content-Encoding: " + coding + b"\r\n") + message(b"good"))
    assert client.statuses(2) == [status, 202]
    assert recorder.take()[2] == b"good"


@pytest.mark.parametrize("length", [b"Content-Length: 1001\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n"])
def test_a_body_over_the_contexts_limit_is_refused_before_it_comes(length, make_context):
    context = make_context(body_limit=1000)
    context.spawn(Recorder())
    with RawClient(context) as client:
        client.send(message(bytes(1000)))
        assert client.answer().status == 202
        client.send(b"POST /recorder/note HTTP/1.1\r\n" + OTHER + length)
        assert client.answer().status == 413
        assert client.ended_in_order()


def test_a_gzip_body_may_not_inflate_beyond_the_limit(make_context):
    context = make_context(body_limit=1000)
    context.spawn(Recorder())
    with RawClient(context) as client:
        client.send(message(gzip.compress(bytes(1001)), fields=b"Content-Encoding: gzip\r\n"))
        assert client.answer().status == 413


# ---- a peer that does not read


def test_a_peer_that_does_not_read_its_answers_is_not_read_either_and_loses_nothing(client, context, recorder):
    number = 200_000
    sending = in_thread(client.send, message(b"x") * number)
    eventually(lambda: any(connection._write_paused for connection in context._node.connections))
    answer = b"".join(iter(client.file.readline, b"\r\n")) + b"\r\n"
    rest = client.file.read(len(answer) * (number - 1))
    assert rest == answer * (number - 1)
    assert sending.get(timeout=DEADLINE) == ("returned", None)
    fence(context)
    assert len(recorder.take_until_fence()) == number
