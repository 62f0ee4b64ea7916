"""What contexts send, to peers made of bare sockets: exact bytes, connections, order, answers, and peers that fail."""

import contextlib
import socket
import threading

import pytest
from helpers import DEADLINE, Recorder, eventually, in_thread, run_program, wait_for
from raw import ACCEPTED, GO_ACCEPTED, RawClient, RawServer

import compactor._aio.outbound as outbound
import compactor._aio.peers as lanes
from compactor import PID, Process
from compactor._version import VERSION

NEVER = 3600.0
"""Seconds: what waits for so long does not happen within a test."""


class Sender(Process):
    """A process whose methods send from the loop's thread."""

    def send_numbers(self, to, name, numbers):
        for number in numbers:
            self.send(to, name, b"%d" % number)


@pytest.fixture
def sender(context):
    process = Sender("sender")
    context.spawn(process)
    return process


@pytest.fixture
def peer():
    with RawServer() as peer:
        yield peer


def letters(context, number=1):
    """Wait until there are so many dead letters; return (sender id, receiver id, name, reason) of each."""
    eventually(lambda: len(context.dead_letters) >= number, f"{number} dead letters")
    return [(letter.sender.id, letter.to.id, letter.name, letter.reason) for letter in context.dead_letters]


def wait_until_lost(context):
    """Wait until a connection has ended that the context did not end itself."""
    eventually(lambda: context.statistics().get("connections_lost") == 1)


def numbers_of(requests):
    return [int(request.body) for request in requests]


def wait_until_held_up(context, peer):
    """Wait until the context has stopped writing because the peer does not read."""
    lanes = context._node.peers[peer.ip, peer.port].lanes
    eventually(lambda: any(lane.connection is not None and lane.connection.paused for lane in lanes))


def learn(context, peer, answer=ACCEPTED):
    """Have the context learn from an answer what kind of peer this is; return the connection."""
    first = Sender("first")
    context.spawn(first)
    first.send(peer.pid("x"), "first")
    connection = peer.accept()
    assert connection.request().path == "/x/first"
    connection.send(answer)
    eventually(lambda: context._node.peers[peer.ip, peer.port].answers)
    return connection


# ---- bytes


def test_a_message_is_exactly_these_bytes(context, sender, peer):
    sender.send(peer.pid("echo(1)"), "pkg.Ping", b"hi there")
    connection = peer.accept()
    expected = (
        b"POST /echo(1)/pkg.Ping HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Keep-Alive\r\n"
        b"User-Agent: compactor/%b\r\nLibprocess-From: sender@127.0.0.1:%d\r\nContent-Length: 8\r\n\r\nhi there"
    ) % (peer.port, VERSION.encode(), context.port)
    assert connection.file.read(len(expected)) == expected
    assert not connection.has_more()


def test_an_empty_body_has_a_length_of_0(sender, peer):
    sender.send(peer.pid("x"), "ping")
    request = peer.accept().request()
    assert request.head.endswith(b"\r\nContent-Length: 0\r\n\r\n")


def test_an_id_is_percent_encoded_where_it_would_break_the_request_line(sender, peer):
    for id_ in ("slave(1)", "a/b?c#d", "50%", "\xe9"):
        sender.send(peer.pid(id_), "ping")
    connection = peer.accept()
    assert [request.path for request in connection.requests(4)] == [
        "/slave(1)/ping",
        "/a%2Fb%3Fc%23d/ping",
        "/50%25/ping",
        "/%C3%A9/ping",
    ]


@pytest.mark.parametrize("name", ["a b", "a\r\nX: y", "a?b", "a#b", "\xe9", "\x00", "a\n"])
def test_a_name_that_would_break_the_request_line_is_refused_and_nothing_leaves(name, sender, peer):
    with pytest.raises(ValueError, match="cannot be a message name"):
        sender.send(peer.pid("x"), name, b"no")
    sender.send(peer.pid("x"), "good", b"yes")
    assert peer.accept().request().body == b"yes"


@pytest.mark.parametrize("name", ["__link__", "__exited__"])
def test_the_names_of_the_link_extension_cannot_be_sent(name, sender, peer):
    with pytest.raises(ValueError, match="reserved"):
        sender.send(peer.pid("x"), name)


# ---- connections


