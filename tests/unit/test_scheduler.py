"""Whose turn it is (`_runtime/scheduler.py`): counted on a host that is cranked by hand."""

from collections import deque

import pytest

from compactor import Process
from compactor._runtime.cell import QUANTUM
from compactor._runtime.scheduler import BREATH_SECONDS, BUDGET, TURN_SECONDS, Scheduler

from .cranked import Actor, World


@pytest.fixture
def world():
    return World()


def test_a_quiet_process_is_served_after_one_quantum_of_a_flooded_one(world):
    flooded, quiet = world.running(Actor("flooded")), world.running(Actor("quiet"))
    world.post(flooded, "note", *(b"%d" % number for number in range(10 * BUDGET)))
    world.post(quiet, "note", b"quiet")
    world.turn()
    assert world.log.index(b"quiet") == QUANTUM


def test_a_turn_handles_no_more_events_than_its_budget(world):
    cells = [world.running(Actor(f"flooded-{number}")) for number in range(3)]
    for cell in cells:
        world.post(cell, "note", *[b"x"] * 10 * BUDGET)
    world.turn()
    assert len(world.log) == BUDGET
    world.turn()
    assert len(world.log) == 2 * BUDGET


def test_a_flood_is_handled_whole_and_in_order_in_the_turns_that_follow(world):
    cell = world.running(Actor())
    bodies = [b"%d" % number for number in range(10 * BUDGET)]
    world.post(cell, "note", *bodies)
    assert world.settle() >= 10
    assert world.log == bodies


def test_flooded_processes_take_turns(world):
    class Named(Actor):
        def note(self, from_pid, body):
            self.note_down(self._compactor_id)

    for cell in [world.running(Named(name)) for name in ("a", "b")]:
        world.post(cell, "note", *[b""] * 3 * QUANTUM)
    world.turn()
    assert world.log == ["a"] * QUANTUM + ["b"] * QUANTUM + ["a"] * QUANTUM + ["b"] * QUANTUM


def test_runs_between_two_turns_of_the_loop_share_one_budget(world):
    cell = world.running(Actor())
    world.scheduler.turn()
    for _ in range(8):  # as blocks that arrive on a connection
        world.scheduler.hold()
        world.post(cell, "note", *[b"x"] * BUDGET)
        world.scheduler.run()
    assert len(world.log) == BUDGET
    assert world.asked == 1
    world.turn()
    assert len(world.log) == 2 * BUDGET


def test_a_small_run_asks_for_no_turn_of_the_loop(world):
    cell = world.running(Actor())
    world.scheduler.hold()
    world.post(cell, "note", b"x")
    world.scheduler.run()
    assert world.log == [b"x"]
    assert world.asked == 0


