"""Generated ids (`ids.py`)."""

import threading

from helpers import DEADLINE

from compactor import Process, unique_id


def test_ids_of_one_prefix_are_counted_from_one():
    assert [unique_id("test-ids-count") for _ in range(3)] == [f"test-ids-count({number})" for number in (1, 2, 3)]


def test_each_prefix_has_a_count_of_its_own():
    unique_id("test-ids-one")
    assert unique_id("test-ids-two") == "test-ids-two(1)"


def test_processes_without_a_name_have_different_ids():
    first, second = Process(), Process()
    assert first.name != second.name
    assert first.name.startswith("(")


def test_threads_that_ask_at_once_get_every_number_once():
    threads, each = 8, 500
    taken = [[] for _ in range(threads)]
    barrier = threading.Barrier(threads)

    def take(mine):
        barrier.wait(DEADLINE)
        mine += [unique_id("test-ids-threads") for _ in range(each)]

    takers = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(DEADLINE)
    numbers = [int(id_.removeprefix("test-ids-threads(").removesuffix(")")) for mine in taken for id_ in mine]
    assert sorted(numbers) == list(range(1, threads * each + 1))
    assert all(len(mine) == each for mine in taken)
