"""Each program of `examples/` does what its first line says, as an OS process of its own."""

import json
import re
import signal

import pytest
from helpers import post, request, run_program, unused_port
from running import EXAMPLES, RunningProgram

from compactor import PID

PROGRAMS_THAT_END = {
    "ping.py": r"ponger@\S+ got ping from pinger@\S+: hello\npinger@\S+ got pong from ponger@\S+: hello\n",
    "ask.py": r"average@\S+ says: the average is 5\.0\nno answer: no such process\n",
    "protobuf_service.py": r"google\.protobuf\.ListValue: \['actors', 'over', 'the', 'wire'\]\n",
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PROGRAMS_THAT_STAY = {"leader.py", "follower.py", "http_page.py"}


def run_example(name, *arguments):
    return RunningProgram(EXAMPLES / name, *arguments)


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == PROGRAMS_THAT_END.keys() | PROGRAMS_THAT_STAY


@pytest.mark.parametrize(("name", "output"), PROGRAMS_THAT_END.items())
def test_an_example_prints_what_it_should_and_ends_with_0_and_without_warnings(name, output):
    done = run_program(EXAMPLES / name)
    assert re.fullmatch(output, done.stdout), done.stdout
    assert done.stderr == ""


def test_the_page_shows_what_a_message_a_form_and_a_stream_see_and_ctrl_c_ends_it_with_0():
    with run_example("http_page.py") as program:
        address, id_ = program.wait_for_line(r"open http://(\S+)/(\S+)").groups()
        pid = PID.from_string(f"{id_}@{address}")
        assert request(pid, "/counter").body.endswith(b"<h1>0</h1>")
        assert post(pid, "add", b"5") == 202
        assert json.loads(request(pid, "/counter/state").body) == {"total": 5}
        assert request(pid, "/counter/set", "POST", b"total=7", FORM).status == 302
        assert request(pid, "/counter/watch?times=2").body == b"7\n7\n"
        assert program.end() == 0


def test_a_follower_started_first_is_given_work_by_its_leader_and_both_end_with_0_at_ctrl_c():
    pid = f"leader@127.0.0.1:{unused_port()}"
    with run_example("follower.py", pid) as follower:
        follower.wait_for_line(f"registering with {pid}")
        with run_example("leader.py", "--port", pid.rpartition(":")[2]) as leader:
            follower.wait_for_line(f"registered with {pid}")
            leader.wait_for_line(r"answer \d+ = \d.* <- follower@")
            assert follower.end() == 0
            assert leader.end() == 0


def test_the_number_that_a_killed_follower_worked_on_is_given_to_another_one():
    number = 10**18 + 3  # a prime, at which a follower would work for more than a minute
    with run_example("leader.py") as leader:
        pid = PID.from_string(leader.wait_for_line(r"listening (\S+)").group(1))
        with run_example("follower.py", pid, "--name", "first") as first:
            leader.wait_for_line("registered first@")
            assert post(pid, "factor", str(number).encode()) == 202
            leader.wait_for_line(f"work {number} -> first@")
            first.end(signal.SIGKILL)
            leader.wait_for_line("exited first@")
        with run_example("follower.py", pid, "--name", "second"):
            leader.wait_for_line(f"work {number} -> second@")


def test_a_follower_finds_a_leader_again_that_was_killed_and_the_page_shows_it():
    with run_example("leader.py") as leader:
        pid = PID.from_string(leader.wait_for_line(r"listening (\S+)").group(1))
        with run_example("follower.py", pid) as follower:
            follower.wait_for_line(f"registered with {pid}")
            leader.end(signal.SIGKILL)
            follower.wait_for_line(f"exited {pid}: ")
            with run_example("leader.py", "--port", pid.port) as second:
                follower.wait_for_line(f"registered with {pid}")
                second.wait_for_line("answer ")
                assert b"<title>leader</title>" in request(pid, "/leader").body
                state = json.loads(request(pid, "/leader/state").body)
                assert [one["pid"].partition("@")[0] for one in state["followers"]] == ["follower"]
                assert state["answers"] >= 1
