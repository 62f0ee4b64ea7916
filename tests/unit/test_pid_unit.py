"""One object per PID (`pid.py`): under threads, in memory, copied and pickled."""

import copy
import gc
import pickle
import threading
import weakref

import pytest
from helpers import DEADLINE

from compactor import PID
from compactor.pid import NOBODY, _interned, check_id, format_address, local_pid


def test_equal_pids_are_one_object_however_they_are_made():
    pid = PID("127.0.0.1", 5050, "master")
    assert PID("127.0.0.1", 5050, "master") is pid
    assert PID.from_string("master@127.0.0.1:5050") is pid
    assert local_pid(("127.0.0.1", 5050), "master") is pid
    assert PID.from_string(pid) is pid


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("::1", 1, "x"), ("0:0:0:0:0:0:0:1", 1, "x")),
        (("2001:DB8::A", 1, "x"), ("2001:db8:0::a", 1, "x")),
    ],
)
def test_spellings_of_one_ipv6_address_are_one_pid(one, other):
    assert PID(*one) is PID(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("127.0.0.1", 1, "x"), ("127.0.0.1", 2, "x")),
        (("127.0.0.1", 1, "x"), ("127.0.0.2", 1, "x")),
        (("127.0.0.1", 1, "x"), ("127.0.0.1", 1, "X")),
        (("localhost", 1, "x"), ("127.0.0.1", 1, "x")),
    ],
)
def test_pids_that_differ_in_a_part_are_different_and_not_equal(one, other):
    assert PID(*one) is not PID(*other)
    assert PID(*one) != PID(*other)


@pytest.mark.parametrize("port", [True, 1.0, "1", None])
def test_a_port_that_only_equals_an_int_finds_no_pid(port):
    held = PID("127.0.0.1", 1, "x")
    with pytest.raises(ValueError, match="port"):
        PID("127.0.0.1", port, "x")
    assert held.port == 1


def test_a_pid_that_nobody_holds_is_freed():
    reference = weakref.ref(PID("127.0.0.1", 1, "freed"))
    gc.collect()
    assert reference() is None
    assert ("127.0.0.1", 1, "freed") not in _interned


def test_pids_that_nobody_holds_leave_nothing_behind():
    gc.collect()
    before = len(_interned)
    for number in range(10_000):
        PID("127.0.0.1", 1, f"short-lived-{number}")
    gc.collect()
    assert len(_interned) <= before


def test_threads_that_make_a_pid_at_once_get_one_object():
    threads = 8
    barrier = threading.Barrier(threads)
    made = [[] for _ in range(threads)]

    def make(mine):
        barrier.wait(DEADLINE)
        mine += [PID("127.0.0.1", 1, f"raced-{number}") for number in range(500)]

    makers = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(DEADLINE)
    for pids in zip(*made, strict=True):
        assert len({id(pid) for pid in pids}) == 1
    assert len(made[0]) == 500


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_pid_is_the_same_object_again(protocol):
    pid = PID("::1", 5050, "slave(1)")
    assert pickle.loads(pickle.dumps(pid, protocol)) is pid


def test_a_pickled_pid_is_made_again_after_it_was_freed():
    data = pickle.dumps(PID("127.0.0.1", 1, "pickled"))
    gc.collect()
    assert str(pickle.loads(data)) == "pickled@127.0.0.1:1"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda pid: copy.deepcopy({"key": [pid]})["key"][0]])
def test_a_copy_of_a_pid_is_the_pid(copied):
    pid = PID("127.0.0.1", 5050, "master")
    assert copied(pid) is pid


def test_a_pid_is_neither_equal_nor_comparable_to_what_is_no_pid():
    pid = PID("127.0.0.1", 5050, "master")
    assert pid != str(pid)
    assert pid != ("127.0.0.1", 5050, "master")
    with pytest.raises(TypeError):
        assert pid < str(pid)


def test_a_pid_has_no_room_for_attributes():
    pid = PID("127.0.0.1", 5050, "master")
    with pytest.raises(AttributeError):
        pid.extra = 1
    with pytest.raises(AttributeError):
        del pid.ip
    assert not hasattr(pid, "__dict__")


def test_nobody_is_what_libprocess_posts_as():
    assert str(NOBODY) == "@0.0.0.0:0"
    assert PID.from_string("@0.0.0.0:0") is NOBODY


@pytest.mark.parametrize("id_", ["master", "slave(1)", "a/b", "with%20escape", "日本", "-", "+", "a:b"])
def test_printable_text_without_white_space_can_be_an_id(id_):
    check_id(id_)
    assert PID.from_string(f"{id_}@127.0.0.1:1").id == id_


@pytest.mark.parametrize("id_", ["a b", "a\tb", "a\n", "a@b", "\x00", "\x7f", "\u2028", "\xa0", "\x85", "\ud800"])
def test_what_would_break_a_line_or_a_pid_cannot_be_an_id(id_):
    with pytest.raises(ValueError, match="cannot be the id"):
        check_id(id_)


@pytest.mark.parametrize(("address", "text"), [(("10.0.0.1", 80), "10.0.0.1:80"), (("::1", 80), "[::1]:80")])
def test_an_address_is_written_as_in_a_url(address, text):
    assert format_address(address) == text
