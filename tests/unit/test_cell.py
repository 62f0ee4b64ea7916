"""One process and its events (`_runtime/cell.py`), on a host that is cranked by hand."""

import asyncio

import pytest

from compactor import PID, Process
from compactor._runtime.cell import (
    ENDED,
    ENDING,
    QUANTUM,
    RUNNING,
    STARTING,
    CallEvent,
    ExitedEvent,
    InitializeEvent,
)

from .cranked import SENDER, Actor, World

OTHER = PID("127.0.0.1", 7, "other")


@pytest.fixture
def world():
    return World()


@pytest.fixture
def cell(world):
    return world.running(Actor())


def _letters(world):
    return [(name, reason) for name, _, reason in world.letters]


# --- order ----------------------------------------------------------------------------------------------------------


def test_events_of_all_kinds_are_served_in_the_order_in_which_they_were_queued(world, cell):
    world.post(cell, "note", b"1", b"2")
    cell.put((CallEvent(cell.process.called, "called", (b"3",)), None))
    cell.put((ExitedEvent(OTHER, "gone"), None))
    world.post(cell, "note", b"5")
    world.settle()
    assert world.log == [b"1", b"2", b"3", ("exited", OTHER, "gone"), b"5"]


def test_what_a_handler_queues_for_itself_comes_behind_what_is_queued(world):
    class Sender(Actor):
        def note(self, from_pid, body):
            self.note_down(body)
            if body == b"1":
                self.world.post(self._compactor_cell, "note", b"3")

    cell = world.running(Sender())
    world.post(cell, "note", b"1", b"2")
    world.settle()
    assert world.log == [b"1", b"2", b"3"]


def test_one_run_serves_at_most_its_quantum(world, cell):
    world.post(cell, "note", *[b"x"] * 100)
    assert cell.run(QUANTUM) == QUANTUM
    assert len(world.log) == QUANTUM
    assert cell.run(10) == 10
    assert cell.run(QUANTUM) == 100 - QUANTUM - 10


def test_messages_that_come_before_initialize_are_served_behind_it(world):
    cell = world.cell(Actor())
    cell.put((InitializeEvent(world.spawned.append), None))
    world.post(cell, "note", b"1")
    world.settle()
    assert world.log == ["initialize", b"1"]
    assert world.spawned == [None]


def test_what_is_sent_while_initialize_runs_is_served_behind_it(world):
    class Early(Actor):
        def initialize(self):
            self.world.post(self._compactor_cell, "note", b"sent by initialize")
            self.note_down("initialize")

    cell = world.cell(Early())
    cell.serve_first(InitializeEvent(world.spawned.append))
    assert world.log == ["initialize"]
    assert cell.state is RUNNING
    world.settle()
    assert world.log == ["initialize", b"sent by initialize"]


def test_the_message_being_handled_is_known_only_while_it_is_handled(world):
    seen = []

    class Looker(Actor):
        def note(self, from_pid, body):
            seen.append(self._compactor_cell.current)

        def called(self, value):
            seen.append(self._compactor_cell.current)

    cell = world.running(Looker())
    world.post(cell, "note")
    cell.put((CallEvent(cell.process.called, "called", (b"",)), None))
    world.settle()
    assert [seen[0].name, seen[0].sender, seen[1], cell.current] == ["note", SENDER, None, None]


def test_a_message_without_a_handler_goes_to_the_delegate_of_its_name_with_its_sender(world, cell):
    cell.process.delegate("other", OTHER)
    world.post(cell, "other", b"x")
    world.post(cell, "note", b"handled")
    world.post(cell, "unknown")
    world.settle()
    assert world.forwarded == [(SENDER, OTHER, "other", b"x")]
    assert world.log == [b"handled"]
    assert world.unhandled == ["unknown"]


