"""`PID`: parts, text form, value semantics, and errors that name the text and what is wrong with it."""

import copy
import pickle
import re

import pytest

import compactor
from compactor.pid import PID


@pytest.mark.clause("PID.__init__")
def test_a_pid_has_the_ip_port_and_id_it_was_made_of():
    pid = PID("192.168.33.2", 5051, "slave(1)")
    assert (pid.ip, pid.port, pid.id) == ("192.168.33.2", 5051, "slave(1)")
    assert PID(ip="192.168.33.2", port=5051, id_="slave(1)") == pid


def test_the_package_has_the_same_pid_class():
    assert compactor.PID is PID


@pytest.mark.clause("PID.from_string")
def test_the_text_of_a_pid_gives_the_pid_again():
    pid = PID.from_string("master(1)@192.168.33.2:5051")
    assert pid == PID("192.168.33.2", 5051, "master(1)")
    assert str(pid) == "master(1)@192.168.33.2:5051"
    assert PID.from_string(str(pid)) == pid


def test_the_repr_names_all_three_parts():
    text = repr(PID("192.168.33.2", 5051, "slave(1)"))
    assert "PID" in text
    for part in ("192.168.33.2", "5051", "slave(1)"):
        assert part in text


@pytest.mark.parametrize("text", ["a@[::1]:5050", "slave(1)@[fe80::1:2]:1"])
def test_an_ipv6_address_goes_into_brackets(text):
    pid = PID.from_string(text)
    assert str(pid) == text
    assert "[" not in pid.ip
    assert PID(pid.ip, pid.port, pid.id) == pid


def test_a_host_name_is_an_address_too():
    pid = PID.from_string("master@leader.example.com:5050")
    assert (pid.ip, pid.port, pid.id) == ("leader.example.com", 5050, "master")
    assert str(pid) == "master@leader.example.com:5050"


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_every_port_of_tcp_is_a_port(port):
    assert PID.from_string(f"a@10.0.0.1:{port}").port == port


@pytest.mark.clause("PID.from_string ValueError")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "slave",
        "slave@",
        "@",
        "slave@10.0.0.1",
        "slave@10.0.0.1:",
        "slave@:5050",
        "slave@10.0.0.1:port",
        "slave@10.0.0.1:-1",
        "slave@10.0.0.1:+5",
        "slave@10.0.0.1: 5050",
        "slave@10.0.0.1:5050 ",
        " slave@10.0.0.1:5050",
        "slave@10.0.0.1:5050\n",
        "slave@10.0.0.1:65536",
        "slave@10.0.0.1:5_0",
        "slave@10.0.0.1:\u0665\u0660",
        "slave@10.0.0.1:50:50",
        "slave@master@10.0.0.1:5050",
        "slave@::1:5050",
        "slave@[::1]",
        "slave@[::1:5050",
        "slave@[::g]:5050",
        "slave@[10.0.0.1]:5050",
        "slave@256.0.0.1:5050",
        "slave@10.0.1:5050",
        "sl ave@10.0.0.1:5050",
        "slave\r\nX: y@10.0.0.1:5050",
        "slave\0@10.0.0.1:5050",
    ],
)
def test_text_that_is_no_pid_is_a_value_error_that_names_it_and_says_why(text):
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is no PID: ")):
        PID.from_string(text)


@pytest.mark.parametrize("value", [None, 5050, b"slave@10.0.0.1:5050", ("10.0.0.1", 5050, "slave")])
def test_a_value_that_is_no_text_is_a_value_error_that_names_it(value):
    with pytest.raises(ValueError, match=re.escape(f"{value!r} is no PID: ")):
        PID.from_string(value)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        (("10.0.0.1", 65536, "a"), "65536"),
        (("10.0.0.1", -1, "a"), "-1"),
        (("10.0.0.1", "5050", "a"), "'5050'"),
        (("10.0.0.1", True, "a"), "True"),
        (("10.0.0.1", 5050.0, "a"), "5050.0"),
        (("", 5050, "a"), "''"),
        (("10.0.0.256", 5050, "a"), "10.0.0.256"),
        ((None, 5050, "a"), "None"),
        (("10.0.0.1", 5050, "a@b"), "a@b"),
        (("10.0.0.1", 5050, "a b"), "a b"),
        (("10.0.0.1", 5050, None), "None"),
    ],
)
def test_a_part_that_cannot_be_in_a_pid_is_a_value_error_that_names_it(parts, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        PID(*parts)


@pytest.mark.parametrize("attribute", ["ip", "port", "id", "anything"])
def test_a_pid_cannot_be_changed(attribute):
    pid = PID("10.0.0.1", 5050, "a")
    with pytest.raises(AttributeError):
        setattr(pid, attribute, "b")
    with pytest.raises(AttributeError):
        delattr(pid, attribute)
    assert str(pid) == "a@10.0.0.1:5050"


def test_equal_parts_make_equal_pids_with_equal_hashes():
    pid = PID("10.0.0.1", 5050, "a")
    assert {pid: "found"}[PID.from_string("a@10.0.0.1:5050")] == "found"
    assert pid != PID("10.0.0.1", 5050, "b")
    assert pid != PID("10.0.0.1", 5051, "a")
    assert pid != PID("10.0.0.2", 5050, "a")
    assert pid != "a@10.0.0.1:5050"


def test_pids_are_ordered_by_address_before_id():
    pids = [PID.from_string(text) for text in ("a@10.0.0.2:1", "z@10.0.0.1:2", "b@10.0.0.1:10", "a@10.0.0.1:10")]
    assert [str(pid) for pid in sorted(pids)] == ["z@10.0.0.1:2", "a@10.0.0.1:10", "b@10.0.0.1:10", "a@10.0.0.2:1"]
    assert min(pids) <= max(pids)
    with pytest.raises(TypeError):
        assert pids[0] < "a@10.0.0.1:1"


@pytest.mark.parametrize("text", ["slave(1)@10.0.0.1:5050", "a@[::1]:1", "a@host.example:1"])
def test_a_pid_survives_copying_and_pickling(text):
    pid = PID.from_string(text)
    assert copy.deepcopy(pid) == copy.copy(pid) == pickle.loads(pickle.dumps(pid)) == pid


def test_a_pid_can_be_written_as_a_url_with_or_without_an_endpoint():
    pid = PID("192.168.33.2", 5051, "slave(1)")
    assert pid.as_url() == "http://192.168.33.2:5051/slave(1)"
    assert pid.as_url("state.json") == "http://192.168.33.2:5051/slave(1)/state.json"
    assert pid.as_url("/state.json") == "http://192.168.33.2:5051/slave(1)/state.json"
    assert pid.as_url(endpoint="a/b") == "http://192.168.33.2:5051/slave(1)/a/b"


def test_the_url_of_a_pid_keeps_ipv6_in_brackets_and_encodes_what_would_break_it():
    assert PID("::1", 5050, "a").as_url("x") == "http://[::1]:5050/a/x"
    assert PID("10.0.0.1", 5050, "a/b?c#d%").as_url() == "http://10.0.0.1:5050/a%2Fb%3Fc%23d%25"