def test_a_run_that_takes_much_of_the_budget_asks_for_the_turn_that_renews_it(world):
    cell = world.running(Actor())
    world.scheduler.hold()
    world.post(cell, "note", *[b"x"] * (BUDGET // 2))
    world.scheduler.run()
    assert len(world.log) == BUDGET // 2
    assert world.asked == 1


def test_small_runs_have_their_budget_renewed_in_the_end(world):
    cell = world.running(Actor())
    for _ in range(10 * BUDGET):
        world.scheduler.hold()
        world.post(cell, "note", b"x")
        world.scheduler.run()
        if world.asked:
            world.turn()
    assert len(world.log) == 10 * BUDGET


def test_a_turn_ends_when_its_time_is_over(world):
    class Slow(Actor):
        def note(self, from_pid, body):
            self.note_down(self._compactor_id)
            self.world.now += 1.0

    for cell in [world.running(Slow(name)) for name in ("a", "b")]:
        world.post(cell, "note")
    world.turn()
    assert world.log == ["a"]
    world.turn()
    assert world.log == ["a", "b"]


def test_a_process_that_floods_itself_starves_nobody(world):
    class Endless(Actor):
        def note(self, from_pid, body):
            self.note_down("endless")
            if body != b"stop":
                self.world.post(self._compactor_cell, "note", b"")

    endless, quiet = world.running(Endless("endless")), world.running(Actor("quiet"))
    world.post(endless, "note")
    world.post(quiet, "note", b"quiet")
    world.turn()
    assert world.log.count("endless") <= BUDGET
    assert b"quiet" in world.log


def test_two_processes_that_keep_each_other_busy_leave_room_for_a_third(world):
    class Player(Actor):
        def note(self, from_pid, body):
            self.note_down("play")
            self.world.post(self.other, "note", b"")

    left, right = world.running(Player("left")), world.running(Player("right"))
    left.process.other, right.process.other = right, left
    quiet = world.running(Actor("quiet"))
    world.post(left, "note")
    world.post(quiet, "note", b"quiet")
    world.turn()
    assert world.log.count("play") <= BUDGET
    assert b"quiet" in world.log


def test_what_was_sent_leaves_at_the_end_of_each_run(world):
    cell = world.running(Actor())
    before = world.flushes
    world.post(cell, "note", b"x")
    world.turn()
    assert world.flushes == before + 1


def test_a_turn_is_asked_for_once_whatever_is_queued(world):
    for number in range(5):
        world.post(world.cell(Actor(f"actor-{number}")), "note", b"x", b"y")
    assert world.asked == 1


def test_the_process_whose_handler_runs_is_known_while_it_runs(world):
    seen = []

    class Looker(Actor):
        def note(self, from_pid, body):
            seen.append(self.world.scheduler.current)

    cell = world.running(Looker())
    world.post(cell, "note")
    world.turn()
    assert seen == [cell]
    assert world.scheduler.current is None


def test_an_idle_process_holds_no_mailbox_and_the_next_one_uses_it_again(world):
    first, second = world.running(Actor("first")), world.running(Actor("second"))
    assert first.mailbox is None
    assert second.mailbox is None
    world.post(first, "note")
    mailbox = first.mailbox
    world.turn()
    assert first.mailbox is None
    world.post(second, "note", b"x")
    assert second.mailbox is mailbox
    world.turn()
    assert world.log == [b"", b"x"]


def test_mailboxes_in_reserve_are_bounded(world):
    for _ in range(10_000):
        world.scheduler.return_mailbox(world.scheduler.borrow_mailbox())
    borrowed = [world.scheduler.borrow_mailbox() for _ in range(10_000)]
    assert len({id(mailbox) for mailbox in borrowed}) == 10_000
    for mailbox in borrowed:
        world.scheduler.return_mailbox(mailbox)
    again = {id(world.scheduler.borrow_mailbox()) for _ in range(10_000)}
    assert 0 < len(again & {id(mailbox) for mailbox in borrowed}) <= 1000


@pytest.mark.parametrize("method", ["turn", "run"])
def test_an_interrupt_passes_through_and_the_rest_has_its_turn(world, method):
    interrupted, other = world.running(Actor("interrupted")), world.running(Actor("other"))
    interrupted.process.raises = KeyboardInterrupt()
    world.scheduler.hold()
    world.post(interrupted, "note", b"before")
    world.post(interrupted, "fail")
    world.post(interrupted, "note", b"after")
    world.post(other, "note", b"other")
    with pytest.raises(KeyboardInterrupt):
        getattr(world.scheduler, method)()
    assert world.log == [b"before"]
    assert world.scheduler.current is None
    assert world.asked == 1
    world.settle()
    assert sorted(world.log) == [b"after", b"before", b"other"]


def test_an_interrupted_process_goes_on_with_the_next_message_that_comes(world):
    cell = world.running(Actor())
    cell.process.raises = KeyboardInterrupt()
    world.post(cell, "fail")
    with pytest.raises(KeyboardInterrupt):
        world.turn()
    world.settle()
    world.post(cell, "note", b"next")
    world.settle()
    assert world.log == [b"next"]


def test_a_process_that_ended_while_it_was_ready_is_passed_over(world):
    gone, other = world.running(Actor("gone")), world.running(Actor("other"))
    world.post(gone, "note", b"never")
    world.post(other, "note", b"x")
    gone.abandon("given up")
    world.settle()
    assert world.log == [b"x"]


def test_a_class_without_hooks_runs_as_well(world):
    class Plain(Process):
        pass

    cell = world.running(Plain("plain"))
    world.post(cell, "what")
    world.settle()
    assert world.unhandled == ["what"]


def test_a_loop_that_is_always_busy_breathes_now_and_then_and_an_idle_one_does_not():
    now, breaths, asked = [0.0], [], []
    scheduler = Scheduler(lambda: now[0], lambda: asked.append(True), lambda: None, lambda: breaths.append(now[0]))

    class Endless:
        busy = False

        def __init__(self):
            self.mailbox = deque([object()])

        def run(self, quantum):
            now[0] += TURN_SECONDS * 2  # so that one is enough for a turn
            return 1

        def rest(self):
            pass

    cell = Endless()
    scheduler.enqueue(cell)
    while now[0] < BREATH_SECONDS * 10:
        scheduler.turn()
    assert 4 <= len(breaths) <= 10
    cell.mailbox = deque()
    scheduler.turn()
    breaths.clear()
    now[0] += BREATH_SECONDS * 10
    cell.mailbox = deque([object()])
    scheduler.enqueue(cell)
    scheduler.turn()
    assert breaths == []