def test_all_processes_and_names_share_one_connection_to_an_address(context, sender, peer):
    connection = learn(context, peer)
    others = [Sender(f"other{number}") for number in range(5)]
    for other in others:
        context.spawn(other)
    for number in range(100):
        others[number % 5].send(peer.pid(f"to{number % 3}"), f"name{number % 7}", b"%d" % number)
    requests = connection.requests(100)
    assert numbers_of(requests) == list(range(100))
    assert [request.sender.id for request in requests[:5]] == [other.pid.id for other in others]
    assert [request.path for request in requests[:3]] == ["/to0/name0", "/to1/name1", "/to2/name2"]
    assert not peer.is_called()


def test_a_host_name_and_its_address_share_a_connection_and_keep_their_order(context, sender, peer):
    addresses = [peer.pid("x", "localhost"), peer.pid("x"), peer.pid("y", "LOCALHOST")]
    for number in range(90):
        sender.send(addresses[number % 3], "ping", b"%d" % number)
    connection = peer.accept()
    assert numbers_of(connection.requests(90)) == list(range(90))
    assert not peer.is_called()


def test_a_name_that_has_no_address_makes_a_dead_letter(context, sender):
    sender.send(PID("no.such.host.invalid", 5050, "x"), "ping")
    ((*who, reason),) = letters(context)
    assert who == ["sender", "x", "ping"]
    assert "no.such.host.invalid" in reason or "name" in reason.lower()


def test_an_unused_connection_is_closed_in_order_and_the_next_message_opens_another(make_context, peer):
    context = make_context(idle_seconds=0.05)
    sender = Sender("sender")
    context.spawn(sender)
    for number in range(3):
        sender.send(peer.pid("x"), "ping", b"%d" % number)
        connection = peer.accept()
        assert numbers_of(connection.accept_all(1)) == [number]
        assert connection.ended_in_order()
    assert context.dead_letters == []


# ---- peers that are not there


def test_what_could_not_be_connected_is_a_dead_letter_with_its_reason_and_the_next_send_tries_again(context, sender):
    with RawServer(listening=False) as peer:
        sender.send(peer.pid("x"), "ping", b"lost")
        sender.send(peer.pid("y"), "pong", b"lost too")
        assert letters(context, 2) == [
            ("sender", "x", "ping", "connection refused"),
            ("sender", "y", "pong", "connection refused"),
        ]
        assert [letter.size for letter in context.dead_letters] == [4, 8]
        peer.listen()
        sender.send(peer.pid("x"), "ping", b"found")
        assert peer.accept().request().body == b"found"
    assert context.statistics()["dead_letters: connection refused"] == 2


def test_a_pause_after_failures_never_holds_up_a_first_attempt(monkeypatch, context, sender, peer):
    monkeypatch.setattr(lanes, "_FIRST_PAUSE", NEVER)
    monkeypatch.setattr(lanes, "_LONGEST_PAUSE", NEVER)
    with RawServer(listening=False) as absent:
        sender.send(absent.pid("x"), "ping")
        letters(context)
        sender.send(peer.pid("x"), "ping", b"other peer")
        connection = peer.accept()
        assert connection.accept_all(1)[0].body == b"other peer"
        connection.close()
        wait_until_lost(context)
        sender.send(peer.pid("x"), "ping", b"same peer after a connection that worked")
        assert peer.accept().request().body.startswith(b"same peer")
        absent.listen()
        sender.send(absent.pid("x"), "ping", b"this one waits")
        context.stop()
        assert letters(context, 2)[1] == ("sender", "x", "ping", "the context stopped")
        assert not absent.is_called()


def test_a_peer_that_cannot_be_connected_does_not_hold_up_a_stop_and_its_messages_are_reported(make_context):
    context = make_context(grace=0.1)
    sender = Sender("sender")
    context.spawn(sender)
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):  # more than the queue of the listener takes: the next one hears nothing
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        sender.send(PID(*full.getsockname(), "x"), "ping", b"never")
        assert in_thread(context.stop).get(timeout=DEADLINE) == ("returned", None)
    assert letters(context) == [("sender", "x", "ping", "the context stopped")]


def test_each_message_to_a_peer_that_resets_whatever_connects_is_accounted_for(context, sender, peer):
    for number in range(500):
        sender.send(peer.pid("x"), "ping", b"%d" % number)
    for times in range(5):
        peer.accept().reset()
        letters(context, 500 + times)
        sender.send(peer.pid("x"), "ping", b"500")
    last = peer.accept()
    sender.send(peer.pid("x"), "ping", b"501")
    arrived = []
    while not arrived or arrived[-1] != 501:
        arrived += numbers_of(last.accept_all(1))
    eventually(lambda: len(arrived) + context.statistics()["dead_letters"] == 506)
    assert arrived == sorted(arrived)
    # A reset may come before the connection is known to be made, so that nothing has left.
    assert {letter.reason for letter in context.dead_letters} <= {"connection lost, unanswered", "reset by the peer"}


