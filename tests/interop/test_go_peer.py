"""Messages, asks and links between us and mesos-go v0, as another OS process, in both directions.

mesos-go takes the sender of a connection's first request for the sender of all that follow on it. So the tests with
several senders can fail: they do when two senders share a connection.
"""

import itertools
import threading

import pytest
from helpers import DEADLINE
from peers import Answer, Note, ProtobufRecorder, Question, Unheard

from compactor import PID

BURST = 500
LATE = 0.5
"""Seconds: some times the tenth of a second for which we wait for the answer that tells what a peer is."""


@pytest.fixture
def spawn(context):
    """Return a function that spawns a process of ours by name."""

    def spawn(name):
        recorder = ProtobufRecorder(name)
        context.spawn(recorder)
        return recorder

    return spawn


@pytest.fixture
def recorder(spawn):
    """Return a spawned process of ours."""
    return spawn("ours(1)")


@pytest.fixture
def senders(spawn):
    """Return three spawned processes of ours, which share a context."""
    return [spawn(f"ours({number})") for number in range(1, 4)]


def by_sender(received):
    """Return the numbers of the messages received from each sender, in order."""
    numbers = {}
    for pid, _, seq, _ in received:
        numbers.setdefault(pid, []).append(seq)
    return numbers


def test_a_burst_from_it_arrives_complete_and_in_order(go_peer, recorder):
    go_peer.send(recorder.pid, "Note", BURST)
    assert recorder.take(BURST) == [(go_peer.pid, "Note", seq, "text") for seq in range(BURST)]


def test_every_message_from_it_is_answered_as_it_expects(go_peer, recorder):
    """It sends the next message only after an answer, and complains of one that is late or neither 200 nor 202."""
    go_peer.send(recorder.pid, "Note", BURST)
    go_peer.send(recorder.pid, "Question")
    assert go_peer.take_messages(1) == [(recorder.pid, "Answer", 0, "text")]
    complaints = go_peer.kill()
    assert "failed to" not in complaints
    assert "rejected" not in complaints


def test_a_message_to_a_process_that_we_do_not_have_is_refused_in_a_way_that_it_understands(go_peer, recorder):
    stranger = PID(recorder.pid.ip, recorder.pid.port, "nobody")
    go_peer.send(stranger, "Note")
    go_peer.send(recorder.pid, "Note")
    assert recorder.take() == [(go_peer.pid, "Note", 0, "text")]
    assert 'returned status "404' in go_peer.kill()


def test_a_body_of_a_megabyte_from_it_arrives(go_peer, recorder):
    text = "x" * 1_000_000
    go_peer.send(recorder.pid, "Note", text=text)
    assert recorder.take() == [(go_peer.pid, "Note", 0, text)]


def test_our_replies_to_its_messages_arrive_in_order(go_peer, recorder):
    go_peer.send(recorder.pid, "Question", BURST)
    assert go_peer.take_messages(BURST) == [(recorder.pid, "Answer", seq, "text") for seq in range(BURST)]


def test_its_messages_to_three_processes_of_ours_reach_each_of_them_and_each_reply_comes_from_its_process(
    go_peer, senders
):
    for ours in senders:
        go_peer.send(ours.pid, "Question", BURST)
    numbers = by_sender(go_peer.take_messages(BURST * len(senders)))
    assert numbers == {ours.pid: list(range(BURST)) for ours in senders}


def test_a_burst_to_it_arrives_complete_and_in_order(go_peer, recorder):
    for seq in range(BURST):
        recorder.send(go_peer.pid, Note(seq=seq, text="text"))
    assert go_peer.take_messages(BURST) == [(recorder.pid, "Note", seq, "text") for seq in range(BURST)]


def test_a_body_of_a_megabyte_to_it_arrives(go_peer, recorder):
    text = "x" * 1_000_000
    recorder.send(go_peer.pid, Note(seq=7, text=text))
    assert go_peer.take_messages(1) == [(recorder.pid, "Note", 7, text)]


def test_the_first_burst_of_three_senders_keeps_each_message_with_its_sender_and_in_order(go_peer, senders):
    for seq, ours in itertools.product(range(BURST), senders):
        ours.send(go_peer.pid, Note(seq=seq, text="text"))
    numbers = by_sender(go_peer.take_messages(BURST * len(senders)))
    assert numbers == {ours.pid: list(range(BURST)) for ours in senders}


def test_the_first_burst_of_three_senders_in_three_threads_keeps_each_message_with_its_sender(go_peer, senders):
    start = threading.Barrier(len(senders))

    def send_all(ours):
        start.wait(DEADLINE)
        for seq in range(BURST):
            ours.send(go_peer.pid, Note(seq=seq, text="text"))

    threads = [threading.Thread(target=send_all, args=(ours,)) for ours in senders]
    for thread in threads:
        thread.start()
    numbers = by_sender(go_peer.take_messages(BURST * len(senders)))
    for thread in threads:
        thread.join()
    assert numbers == {ours.pid: list(range(BURST)) for ours in senders}