@pytest.mark.parametrize("value", [1, "text", b"bytes", object(), [], False])
def test_what_a_handler_returns_is_ignored_when_it_cannot_be_awaited(world, value):
    class Returns(Actor):
        def note(self, from_pid, body):
            self.note_down(body)
            return value

    world.post(world.running(Returns()), "note", b"1", b"2")
    world.settle()
    assert world.log == [b"1", b"2"]
    assert world.errors == []


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LookupError, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_a_handler_that_raises_is_reported_once_and_the_next_message_is_handled(world, cell, kind):
    cell.process.raises = kind("why")
    world.post(cell, "fail")
    world.post(cell, "note", b"next")
    world.settle()
    assert world.errors == [("fail", cell.process.raises)]
    assert world.log == [b"next"]


@pytest.mark.parametrize("kind", [LookupError, SystemExit])
def test_a_call_or_an_exited_that_raises_is_reported_and_the_next_event_is_served(world, kind):
    error = kind("why")

    class Fails(Actor):
        def exited(self, pid):
            raise error

        def called(self, value):
            raise error

    cell = world.running(Fails())
    cell.put((ExitedEvent(OTHER, "gone"), None))
    cell.put((CallEvent(cell.process.called, "called", (b"",)), None))
    world.post(cell, "note", b"next")
    world.settle()
    assert world.errors == [("exited", error), ("called", error)]
    assert cell.exit_reason is None
    assert world.log == [b"next"]


def test_an_interrupt_in_the_last_message_does_not_keep_the_process_from_ending(world, cell):
    cell.process.raises = KeyboardInterrupt()
    world.post(cell, "fail")
    with pytest.raises(KeyboardInterrupt):
        world.turn()
    cell.terminate("terminated")
    world.settle()
    assert world.log == ["finalize"]
    assert cell.state is ENDED


def test_an_interrupt_in_finalize_does_not_keep_the_process_from_ending(world):
    class Fails(Actor):
        def finalize(self):
            self.note_down("finalize")
            raise KeyboardInterrupt

    cell = world.running(Fails())
    cell.terminate("terminated")
    with pytest.raises(KeyboardInterrupt):
        world.turn()
    world.settle()
    assert world.log == ["finalize"]
    assert cell.state is ENDED
    assert len(world.ends) == 1


# --- while something is awaited -------------------------------------------------------------------------------------


def test_a_busy_process_serves_nothing_until_its_handler_ends_while_others_go_on(world, cell):
    other = world.running(Actor("quiet"))
    world.post(cell, "wait", b"1")
    world.post(cell, "note", b"2")
    world.post(other, "note", b"quiet")
    world.settle()
    assert world.log == [b"wait 1", b"quiet"]
    world.post(cell, "note", b"3")
    world.settle()
    assert world.log == [b"wait 1", b"quiet"]
    assert cell.current.name == "wait"
    cell.process.pauses.popleft().end()
    world.settle()
    assert world.log == [b"wait 1", b"quiet", b"2", b"3"]
    assert cell.current is None


@pytest.mark.parametrize("error", [None, LookupError("late"), SystemExit(), asyncio.CancelledError()])
def test_a_handler_that_ends_late_with_an_error_is_reported_and_the_process_goes_on(world, cell, error):
    world.post(cell, "wait")
    world.settle()
    cell.process.pauses.popleft().end(error)
    assert world.errors == ([("wait", error)] if error is not None else [])
    assert cell.mailbox is None
    world.post(cell, "note", b"next")
    world.settle()
    assert world.log[-1] == b"next"


def test_the_reason_of_an_exit_is_known_until_an_asynchronous_exited_ends(world):
    class Waits(Actor):
        def exited(self, pid):
            return self.pause()

    cell = world.running(Waits())
    cell.put((ExitedEvent(OTHER, "gone"), None))
    world.settle()
    assert cell.process.exit_reason == "gone"
    cell.process.pauses.popleft().end()
    assert cell.process.exit_reason is None