# ---- peers that answer badly, or not


@pytest.mark.parametrize("status", [404, 503, 500, 400])
def test_a_refusal_makes_a_dead_letter_with_its_status_for_the_very_message(status, context, sender, peer):
    for name in ("a", "b", "c"):
        sender.send(peer.pid("x"), name)
    connection = peer.accept()
    connection.requests(3)
    connection.send(ACCEPTED + b"HTTP/1.1 %d No\r\nContent-Length: 5\r\n\r\nsorry" % status + ACCEPTED)
    sender.send(peer.pid("x"), "d")
    connection.accept_all(1)
    assert letters(context) == [("sender", "x", "b", f"refused with {status}")]


def test_interim_answers_are_skipped(context, sender, peer):
    sender.send(peer.pid("x"), "a")
    sender.send(peer.pid("x"), "b")
    connection = peer.accept()
    connection.requests(2)
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED + b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    assert letters(context) == [("sender", "x", "b", "refused with 404")]


@pytest.mark.parametrize("times", [1, 1000])
def test_a_peer_that_never_answers_gets_everything_and_does_not_hold_up_a_stop(times, make_context, peer):
    context = make_context(grace=NEVER)
    sender = Sender("sender")
    context.spawn(sender)
    context.dispatch(sender.pid, "send_numbers", peer.pid("x"), "ping", range(times))
    connection = peer.accept()
    assert numbers_of(connection.requests(times)) == list(range(times))
    stopped = in_thread(context.stop)
    assert stopped.get(timeout=DEADLINE) == ("returned", None)
    assert context.statistics()["dead_letters: connection lost, unanswered"] == times


def test_what_is_kept_of_unanswered_messages_is_bounded(monkeypatch, context, sender, peer):
    monkeypatch.setattr(outbound, "_MOST_UNANSWERED", 1000)
    context.dispatch(sender.pid, "send_numbers", peer.pid("x"), "ping", range(5000))
    connection = peer.accept()
    assert numbers_of(connection.requests(5000)) == list(range(5000))
    connection.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")  # whose it is cannot be told any more
    connection.send(ACCEPTED * 10)
    sender.send(peer.pid("x"), "ping", b"5000")
    assert numbers_of(connection.requests(1)) == [5000]
    connection.close()
    wait_until_lost(context)
    assert context.dead_letters == []
    assert context.statistics()["unattributed"] > 1000


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", bytes(100), ACCEPTED[:-2] + b"X y\r\n\r\n", b"HTTP/2.0 200 \r\n\r\n"]
)
def test_answers_that_are_no_http_stop_attribution_and_nothing_else(garbage, context, sender, peer):
    sender.send(peer.pid("x"), "a")
    sender.send(peer.pid("x"), "b")
    connection = peer.accept()
    connection.requests(2)
    connection.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n" + garbage)
    eventually(lambda: context.statistics().get("bad_answers"))
    for number in range(100):
        sender.send(peer.pid("x"), "c", b"%d" % number)
    assert numbers_of(connection.requests(100)) == list(range(100))
    connection.close()
    wait_until_lost(context)
    assert letters(context) == [("sender", "x", "a", "refused with 404")]


def test_a_surplus_answer_stops_attribution(context, sender, peer):
    sender.send(peer.pid("x"), "a")
    connection = peer.accept()
    connection.request()
    connection.send(ACCEPTED * 2)
    eventually(lambda: context.statistics().get("surplus_answers") == 1)
    sender.send(peer.pid("x"), "b")
    connection.request()
    connection.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    sender.send(peer.pid("x"), "c")
    connection.request()
    connection.close()
    wait_until_lost(context)
    assert context.dead_letters == []


def test_messages_behind_an_answer_that_closes_leave_on_the_next_connection(context, sender, peer):
    sender.send(peer.pid("x"), "ping", b"1")
    first = peer.accept()
    first.request()
    first.send(ACCEPTED[:-2] + b"Connection: close\r\n\r\n")
    assert first.at_end()
    sender.send(peer.pid("x"), "ping", b"2")
    assert peer.accept().request().body == b"2"
    assert context.dead_letters == []


