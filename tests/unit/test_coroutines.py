"""Coroutines stepped by hand (`_aio/coroutines.py`): as tasks would run them, but for the task."""

import asyncio
import contextvars
import gc

import pytest
from tornado import gen

from compactor._aio.coroutines import Stepper

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class Outcome:
    """What became of one step."""

    def __init__(self):
        self.at_once = None
        self.raised = None
        self.later = []  # what `done` was called with

    @property
    def error(self):
        assert len(self.later) == 1
        return self.later[0]


class Bench:
    """A loop that runs only while a test waits, and a stepper on it that is called from the loop's callbacks."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.problems.append(context))
        self.loop.set_task_factory(self._make_task)
        self.stepper = Stepper(self.loop)
        self.problems = []
        self.tasks_made = 0

    def _make_task(self, loop, coroutine, **options):
        self.tasks_made += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    def call(self, function, *args):
        """Return what `function` returns in a callback of the loop."""
        future = self.loop.create_future()

        def run():
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

        self.loop.call_soon(run)
        return self.loop.run_until_complete(future)

    def step(self, *awaitables):
        """Step all in one turn of the loop; return their outcomes."""
        outcomes = [Outcome() for _ in awaitables]

        def run():
            for awaitable, outcome in zip(awaitables, outcomes, strict=True):
                try:
                    outcome.at_once = self.stepper.step(awaitable, outcome.later.append)
                except BaseException as error:
                    outcome.raised = error

        self.call(run)
        return outcomes[0] if len(outcomes) == 1 else outcomes

    def turns(self, number=10):
        """Let the loop come round some times."""
        for _ in range(number):
            self.call(lambda: None)

    def end(self, outcome):
        """Let the loop run until a step that went on has ended, and return its error."""
        assert outcome.at_once is False
        give_up = self.loop.time() + 10
        while not outcome.later and self.loop.time() < give_up:
            future = self.loop.create_future()
            self.loop.call_later(0.001, future.set_result, None)
            self.loop.run_until_complete(future)
        return outcome.error

    def close(self):
        self.call(self.stepper.close)
        self.turns()
        left = asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        gc.collect()
        assert left == set()
        assert self.problems == []


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_coroutines_that_do_not_suspend_share_one_task(bench):
    ran = []

    async def handler(number):
        ran.append(number)

    for number in range(100):
        assert bench.step(handler(number)).at_once is True
    assert ran == list(range(100))
    assert bench.tasks_made == 1
    assert bench.stepper.tasks == set()


def test_a_coroutine_that_ends_at_once_is_not_reported_again(bench):
    async def handler():
        return "ignored"

    outcome = bench.step(handler())
    bench.turns()
    assert (outcome.at_once, outcome.later, outcome.raised) == (True, [], None)


def test_a_coroutine_that_suspends_goes_on_as_the_task_of_its_first_step(bench):
    seen = []

    async def handler():
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0.001)
        seen.append(asyncio.current_task())

    outcome = bench.step(handler())
    assert seen[0] in bench.stepper.tasks
    assert bench.end(outcome) is None
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert seen[0].done()
    assert bench.stepper.tasks == set()
    assert bench.tasks_made == 1


def test_each_of_several_suspended_coroutines_is_a_task_of_its_own(bench):
    seen = {}
    gate = bench.loop.create_future()

    async def handler(number):
        seen[number] = [asyncio.current_task()]
        await asyncio.shield(gate)
        seen[number].append(asyncio.current_task())

    outcomes = bench.step(*(handler(number) for number in range(5)))
    bench.turns()
    bench.call(gate.set_result, None)
    assert [bench.end(outcome) for outcome in outcomes] == [None] * 5
    assert all(before is after for before, after in seen.values())
    assert len({before for before, _ in seen.values()}) == 5


def test_there_is_no_current_task_between_steps(bench):
    async def handler():
        await asyncio.sleep(0)

    outcome = bench.step(handler())
    assert bench.call(asyncio.current_task, bench.loop) is None
    bench.end(outcome)


def test_a_suspended_coroutine_reports_its_end_once_and_through_done(bench):
    gate = bench.loop.create_future()

    async def handler():
        await gate

    outcome = bench.step(handler())
    bench.turns()
    assert (outcome.at_once, outcome.later) == (False, [])
    bench.call(gate.set_result, None)
    assert bench.end(outcome) is None
    bench.turns()
    assert outcome.later == [None]


def test_what_a_future_was_given_reaches_the_coroutine_that_waits_for_it_first(bench):
    gate = bench.loop.create_future()
    got = []

    async def handler():
        got.append(await gate)

    outcome = bench.step(handler())
    gate.set_result("value")  # before the task has looked at it
    assert bench.end(outcome) is None
    assert got == ["value"]


# --- what asks for the current task ---------------------------------------------------------------------------------


def test_a_timeout_that_is_not_needed_costs_no_task(bench):
    async def handler():
        async with asyncio.timeout(10):
            pass

    assert bench.step(handler()).at_once is True
    assert bench.tasks_made == 1


def test_a_timeout_entered_in_the_first_step_ends_the_wait(bench):
    seen = []

    async def handler():
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("timed out")
        await asyncio.sleep(0)
        seen.append("went on")

    assert bench.end(bench.step(handler())) is None
    assert seen == ["timed out", "went on"]


def test_a_timeout_of_no_time_entered_in_the_first_step_ends_the_wait(bench):
    async def handler():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    assert type(bench.end(bench.step(handler()))) is TimeoutError


async def _child(value):
    await asyncio.sleep(0)
    return value


async def _with_wait_for():
    return await asyncio.wait_for(_child(7), 10)


async def _with_wait_for_in_vain():
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)
    return 7


async def _with_gather():
    return sum(await asyncio.gather(_child(3), _child(4)))


async def _with_task_group():
    async with asyncio.TaskGroup() as group:
        three, four = group.create_task(_child(3)), group.create_task(_child(4))
    return three.result() + four.result()


async def _with_empty_task_group():
    async with asyncio.TaskGroup():
        pass
    return await _child(7)


async def _with_queue():
    queue = asyncio.Queue()
    asyncio.get_running_loop().call_soon(queue.put_nowait, 7)
    return await queue.get()


async def _with_generator():
    async def numbers():
        for number in (3, 4):
            await asyncio.sleep(0)
            yield number

    return sum([number async for number in numbers()])


async def _with_thread():
    return await asyncio.to_thread(lambda: 7)


@pytest.mark.parametrize(
    "work",
    [
        _with_wait_for,
        _with_wait_for_in_vain,
        _with_gather,
        _with_task_group,
        _with_empty_task_group,
        _with_queue,
        _with_generator,
        _with_thread,
    ],
)
def test_the_tools_of_asyncio_work_from_the_first_step_on(bench, work):
    got = []

    async def handler():
        got.append(await work())

    assert bench.end(bench.step(handler())) is None
    assert got == [7]
    bench.loop.run_until_complete(bench.loop.shutdown_default_executor())


def test_a_task_group_in_the_first_step_cancels_its_parent_when_a_child_fails(bench):
    seen = []

    async def fails():
        raise LookupError("child")

    async def handler():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await asyncio.Event().wait()
        except* LookupError:
            seen.append("child failed")
        seen.append(asyncio.current_task().cancelling())

    assert bench.end(bench.step(handler())) is None
    assert seen == ["child failed", 0]


# --- context variables ----------------------------------------------------------------------------------------------


def test_a_variable_set_before_a_suspension_can_be_read_and_reset_after_it(bench):
    seen = []

    async def handler():
        token = VARIABLE.set("mine")
        await asyncio.sleep(0)
        seen.append(VARIABLE.get())
        VARIABLE.reset(token)
        seen.append(VARIABLE.get())

    assert bench.end(bench.step(handler())) is None
    assert seen == ["mine", "unset"]


async def _set_and_end():
    VARIABLE.set("of the first")


async def _set_and_suspend():
    VARIABLE.set("of the first")
    await asyncio.sleep(0)


async def _set_and_raise():
    VARIABLE.set("of the first")
    raise LookupError


@pytest.mark.parametrize("outside", ["unset", "outer"])
@pytest.mark.parametrize("first", [_set_and_end, _set_and_suspend, _set_and_raise])
def test_a_variable_set_by_one_coroutine_is_not_seen_by_the_next(bench, first, outside):
    seen = []

    async def second():
        seen.append(VARIABLE.get())

    def both():
        if outside != "unset":
            VARIABLE.set(outside)
        bench.step(first(), second())

    contextvars.copy_context().run(both)
    assert seen in ([outside], ["unset"])  # whichever context coroutines begin in, it is not that of the first


def test_variables_of_suspended_coroutines_do_not_mix(bench):
    seen = []

    async def handler(value):
        VARIABLE.set(value)
        await asyncio.sleep(0)
        seen.append((value, VARIABLE.get()))

    outcomes = bench.step(*(handler(value) for value in range(3)))
    for outcome in outcomes:
        bench.end(outcome)
    assert seen == [(0, 0), (1, 1), (2, 2)]


def test_a_variable_that_is_set_and_reset_costs_no_new_task(bench):
    async def handler():
        VARIABLE.reset(VARIABLE.set("for a moment"))

    for _ in range(10):
        bench.step(handler())
    assert bench.tasks_made == 1


# --- errors and cancellation ----------------------------------------------------------------------------------------


_EARLY = [LookupError, StopAsyncIteration, asyncio.CancelledError, SystemExit, KeyboardInterrupt]


@pytest.mark.parametrize("kind", _EARLY)
def test_what_is_raised_before_any_suspension_is_raised_by_step(bench, kind):
    async def handler():
        raise kind("early")

    outcome = bench.step(handler())
    assert type(outcome.raised) is kind
    assert outcome.later == []

    async def next_one():
        pass

    assert bench.step(next_one()).at_once is True


@pytest.mark.parametrize("kind", [LookupError, asyncio.CancelledError])
def test_what_is_raised_after_a_suspension_is_given_to_done(bench, kind):
    async def handler():
        await asyncio.sleep(0)
        raise kind("late")

    assert type(bench.end(bench.step(handler()))) is kind


def test_a_coroutine_that_cancels_itself_in_its_first_step_is_cancelled_where_it_suspends(bench):
    seen = []

    async def handler():
        asyncio.current_task().cancel()
        seen.append("still running")
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    assert type(bench.end(bench.step(handler()))) is asyncio.CancelledError
    assert seen == ["still running", "cancelled"]


def test_a_coroutine_may_swallow_the_cancellation_of_its_first_step_and_wait_again(bench):
    seen = []

    async def handler():
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        await asyncio.sleep(0)
        seen.append("went on")

    assert bench.end(bench.step(handler())) is None
    assert seen == ["went on"]


@pytest.mark.parametrize("warm", [False, True], ids=["new carrier", "used carrier"])
@pytest.mark.parametrize("take_back", [False, True], ids=["cancelled", "taken back"])
def test_a_coroutine_that_cancels_itself_and_ends_does_not_hurt_the_next_one(bench, take_back, warm):
    seen = []

    async def first():
        asyncio.current_task().cancel()
        if take_back:
            asyncio.current_task().uncancel()

    async def second():
        await asyncio.sleep(0)
        seen.append(asyncio.current_task().cancelling())

    if warm:
        bench.step(_set_and_reset())
        bench.turns()
    assert bench.step(first()).at_once is True
    bench.turns()
    assert bench.end(bench.step(second())) is None
    assert seen == [0]


async def _set_and_reset():
    VARIABLE.reset(VARIABLE.set("for a moment"))


def test_somebody_who_cancels_every_task_of_the_loop_does_not_hurt_the_next_coroutine(bench):
    seen = []

    async def handler():
        await asyncio.sleep(0)
        seen.append("went on")

    bench.step(_set_and_reset())
    bench.turns()
    for task in asyncio.all_tasks(bench.loop):
        task.cancel()
    bench.turns()
    assert bench.end(bench.step(handler())) is None
    assert seen == ["went on"]


@pytest.mark.parametrize("turns", [0, 1, 10])
def test_a_suspended_coroutine_can_be_cancelled_from_outside(bench, turns):
    seen = []

    async def handler():
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    outcome = bench.step(handler())
    bench.turns(turns)
    (task,) = bench.stepper.tasks
    bench.call(task.cancel)
    assert type(bench.end(outcome)) is asyncio.CancelledError
    assert seen == ["cleaned up"]


@pytest.mark.parametrize("turns", [0, 1, 10])
def test_a_cancelled_coroutine_takes_along_what_it_waits_for(bench, turns):
    waited_for = bench.loop.create_future()

    async def handler():
        await waited_for

    outcome = Outcome()

    def step_and_cancel():
        outcome.at_once = bench.stepper.step(handler(), outcome.later.append)
        if not turns:
            next(iter(bench.stepper.tasks)).cancel()

    bench.call(step_and_cancel)
    if turns:
        bench.turns(turns)
        (task,) = bench.stepper.tasks
        bench.call(task.cancel)
    assert type(bench.end(outcome)) is asyncio.CancelledError
    assert waited_for.cancelled()


def test_close_ends_all_that_is_under_way_and_the_task_in_reserve(bench):
    ended = []

    async def handler(number):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    outcomes = bench.step(*(handler(number) for number in range(3)))
    bench.turns()
    fresh = bench.step(handler(3))
    bench.step(_set_and_reset())
    bench.call(bench.stepper.close)
    bench.turns()
    assert sorted(ended) == [0, 1, 2, 3]
    assert [type(outcome.error) for outcome in [*outcomes, fresh]] == [asyncio.CancelledError] * 4
    assert asyncio.all_tasks(bench.loop) == set()


def test_close_in_the_turn_of_a_first_step_ends_it(bench):
    outcome = Outcome()
    ended = []

    async def handler():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    def step_and_close():
        outcome.at_once = bench.stepper.step(handler(), outcome.later.append)
        bench.stepper.close()

    bench.call(step_and_close)
    assert type(bench.end(outcome)) is asyncio.CancelledError
    assert ended == [True]


def test_close_with_nothing_under_way_does_nothing(bench):
    bench.call(bench.stepper.close)
    assert bench.tasks_made == 0


# --- steps inside steps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suspends", [False, True])
def test_a_coroutine_whose_first_step_runs_another_keeps_its_own_task(bench, suspends):
    inner, seen = Outcome(), {"inner": [], "outer": []}

    async def nested():
        seen["inner"].append(asyncio.current_task())
        if suspends:
            await asyncio.sleep(0)
            seen["inner"].append(asyncio.current_task())

    async def handler():
        seen["outer"].append(asyncio.current_task())
        inner.at_once = bench.stepper.step(nested(), inner.later.append)
        seen["outer"].append(asyncio.current_task())
        await asyncio.sleep(0)
        seen["outer"].append(asyncio.current_task())

    assert bench.end(bench.step(handler())) is None
    assert bench.end(inner) is None
    assert len(set(seen["outer"])) == len(set(seen["inner"])) == 1
    assert set(seen["outer"]) != set(seen["inner"])


def test_a_step_inside_a_task_that_is_not_ours_is_a_task_of_its_own(bench):
    seen, outcome = [], Outcome()

    async def handler():
        seen.append(asyncio.current_task())

    async def foreign():
        outcome.at_once = bench.stepper.step(handler(), outcome.later.append)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)

    bench.loop.run_until_complete(foreign())
    assert bench.end(outcome) is None
    assert len(set(seen)) == 2


def test_a_nested_coroutine_that_raises_is_reported_and_the_outer_one_goes_on(bench):
    inner, seen = Outcome(), []

    async def nested():
        raise LookupError

    async def handler():
        inner.at_once = bench.stepper.step(nested(), inner.later.append)
        await asyncio.sleep(0)
        seen.append("went on")

    assert bench.end(bench.step(handler())) is None
    assert type(bench.end(inner)) is LookupError
    assert seen == ["went on"]


# --- other awaitables -----------------------------------------------------------------------------------------------


def test_a_future_that_is_done_ends_at_once_and_raises_what_it_holds(bench):
    done, failed = bench.loop.create_future(), bench.loop.create_future()
    done.set_result("ignored")
    failed.set_exception(LookupError("held"))
    assert bench.step(done).at_once is True
    assert type(bench.step(failed).raised) is LookupError
    assert bench.tasks_made == 0


@pytest.mark.parametrize("how", ["result", "error", "cancelled"])
def test_a_future_that_is_pending_reports_its_end(bench, how):
    future = bench.loop.create_future()
    outcome = bench.step(future)
    if how == "result":
        future.set_result("ignored")
    elif how == "error":
        future.set_exception(LookupError())
    else:
        future.cancel()
    expected = {"result": type(None), "error": LookupError, "cancelled": asyncio.CancelledError}[how]
    assert type(bench.end(outcome)) is expected
    assert bench.tasks_made == 0


@pytest.mark.parametrize("suspends", [False, True])
def test_an_object_that_can_be_awaited_is_awaited(bench, suspends):
    seen = []

    class Awaitable:
        def __await__(self):
            if suspends:
                yield from asyncio.sleep(0).__await__()
            seen.append("ran")

    outcome = bench.step(Awaitable())
    if suspends:
        assert bench.end(outcome) is None
    else:
        assert outcome.at_once is True
    assert seen == ["ran"]


def test_a_generator_gets_the_results_of_what_it_yields_as_tornado_gives_them(bench):
    got = []

    def handler():
        got.append((yield _child(1)))
        got.append((yield [_child(2), _child(3)]))
        got.append((yield {"key": _child(4)}))
        raise gen.Return("ignored")

    assert bench.end(bench.step(handler())) is None
    assert got == [1, [2, 3], {"key": 4}]


def test_a_generator_that_yields_nothing_ends_at_once(bench):
    ran = []

    def handler(wait):
        ran.append("ran")
        if wait:
            yield _child(1)

    assert bench.step(handler(False)).at_once is True
    assert ran == ["ran"]


def test_what_a_generator_raises_is_raised_or_reported(bench):
    def handler(wait):
        if wait:
            yield _child(1)
        raise LookupError

    assert type(bench.step(handler(False)).raised) is LookupError
    assert type(bench.end(bench.step(handler(True)))) is LookupError