def test_each_of_many_waits_in_a_row_holds_the_next_message(world, cell):
    world.post(cell, "wait", b"1", b"2", b"3")
    world.settle()
    for number in (b"wait 1", b"wait 2", b"wait 3"):
        assert world.log[-1] == number
        cell.process.pauses.popleft().end()
        world.settle()
    assert cell.mailbox is None


# --- terminate, in every state --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inject", [True, False])
def test_an_idle_process_ends_with_its_finalize(world, cell, inject):
    cell.terminate("terminated", inject)
    world.settle()
    assert world.log == ["finalize"]
    assert world.ends == [(cell, "terminated")]
    assert cell.state is ENDED
    assert cell.mailbox is None


def test_terminate_comes_before_what_is_queued_which_becomes_dead_letters(world, cell):
    world.post(cell, "note", b"1", b"22")
    cell.put((CallEvent(cell.process.called, "called", (b"",)), None))
    cell.terminate("terminated")
    world.post(cell, "note", b"333")
    world.settle()
    assert world.log == ["finalize"]
    assert world.letters == [("note", 1, "terminated"), ("note", 2, "terminated"), ("note", 3, "terminated")]
    assert world.dropped == [("called", "terminated")]


def test_terminate_that_is_not_injected_comes_behind_what_is_queued(world, cell):
    world.post(cell, "note", b"1", b"2")
    cell.terminate("terminated", inject=False)
    world.post(cell, "note", b"3")
    world.settle()
    assert world.log == [b"1", b"2", "finalize"]
    assert _letters(world) == [("note", "terminated")]


def test_terminate_of_a_busy_process_waits_for_its_handler_alone(world, cell):
    world.post(cell, "wait", b"1")
    world.post(cell, "note", b"2")
    world.settle()
    cell.terminate("terminated")
    world.settle()
    assert world.log == [b"wait 1"]
    cell.process.pauses.popleft().end()
    world.settle()
    assert world.log == [b"wait 1", "finalize"]
    assert _letters(world) == [("note", "terminated")]


def test_terminate_of_a_busy_process_that_is_not_injected_serves_what_is_queued_first(world, cell):
    world.post(cell, "wait", b"1")
    world.post(cell, "note", b"2")
    world.settle()
    cell.terminate("terminated", inject=False)
    world.post(cell, "note", b"3")
    cell.process.pauses.popleft().end()
    world.settle()
    assert world.log == [b"wait 1", b"2", "finalize"]
    assert _letters(world) == [("note", "terminated")]


def test_terminate_in_a_handler_takes_effect_behind_it(world, cell):
    world.post(cell, "end", b"now")
    world.post(cell, "note", b"2")
    world.settle()
    assert world.log == [b"end", "finalize"]
    assert _letters(world) == [("note", "terminated")]


def test_terminate_in_a_handler_that_is_not_injected_serves_what_is_queued_first(world, cell):
    world.post(cell, "end", b"later")
    world.post(cell, "note", b"2")
    world.settle()
    assert world.log == [b"end", b"2", "finalize"]


def test_terminate_in_a_handler_that_raises_takes_effect_as_well(world):
    class Fails(Actor):
        def note(self, from_pid, body):
            self.terminate()
            raise LookupError

    cell = world.running(Fails())
    world.post(cell, "note", b"1", b"2")
    world.settle()
    assert world.log == ["finalize"]
    assert len(world.errors) == 1
    assert _letters(world) == [("note", "terminated")]


def test_terminate_in_a_call_takes_effect_behind_it(world):
    class Ends(Actor):
        def called(self, value):
            self.note_down(value)
            self.terminate()

    cell = world.running(Ends())
    cell.put((CallEvent(cell.process.called, "called", (b"1",)), None))
    world.post(cell, "note", b"2")
    world.settle()
    assert world.log == [b"1", "finalize"]
    assert _letters(world) == [("note", "terminated")]