# ---- peers that go away


@pytest.mark.parametrize("end", ["close", "half_close", "reset"])
def test_what_a_peer_did_not_answer_before_it_went_is_reported_as_unknown(end, context, sender, peer):
    for number in range(10):
        sender.send(peer.pid("x"), f"n{number}")
    connection = peer.accept()
    connection.requests(10)
    connection.send(ACCEPTED * 4)
    eventually(lambda: context._node.peers[peer.ip, peer.port].answers)
    getattr(connection, end)()
    assert letters(context, 6) == [("sender", "x", f"n{n}", "connection lost, unanswered") for n in range(4, 10)]
    sender.send(peer.pid("x"), "ping", b"again")
    assert peer.accept().request().body == b"again"
    assert len(context.dead_letters) == 6


def test_answers_that_arrived_with_the_end_still_count(context, sender, peer):
    for number in range(10):
        sender.send(peer.pid("x"), f"n{number}")
    connection = peer.accept()
    connection.requests(10)
    connection.send(ACCEPTED * 9 + b"HTTP/1.1 404 No\r\n\r\nuntil the end")
    connection.close()
    assert letters(context) == [("sender", "x", "n9", "refused with 404")]
    sender.send(peer.pid("x"), "again")
    assert peer.accept().request().path == "/x/again"
    assert len(context.dead_letters) == 1


def test_what_never_left_before_a_connection_broke_leaves_on_the_next_and_the_rest_is_unknown(context, sender):
    number = 3000
    with RawServer(receive_buffer=4096) as peer:
        for count in range(number):
            sender.send(peer.pid("x"), "ping", b"%05d" % count * 1000)
        first = peer.accept()
        read = [int(first.request().body[:5]) for _ in range(10)]
        wait_until_held_up(context, peer)
        first.reset()
        second = peer.accept()
        arrived = []
        while not arrived or arrived[-1] != number - 1:
            arrived.append(int(second.accept_all(1)[0].body[:5]))
        unknown = context.statistics()["dead_letters: connection lost, unanswered"]
    assert read == list(range(10))
    assert arrived == list(range(unknown, number))
    assert 10 <= unknown < number




def test_a_peer_that_reads_late_gets_everything_in_order(context, sender):
    with RawServer(receive_buffer=4096) as peer:
        for count in range(2000):
            sender.send(peer.pid("x"), "ping", b"%05d" % count * 2000)
        connection = peer.accept()
        wait_until_held_up(context, peer)
        requests = connection.accept_all(2000)
        assert [request.body for request in requests] == [b"%05d" % count * 2000 for count in range(2000)]
    assert context.statistics()["dead_letters"] == 0


# ---- large bodies


def test_a_large_body_arrives_whole_between_small_ones(context, sender, peer):
    large = bytes(range(256)) * 80 * 1024
    bodies = [b"before", large, b"between", large[::-1], b"behind"]
    for body in bodies:
        sender.send(peer.pid("x"), "ping", body)
    assert [request.body for request in peer.accept().accept_all(5)] == bodies


def test_large_bodies_go_both_ways_between_two_contexts(context, other_context):
    here, there = Recorder("here"), Recorder("there")
    context.spawn(here)
    other_context.spawn(there)
    large = bytes(range(256)) * 80 * 1024
    here.send(there.pid, "note", large)
    there.send(here.pid, "note", large[::-1])
    assert there.take() == ("note", here.pid, large)
    assert here.take() == ("note", there.pid, large[::-1])


# ---- the end


def test_nothing_is_lost_of_10000_messages_sent_right_before_stop(make_context, other_context):
    context = make_context()
    sender, receiver = Sender("sender"), Recorder("receiver")
    context.spawn(sender)
    other_context.spawn(receiver)
    for number in range(10_000):
        sender.send(receiver.pid, "note", b"%d" % number)
    context.stop()
    assert [receiver.take()[2] for _ in range(10_000)] == [b"%d" % number for number in range(10_000)]
    assert context.dead_letters == []


def test_nothing_is_lost_of_messages_sent_right_before_the_program_ends(context):
    receiver = Recorder("receiver")
    context.spawn(receiver)
    run_program(
        """
import sys
from compactor import PID, Context, Process
context = Context(ip="127.0.0.1")
sender = Process("sender")
context.spawn(sender)
for number in range(10_000):
    sender.send(PID.from_string(sys.argv[1]), "note", b"%d" % number)
""",
        str(receiver.pid),
        expect_silence=True,
    )
    assert [receiver.take()[2] for _ in range(10_000)] == [b"%d" % number for number in range(10_000)]


