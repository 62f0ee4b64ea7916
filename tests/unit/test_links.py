"""Who watches whom (`_runtime/links.py`): the tables, without a context."""

import pytest

from compactor import PID
from compactor._runtime.links import Links

from .cranked import Actor, World

HERE, THERE = ("127.0.0.1", 1), ("127.0.0.1", 2)


def pid(id_, address=HERE):
    return PID(*address, id_)


@pytest.fixture
def links():
    return Links()


@pytest.fixture
def cells():
    world = World()
    return [world.cell(Actor(name)) for name in ("a", "b", "c")]


def _empty(links):
    return len(links) == 0 and not any(getattr(links, table) for table in ("_local", "_remote", "_by_nonce", "_of"))


# --- local ----------------------------------------------------------------------------------------------------------


def test_the_end_of_a_process_names_everyone_who_watched_it(links, cells):
    a, b, c = cells
    links.local(a, c, c.pid)
    links.local(b, c, c.pid)
    assert sorted(links.ended(c), key=lambda entry: entry[0].pid) == [(a, c.pid), (b, c.pid)]
    assert _empty(links)
    assert links.ended(c) == []


def test_linking_twice_is_linking_once(links, cells):
    a, b, _ = cells
    links.local(a, b, b.pid)
    links.local(a, b, b.pid)
    assert len(links) == 1
    assert links.ended(b) == [(a, b.pid)]


def test_a_process_linked_under_two_names_is_told_of_under_both(links, cells):
    a, b, _ = cells
    alias = pid("b", ("127.0.0.2", 1))
    links.local(a, b, b.pid)
    links.local(a, b, alias)
    assert set(links.ended(b)) == {(a, b.pid), (a, alias)}
    assert _empty(links)


def test_a_link_to_itself_tells_nobody(links, cells):
    a, _, _ = cells
    links.local(a, a, a.pid)
    assert links.ended(a) == []
    assert _empty(links)


def test_two_processes_that_watch_each_other(links, cells):
    a, b, _ = cells
    links.local(a, b, b.pid)
    links.local(b, a, a.pid)
    assert links.ended(a) == [(b, a.pid)]
    assert _empty(links)
    assert links.ended(b) == []


def test_the_end_of_a_linker_takes_its_links_along_and_leaves_those_of_others(links, cells):
    a, b, c = cells
    links.local(a, c, c.pid)
    links.local(b, c, c.pid)
    links.remote(a, pid("x", THERE), THERE, "n1")
    links.remote(b, pid("x", THERE), THERE, "n2")
    assert links.ended(a) == []
    assert links.ended(c) == [(b, c.pid)]
    assert [link.cell for link in links.broken(THERE)] == [b]
    assert _empty(links)


def test_the_end_of_a_process_that_nobody_knows_changes_nothing(links, cells):
    a, b, c = cells
    links.local(a, b, b.pid)
    assert links.ended(c) == []
    assert len(links) == 1


# --- remote ---------------------------------------------------------------------------------------------------------


def test_a_remote_link_is_made_once(links, cells):
    a, b, _ = cells
    x = pid("x", THERE)
    link = links.remote(a, x, THERE, "n1")
    assert (link.cell, link.pid, link.address, link.nonce, link.incarnation, link.alive) == (
        a, x, THERE, "n1", None, True
    )  # fmt: skip
    assert links.remote(a, x, THERE, "n2") is None
    assert links.remote(b, x, THERE, "n3") is not None
    assert links.find(a, x, THERE) is link
    assert len(links) == 2
    assert links.by_nonce(a, "n2") is None


def test_a_lost_address_breaks_all_links_to_it_and_none_to_others(links, cells):
    a, b, _ = cells
    to_there = {links.remote(a, pid("x", THERE), THERE, "1"), links.remote(b, pid("y", THERE), THERE, "2")}
    elsewhere = links.remote(a, pid("x", ("127.0.0.3", 3)), ("127.0.0.3", 3), "3")
    assert set(links.broken(THERE)) == to_there
    assert not any(link.alive for link in to_there)
    assert elsewhere.alive
    assert not links.has(THERE)
    assert links.has(("127.0.0.3", 3))
    assert links.broken(THERE) == []


def test_a_link_is_taken_once(links, cells):
    a, _, _ = cells
    link = links.remote(a, pid("x", THERE), THERE, "1")
    assert links.take(link) is True
    assert links.take(link) is False
    assert _empty(links)


@pytest.mark.parametrize("how", ["taken", "broken", "linker ended"])
def test_whatever_ends_a_link_its_nonce_means_nothing_afterwards(links, cells, how):
    a, _, _ = cells
    link = links.remote(a, pid("x", THERE), THERE, "secret")
    assert links.by_nonce(a, "secret") is link
    if how == "taken":
        links.take(link)
    elif how == "broken":
        links.broken(THERE)
    else:
        links.ended(a)
    assert links.by_nonce(a, "secret") is None
    assert links.take(link) is False
    assert not links.has(THERE)
    assert _empty(links)


def test_the_nonce_of_another_processs_link_counts_for_nothing(links, cells):
    a, b, _ = cells
    links.remote(a, pid("x", THERE), THERE, "secret")
    assert links.by_nonce(b, "secret") is None
    assert links.by_nonce(a, "guessed") is None
    assert links.by_nonce(a, "") is None


def test_an_address_is_needed_until_its_last_link_is_gone(links, cells):
    a, b, _ = cells
    first = links.remote(a, pid("x", THERE), THERE, "1")
    second = links.remote(b, pid("x", THERE), THERE, "2")
    links.take(first)
    assert links.has(THERE)
    assert links.at(THERE) == [second]
    links.take(second)
    assert not links.has(THERE)
    assert links.at(THERE) == []


def test_a_name_and_its_number_are_two_links_to_one_address(links, cells):
    a, _, _ = cells
    names = [PID("localhost", 2, "x"), pid("x", THERE)]
    for number, name in enumerate(names):
        assert links.remote(a, name, THERE, str(number)) is not None
    assert [link.pid for link in links.broken(THERE)] == names
    assert _empty(links)


def test_a_link_can_be_made_again_when_it_was_broken(links, cells):
    a, _, _ = cells
    links.remote(a, pid("x", THERE), THERE, "1")
    links.broken(THERE)
    assert links.remote(a, pid("x", THERE), THERE, "2") is not None
    assert links.by_nonce(a, "2") is not None