def test_terminate_before_initialize_ends_without_either_hook_and_tells_the_spawner(world):
    cell = world.spawn(Actor())
    world.post(cell, "note", b"1")
    cell.terminate("terminated")
    world.settle()
    assert world.log == []
    assert [str(error) for error in world.spawned] == ["terminated"]
    assert _letters(world) == [("note", "terminated")]
    assert world.ends == [(cell, "terminated")]


@pytest.mark.parametrize("first", [True, False], ids=["served first", "served in a turn"])
def test_terminate_in_initialize_lets_it_end_and_then_finalizes(world, first):
    class Ends(Actor):
        def initialize(self):
            self.note_down("initialize")
            self.terminate()

    cell = world.cell(Ends())
    event = InitializeEvent(world.spawned.append)
    if first:
        cell.serve_first(event)
    else:
        cell.put((event, None))
    world.post(cell, "note", b"1")
    world.settle()
    assert world.log == ["initialize", "finalize"]
    assert world.spawned == [None]
    assert _letters(world) == [("note", "terminated")]


def test_terminate_during_an_asynchronous_initialize_lets_it_end_and_then_finalizes(world):
    class Waits(Actor):
        def initialize(self):
            self.note_down("initialize")
            return self.pause()

    cell = world.spawn(Waits())
    world.post(cell, "note", b"1")
    world.settle()
    assert cell.state is STARTING
    cell.terminate("terminated")
    world.settle()
    assert world.spawned == []
    cell.process.pauses.popleft().end()
    world.settle()
    assert world.log == ["initialize", "finalize"]
    assert world.spawned == [None]
    assert _letters(world) == [("note", "terminated")]


def test_terminate_in_finalize_changes_nothing(world):
    class Ends(Actor):
        def finalize(self):
            self.note_down("finalize")
            self.terminate()
            self.terminate(inject=False)

    cell = world.running(Ends())
    cell.terminate("terminated")
    world.settle()
    assert world.log == ["finalize"]
    assert world.ends == [(cell, "terminated")]


def test_terminate_during_an_asynchronous_finalize_changes_nothing(world):
    class Waits(Actor):
        def finalize(self):
            self.note_down("finalize")
            return self.pause()

    cell = world.running(Waits())
    cell.terminate("terminated")
    world.settle()
    assert cell.state is ENDING
    cell.terminate("again")
    world.post(cell, "note", b"1")
    world.settle()
    assert world.ends == []
    cell.process.pauses.popleft().end()
    world.settle()
    assert world.log == ["finalize"]
    assert world.ends == [(cell, "terminated")]
    assert _letters(world) == [("note", "terminated")]


@pytest.mark.parametrize("inject", [True, False])
def test_terminate_more_than_once_finalizes_once(world, cell, inject):
    world.post(cell, "wait")
    world.settle()
    for _ in range(3):
        cell.terminate("terminated", inject)
        cell.terminate("terminated", not inject)
    cell.process.pauses.popleft().end()
    world.settle()
    cell.terminate("again")
    assert world.asked == 0
    assert world.log == [b"wait ", "finalize"]
    assert world.ends == [(cell, "terminated")]


def test_what_finalize_sends_to_itself_becomes_a_dead_letter(world):
    class Sends(Actor):
        def finalize(self):
            self.world.post(self._compactor_cell, "note", b"never")

    cell = world.running(Sends())
    cell.terminate("terminated")
    world.settle()
    assert world.log == []
    assert _letters(world) == [("note", "terminated")]


@pytest.mark.parametrize("late", [False, True])
def test_a_finalize_that_raises_is_reported_and_the_process_ends(world, late):
    error = LookupError("finalize")

    class Fails(Actor):
        def finalize(self):
            if late:
                return self.pause()
            raise error

    cell = world.running(Fails())
    world.post(cell, "note", b"1")
    cell.terminate("terminated")
    world.settle()
    if late:
        cell.process.pauses.popleft().end(error)
    assert world.errors == [("finalize", error)]
    assert cell.state is ENDED
    assert _letters(world) == [("note", "terminated")]