# ---- peers like mesos-go: one connection, one sender


def senders_on(context, number):
    processes = [Sender(f"sender{count}") for count in range(number)]
    for process in processes:
        context.spawn(process)
    return processes


def test_until_its_first_answer_a_new_peer_hears_one_sender_only(monkeypatch, context, peer):
    monkeypatch.setattr(lanes, "PROBE_SECONDS", NEVER)
    senders = senders_on(context, 3)
    for number in range(30):
        senders[number % 3].send(peer.pid("x"), "ping", b"%d" % number)
    first = peer.accept()
    requests = first.requests(10)
    assert {request.sender for request in requests} == {senders[0].pid}
    assert numbers_of(requests) == list(range(0, 30, 3))
    assert not first.has_more(0.2)
    assert not peer.is_called()


def test_a_peer_that_answers_as_mesos_go_has_a_connection_for_each_sender_from_then_on(monkeypatch, context, peer):
    monkeypatch.setattr(lanes, "PROBE_SECONDS", NEVER)  # however slow this machine is
    senders = senders_on(context, 3)
    for number in range(30):
        senders[number % 3].send(peer.pid("x"), "ping", b"%d" % number)
    first = peer.accept()
    assert first.request().sender == senders[0].pid
    first.send(GO_ACCEPTED)
    connections = [first, peer.accept(), peer.accept()]
    assert {request.sender for request in first.requests(9)} == {senders[0].pid}
    for connection in connections[1:]:
        requests = connection.requests(10)
        (sender,) = {request.sender for request in requests}
        offset = int(sender.id[-1])
        assert numbers_of(requests) == list(range(offset, 30, 3))
        connection.send(GO_ACCEPTED * 10)
    first.send(GO_ACCEPTED * 9)
    for number in range(30, 60):
        senders[number % 3].send(peer.pid("x"), "ping", b"%d" % number)
    heard = [connection.requests(10) for connection in connections]
    assert [len({request.sender for request in requests}) for requests in heard] == [1, 1, 1]
    assert sorted(number for requests in heard for number in numbers_of(requests)) == list(range(30, 60))
    assert not peer.is_called()
    assert context.dead_letters == []


@pytest.mark.parametrize("number", [2, 5])
def test_a_peer_that_does_not_answer_for_a_tenth_of_a_second_is_shared(number, context, peer):
    senders = senders_on(context, number)
    for count in range(20):
        senders[count % number].send(peer.pid("x"), "ping", b"%d" % count)
    connection = peer.accept()
    requests = connection.requests(20)
    for index, sender in enumerate(senders):
        mine = [int(request.body) for request in requests if request.sender == sender.pid]
        assert mine == list(range(index, 20, number))
    assert not peer.is_called()


def test_a_late_answer_as_mesos_gos_still_tells_senders_apart(context, peer):
    senders = senders_on(context, 2)
    for sender in senders:
        sender.send(peer.pid("x"), "early")
    connection = peer.accept()
    connection.requests(2)
    connection.send(GO_ACCEPTED * 2)
    eventually(lambda: context._node.peers[peer.ip, peer.port].kind is lanes.Kind.PER_SENDER)
    for sender in senders:
        sender.send(peer.pid("x"), "late")
    # The one that this connection began with stays on it: that is whom mesos-go believes all of it to come from.
    assert connection.request().sender == senders[0].pid
    assert peer.accept().request().sender == senders[1].pid
    assert not connection.has_more()
    assert not peer.is_called()


def test_a_sender_that_gets_a_connection_of_its_own_does_not_overtake_what_it_sent_on_the_shared_one(context, peer):
    senders = senders_on(context, 2)
    for sender in senders:
        sender.send(peer.pid("x"), "early")
    shared = peer.accept()
    shared.requests(2)
    shared.send(GO_ACCEPTED)
    eventually(lambda: context._node.peers[peer.ip, peer.port].kind is lanes.Kind.PER_SENDER)
    senders[1].send(peer.pid("x"), "late")
    assert not peer.is_called(0.3)
    shared.send(GO_ACCEPTED)
    own = peer.accept().request()
    assert (own.sender, own.path) == (senders[1].pid, "/x/late")


