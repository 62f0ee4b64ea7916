"""Who waits for which answer (`_runtime/asks.py`): the table, without a context."""

import pytest

from compactor import PID
from compactor._runtime.asks import Asks, Pending

TARGET = PID("127.0.0.1", 1, "target")
OTHER = PID("127.0.0.1", 1, "other")
SENDER = PID("127.0.0.1", 2, "answers")


class Timer:
    """A timer that knows whether it was cancelled."""

    cancelled = 0

    def cancel(self):
        self.cancelled += 1


@pytest.fixture
def asks():
    return Asks()


@pytest.fixture
def asked(asks):
    """Return a function that adds a question and returns what becomes of it, and its timer."""

    def ask(id_, to=TARGET):
        ends = []
        pending = Pending(to, lambda answer, reason: ends.append((answer, reason)))
        pending.timer = Timer()
        asks.add(id_, pending)
        return ends, pending.timer

    return ask


def test_an_answer_ends_its_question_and_its_timer(asks, asked):
    ends, timer = asked("1")
    assert asks.answered("1", SENDER, "name", b"body") is True
    assert ends == [((SENDER, "name", b"body"), "")]
    assert timer.cancelled == 1
    assert len(asks) == 0
    assert asks.targets() == []


def test_an_answer_ends_no_other_question(asks, asked):
    first, _ = asked("1")
    second, timer = asked("2")
    asks.answered("1", SENDER, "name", b"")
    assert (len(first), second, timer.cancelled, len(asks)) == (1, [], 0, 1)
    assert asks.targets() == [TARGET]


@pytest.mark.parametrize("first", ["answered", "failed", "target_ended", "close"])
@pytest.mark.parametrize("second", ["answered", "failed", "target_ended", "close"])
def test_a_question_ends_once(asks, asked, first, second):
    ends, timer = asked("1")
    for what in (first, second):
        if what == "answered":
            asks.answered("1", SENDER, "name", b"")
        elif what == "failed":
            asks.failed("1", "timed out")
        elif what == "target_ended":
            asks.target_ended(TARGET, "gone")
        else:
            asks.close("stopped")
    assert len(ends) == 1
    assert timer.cancelled == 1


def test_an_answer_to_an_unknown_question_is_told_to_be_late(asks):
    assert asks.answered("unknown", SENDER, "name", b"") is False
    assert asks.failed("unknown", "timed out") is False


def test_the_end_of_a_target_ends_all_questions_to_it_and_no_others(asks, asked):
    gone = [asked(str(number))[0] for number in range(3)]
    other, _ = asked("other", OTHER)
    asks.target_ended(TARGET, "terminated")
    assert gone == [[(None, "terminated")]] * 3
    assert other == []
    assert asks.targets() == [OTHER]


def test_the_end_of_a_target_that_nobody_asked_ends_nothing(asks, asked):
    ends, _ = asked("1")
    asks.target_ended(OTHER, "terminated")
    assert ends == []


def test_close_ends_everything_with_its_reason(asks, asked):
    ends = [asked("1")[0], asked("2", OTHER)[0]]
    asks.close("the context stopped")
    assert ends == [[(None, "the context stopped")]] * 2
    assert len(asks) == 0


@pytest.mark.parametrize("how", ["target_ended", "close"])
def test_a_question_that_is_asked_anew_as_another_ends_is_kept(asks, how):
    second = []

    def ask_again(answer, reason):
        asks.add("2", Pending(TARGET, lambda answer, reason: second.append(reason)))

    asks.add("1", Pending(TARGET, ask_again))
    if how == "close":
        asks.close("gone")
    else:
        asks.target_ended(TARGET, "gone")
    assert second == []
    assert len(asks) == 1
    assert asks.targets() == [TARGET]


def test_a_question_that_ends_another_of_the_same_target_ends_each_once(asks):
    ends = []

    def finish_both(answer, reason):
        ends.append("first")
        asks.failed("2", "by the first")

    asks.add("1", Pending(TARGET, finish_both))
    asks.add("2", Pending(TARGET, lambda answer, reason: ends.append(reason)))
    asks.target_ended(TARGET, "gone")
    assert sorted(ends) in (["by the first", "first"], ["first", "gone"])


def test_a_question_without_a_timer_ends_as_well(asks):
    ends = []
    asks.add("1", Pending(TARGET, lambda answer, reason: ends.append(reason)))
    assert asks.failed("1", "gone") is True
    assert ends == ["gone"]