def test_a_process_that_gives_up_nothing_has_no_hook_called_that_takes_arguments(world):
    class Driver(Actor):
        def finalize(self, driver):
            self.note_down("finalize")

    cell = world.running(Driver())
    cell.terminate("terminated")
    world.settle()
    assert world.log == []
    assert cell.state is ENDED


# --- initialize that fails, and processes that are given up ---------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", [LookupError, SystemExit])
def test_an_initialize_that_raises_leaves_nothing_behind(world, late, kind):
    error = kind("initialize")

    class Fails(Actor):
        def initialize(self):
            if late:
                return self.pause()
            raise error

    cell = world.spawn(Fails())
    world.post(cell, "note", b"1")
    world.settle()
    if late:
        cell.process.pauses.popleft().end(error)
    assert world.spawned == [error]
    assert world.log == []
    assert world.ends == [(cell, "initialize raised")]
    assert _letters(world) == [("note", "initialize raised")]
    assert (cell.state, cell.mailbox, cell.queued, cell.busy) == (ENDED, None, False, False)
    assert world.asked == 0


def test_the_id_is_free_when_the_spawner_learns_that_initialize_raised(world):
    class Fails(Actor):
        def initialize(self):
            raise LookupError

    ends = []
    cell = world.cell(Fails())
    cell.serve_first(InitializeEvent(lambda error: ends.append(len(world.ends))))
    assert ends == [1]


@pytest.mark.parametrize("terminated", [False, True])
def test_a_process_that_is_given_up_while_it_waits_ends_once(world, cell, terminated):
    world.post(cell, "wait")
    world.post(cell, "note", b"1")
    world.settle()
    if terminated:  # as when a context stops
        cell.terminate("terminated")
    cell.abandon("given up")
    cell.process.pauses.popleft().end()
    world.settle()
    assert world.log == [b"wait "]
    assert world.ends == [(cell, "given up")]
    assert _letters(world) == [("note", "given up")]


@pytest.mark.parametrize("error", [None, LookupError()])
def test_a_spawner_is_told_once_when_the_process_is_given_up_during_initialize(world, error):
    class Waits(Actor):
        def initialize(self):
            return self.pause()

    cell = world.spawn(Waits())
    world.settle()
    cell.abandon("given up")
    cell.process.pauses.popleft().end(error)
    assert [str(told) for told in world.spawned] == ["it was given up"]
    assert world.ends == [(cell, "given up")]
    assert cell.state is ENDED


def test_a_process_that_is_given_up_during_finalize_ends_once(world):
    class Waits(Actor):
        def finalize(self):
            return self.pause()

    cell = world.running(Waits())
    cell.terminate("terminated")
    world.settle()
    cell.abandon("given up")
    cell.process.pauses.popleft().end()
    assert world.ends == [(cell, "given up")]


def test_the_base_class_has_hooks_that_do_nothing(world):
    cell = world.running(Process("plain"))
    cell.put((ExitedEvent(OTHER, "gone"), None))
    cell.terminate("terminated", inject=False)
    world.settle()
    assert cell.state is ENDED
    assert world.errors == []


def test_an_interrupt_in_initialize_passes_through_and_the_spawner_is_told(world):
    class Fails(Actor):
        def initialize(self):
            raise KeyboardInterrupt

    cell = world.spawn(Fails())
    with pytest.raises(KeyboardInterrupt):
        world.turn()
    assert len(world.spawned) == 1
    assert world.spawned[0] is not None
    assert cell.state is ENDED


def test_of_two_reasons_to_end_the_first_is_told(world, cell):
    world.post(cell, "wait")
    world.settle()
    cell.terminate("first")
    cell.terminate("second")
    cell.process.pauses.popleft().end()
    assert world.ends == [(cell, "first")]
