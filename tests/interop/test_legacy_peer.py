"""Messages between us and compactor 0.3.0, unpatched, as another OS process, in both directions."""

import pytest
from helpers import DEADLINE
from peers import Recorder

# The first of these tests may have to build the environment that 0.3.0 runs in.
pytestmark = pytest.mark.timeout(600)

BURST = 500


@pytest.fixture
def recorder(context):
    """Return a spawned process of ours."""
    recorder = Recorder("ours(1)")
    context.spawn(recorder)
    return recorder


def test_a_burst_from_it_arrives_complete_and_in_order(legacy_peer, recorder):
    legacy_peer.send(recorder.pid, "Note", BURST)
    assert recorder.take(BURST) == [(legacy_peer.pid, "Note", seq, "text") for seq in range(BURST)]


def test_a_body_of_a_megabyte_from_it_arrives(legacy_peer, recorder):
    text = "x" * 1_000_000
    legacy_peer.send(recorder.pid, "Note", text=text)
    assert recorder.take() == [(legacy_peer.pid, "Note", 0, text)]


def test_our_replies_to_its_messages_arrive_in_order(legacy_peer, recorder):
    legacy_peer.send(recorder.pid, "Question", BURST)
    assert legacy_peer.take_messages(BURST) == [(recorder.pid, "Answer", seq, "text") for seq in range(BURST)]


def test_a_burst_to_it_arrives_complete_and_in_order(legacy_peer, recorder):
    for seq in range(BURST):
        recorder.send(legacy_peer.pid, "Note", f"{seq} text".encode())
    assert legacy_peer.take_messages(BURST) == [(recorder.pid, "Note", seq, "text") for seq in range(BURST)]


def test_a_body_of_a_megabyte_to_it_arrives(legacy_peer, recorder):
    text = "x" * 1_000_000
    recorder.send(legacy_peer.pid, "Note", f"7 {text}".encode())
    assert legacy_peer.take_messages(1) == [(recorder.pid, "Note", 7, text)]


def test_bursts_of_several_senders_to_it_keep_their_senders_and_their_order(legacy_peer, context):
    senders = [Recorder(f"ours({number})") for number in range(1, 4)]
    for sender in senders:
        context.spawn(sender)
    for seq in range(BURST):
        for sender in senders:
            sender.send(legacy_peer.pid, "Note", f"{seq} text".encode())
    received = legacy_peer.take_messages(BURST * len(senders))
    for sender in senders:
        assert [seq for pid, _, seq, _ in received if pid == sender.pid] == list(range(BURST))


def test_its_replies_to_our_messages_arrive_in_order(legacy_peer, recorder):
    for seq in range(BURST):
        recorder.send(legacy_peer.pid, "Question", f"{seq} text".encode())
    assert recorder.take(BURST) == [(legacy_peer.pid, "Answer", seq, "text") for seq in range(BURST)]


def test_it_answers_an_ask(legacy_peer, recorder):
    answer = recorder.ask(legacy_peer.pid, "Question", b"5 why", timeout=DEADLINE).result()
    assert (answer.sender, answer.name, answer.body) == (legacy_peer.pid, "Answer", b"5 why")


def test_many_asks_at_once_each_get_their_own_answer(legacy_peer, recorder):
    asked = [recorder.ask(legacy_peer.pid, "Question", f"{n} why".encode(), timeout=DEADLINE) for n in range(50)]
    assert [each.result().body for each in asked] == [f"{n} why".encode() for n in range(50)]


def test_a_link_to_it_tells_of_its_death_once_and_of_nothing_else(legacy_peer, recorder):
    """It refuses the link message with 405, as it refuses all names that it has not installed."""
    recorder.link(legacy_peer.pid)
    recorder.send(legacy_peer.pid, "Unheard")
    for seq in range(2):
        recorder.send(legacy_peer.pid, "Question", f"{seq} still there?".encode())
        assert recorder.take() == [(legacy_peer.pid, "Answer", seq, "still there?")]
    legacy_peer.kill()
    assert recorder.take() == [(legacy_peer.pid, "exited")]
    recorder.send(recorder.pid, "Note", b"8 nothing in between")
    assert recorder.take() == [(recorder.pid, "Note", 8, "nothing in between")]