def test_a_sender_keeps_its_connection_whoever_names_it(context, peer):
    sender = senders_on(context, 1)[0]
    sender.send(peer.pid("x"), "first")
    connection = peer.accept()
    connection.request()
    connection.send(GO_ACCEPTED)
    eventually(lambda: context._node.peers[peer.ip, peer.port].kind is lanes.Kind.PER_SENDER)
    for number in range(20):
        sender.send(peer.pid("x"), "own", b"%d" % number)
        context.send(PID.from_string(str(sender.pid)), peer.pid("x"), "for_it", b"%d" % number)
    assert numbers_of(connection.requests(40)) == [number // 2 for number in range(40)]
    assert not peer.is_called()


def test_a_sender_keeps_its_connection_when_it_was_shared_before(context, peer):
    senders = senders_on(context, 2)
    for sender in senders:
        sender.send(peer.pid("x"), "early")
    connection = peer.accept()
    connection.requests(2)  # nobody answered for a tenth of a second, so both came on one
    connection.send(GO_ACCEPTED)
    eventually(lambda: context._node.peers[peer.ip, peer.port].kind is lanes.Kind.PER_SENDER)
    context.send(PID.from_string(str(senders[0].pid)), peer.pid("x"), "late")
    assert connection.request().sender == senders[0].pid
    assert not peer.is_called()


def test_connect_per_sender_tells_a_peers_kind_before_its_first_answer(context, peer):
    context.connect_per_sender(peer.pid("anyone"))
    senders = senders_on(context, 3)
    for sender in senders:
        for number in range(5):
            sender.send(peer.pid("x"), "ping", b"%d" % number)
    heard = set()
    for _ in senders:
        requests = peer.accept().requests(5)
        assert numbers_of(requests) == list(range(5))
        heard |= {request.sender for request in requests}
    assert heard == {sender.pid for sender in senders}


def test_each_question_to_a_mesos_go_peer_has_a_connection_of_its_own_which_is_closed_afterwards(context, sender, peer):
    context.connect_per_sender(peer.pid("x"))
    for number in range(3):
        ask = sender.ask(peer.pid("x"), "question", b"%d" % number)
        connection = peer.accept()
        question = connection.request()
        connection.send(GO_ACCEPTED)
        assert connection.ended_in_order()
        with RawClient(context) as answering:
            answering.send(
                b"POST /%b/answer HTTP/1.1\r\nLibprocess-From: %b\r\nContent-Length: 3\r\n\r\nyes"
                % (question.sender.id.encode(), str(peer.pid("x")).encode())
            )
            assert answering.answer().status == 202
        assert ask.result(DEADLINE).body == b"yes"


def test_a_replaced_peer_is_met_without_prejudice(context, peer):
    connection = learn(context, peer, GO_ACCEPTED)
    connection.close()
    wait_until_lost(context)
    senders = senders_on(context, 2)
    for sender in senders:
        sender.send(peer.pid("x"), "ping")
    connection = peer.accept()
    connection.request()
    connection.send(ACCEPTED)
    assert connection.request().sender == senders[1].pid
    assert not peer.is_called()


# ---- order of what threads and the loop send


class Waiting(Process):
    """A process whose handler sends when another thread has sent, which the loop has not been told of yet."""

    def send_behind(self, go, done, *message):
        wait_for(go)
        self.send(*message)
        done.set()


def test_a_send_from_the_loop_does_not_overtake_an_earlier_one_from_a_thread(context, peer):
    waiting = Waiting("waiting")
    context.spawn(waiting)
    for number in range(0, 100, 2):
        go, done = threading.Event(), threading.Event()
        context.dispatch(waiting.pid, "send_behind", go, done, peer.pid("x"), "ping", b"%d" % (number + 1))
        waiting.send(peer.pid("x"), "ping", b"%d" % number)
        go.set()
        wait_for(done)
    assert numbers_of(peer.accept().requests(100)) == list(range(100))


def test_each_thread_keeps_its_order_while_others_send_too(context, sender, peer):
    def send_all(thread):
        for number in range(500):
            sender.send(peer.pid("x"), f"t{thread}", b"%d" % number)

    threads = [threading.Thread(target=send_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    context.dispatch(sender.pid, "send_numbers", peer.pid("x"), "loop", range(500))
    requests = peer.accept().requests(2500)
    for thread in threads:
        thread.join(DEADLINE)
    for path in ("/x/t0", "/x/t1", "/x/t2", "/x/t3", "/x/loop"):
        assert numbers_of(request for request in requests if request.path == path) == list(range(500))