def test_senders_that_follow_when_it_is_known_to_be_a_go_peer_are_kept_apart_as_well(go_peer, spawn):
    first = spawn("first")
    first.send(go_peer.pid, Question(seq=0, text="who?"))
    assert first.take() == [(go_peer.pid, "Answer", 0, "who?")]
    later = [spawn(f"later({number})") for number in range(1, 3)]
    for seq, ours in itertools.product(range(BURST), [first, *later]):
        ours.send(go_peer.pid, Note(seq=seq, text="text"))
    received = go_peer.take_messages(1 + BURST * 3)[1:]
    assert by_sender(received) == {ours.pid: list(range(BURST)) for ours in [first, *later]}


def test_senders_are_kept_apart_from_the_first_message_when_we_are_told_that_it_is_a_go_peer(go_peer, context, senders):
    """It answers too late for us to see what it is before we would give all senders one connection."""
    context.connect_per_sender(go_peer.pid)
    go_peer.pause()
    for seq, ours in itertools.product(range(BURST), senders):
        ours.send(go_peer.pid, Note(seq=seq, text="text"))
    assert senders[0].is_quiet_for(LATE)
    go_peer.resume()
    numbers = by_sender(go_peer.take_messages(BURST * len(senders)))
    assert numbers == {ours.pid: list(range(BURST)) for ours in senders}


def test_senders_are_kept_apart_after_an_answer_that_came_late(go_peer, senders):
    """What several senders sent before it may be attributed to the first of them: a known limit."""
    go_peer.pause()
    for ours in senders:
        ours.send(go_peer.pid, Note(seq=0, text="early"))
    assert senders[0].is_quiet_for(LATE)
    go_peer.resume()
    go_peer.take_messages(len(senders))
    senders[0].send(go_peer.pid, Question(seq=1, text="what are you?"))
    assert senders[0].take() == [(go_peer.pid, "Answer", 1, "what are you?")]
    go_peer.take_messages(1)
    for seq, ours in itertools.product(range(BURST), senders):
        ours.send(go_peer.pid, Note(seq=seq, text="text"))
    numbers = by_sender(go_peer.take_messages(BURST * len(senders)))
    assert numbers == {ours.pid: list(range(BURST)) for ours in senders}


def test_its_replies_to_three_senders_go_to_the_one_that_asked(go_peer, senders):
    for seq, (place, ours) in itertools.product(range(BURST), enumerate(senders)):
        ours.send(go_peer.pid, Question(seq=seq, text=f"sender {place}"))
    for place, ours in enumerate(senders):
        assert ours.take(BURST) == [(go_peer.pid, "Answer", seq, f"sender {place}") for seq in range(BURST)]


def test_it_answers_an_ask(go_peer, recorder):
    answer = recorder.ask(go_peer.pid, Question(seq=5, text="why"), timeout=DEADLINE)
    assert answer.result() == Answer(seq=5, text="why")


def test_many_asks_at_once_each_get_their_own_answer(go_peer, recorder):
    """Each goes out from a PID of its own, which mesos-go would mix up if two shared a connection."""
    asked = [recorder.ask(go_peer.pid, Question(seq=n, text="why"), timeout=DEADLINE) for n in range(50)]
    assert [each.result().seq for each in asked] == list(range(50))


def test_a_link_to_it_tells_of_its_death_once(go_peer, recorder):
    recorder.link(go_peer.pid)
    recorder.send(go_peer.pid, Question(seq=1, text="there?"))
    assert recorder.take() == [(go_peer.pid, "Answer", 1, "there?")]
    go_peer.kill()
    assert recorder.take() == [(go_peer.pid, "exited")]
    recorder.send(recorder.pid, Note(seq=8, text="nothing in between"))
    assert recorder.take() == [(recorder.pid, "Note", 8, "nothing in between")]


def test_names_that_it_refuses_with_404_are_not_taken_for_its_death(go_peer, recorder):
    """The link message is such a name as long as mesos-go has accepted nothing on the connection."""
    recorder.link(go_peer.pid)
    recorder.send(go_peer.pid, Unheard(seq=1, text="nobody installed this"))
    # After the second round trip, everything that the answers before the first could cause has happened.
    for seq in range(2):
        recorder.send(go_peer.pid, Question(seq=seq, text="still there?"))
        assert recorder.take() == [(go_peer.pid, "Answer", seq, "still there?")]


def test_a_link_to_it_outlives_the_ten_seconds_after_which_it_closes_a_connection_that_is_idle(go_peer, recorder):
    recorder.link(go_peer.pid)
    assert recorder.is_quiet_for(13)
    recorder.send(go_peer.pid, Question(seq=1, text="still there?"))
    assert recorder.take() == [(go_peer.pid, "Answer", 1, "still there?")]


def test_a_peer_that_was_killed_and_started_again_under_the_same_pid_is_reached_and_linked_again(
    go_peer, recorder, start_go_peer
):
    for seq, peer in enumerate([go_peer, None]):
        peer = peer or start_go_peer(go_peer.pid.port)
        assert peer.pid == go_peer.pid
        recorder.link(peer.pid)
        recorder.send(peer.pid, Question(seq=seq, text="there?"))
        assert recorder.take() == [(peer.pid, "Answer", seq, "there?")]
        peer.kill()
        assert recorder.take() == [(peer.pid, "exited")]
