"""The command line and the demo: what a user sees, the exit status, and that nothing is left running."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile

import pytest
from helpers import DEADLINE, PACKAGE_ROOT, eventually, request, run_program, unused_port
from running import EXAMPLES, RunningProgram

import compactor
from compactor import PID, cli, demo

RUN_DEMO = "import sys\nfrom compactor.cli import main\nsys.exit(main())"


def run_demo(*arguments):
    return RunningProgram("-m", "compactor", "demo", *arguments)


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_demo_shows_each_step_and_its_summary_and_ends_by_itself_with_0():
    done = run_program(RUN_DEMO, "demo", "--port", str(unused_port()), timeout=40)
    for follower in demo.FOLLOWERS:
        assert re.search(rf"leader +registered {follower}@", done.stdout)
        assert re.search(rf"leader +answer \d+ = .* <- {follower}@", done.stdout)
    assert re.search(r"leader +exited follower2@\S+: \S+", done.stdout)
    after_restart = done.stdout.partition("starts again")[2]
    for follower in ("follower1", "follower3"):
        assert re.search(rf"{follower} +exited leader@\S+: \S+", done.stdout)
        assert re.search(rf"leader +registered {follower}@", after_restart)
        assert re.search(rf"{follower} +registered with leader@", after_restart)
    counts = {what: int(number) for number, what in re.findall(r"^ +(\d+)  (.+)$", done.stdout, re.MULTILINE)}
    assert counts["registrations"] == 5
    assert counts["numbers factored"] >= 7
    assert counts["messages received by the leaders"] >= 12
    assert counts["exits seen by the leaders"] == 1
    assert counts["exits seen by the followers"] == 2
    assert "\x1b" not in done.stdout


def test_served_it_has_a_page_of_the_live_state_until_ctrl_c_and_leaves_nothing_running():
    port = unused_port()
    with run_demo("--serve", "--port", port) as program:
        url = program.wait_for_line(r"live state is at http://(\S+)/leader", timeout=40).group(1)
        assert url == f"127.0.0.1:{port}"
        leader = PID("127.0.0.1", port, "leader")
        page = request(leader, "/leader")
        assert page.headers["Content-Type"].startswith("text/html")
        assert b"/leader/state" in page.body
        answers = json.loads(request(leader, "/leader/state").body)["answers"]
        state = eventually(lambda: more_answers_than(answers, leader))
        assert len(state["followers"]) == 2
        followers = [PID.from_string(follower["pid"]) for follower in state["followers"]]
        assert program.end() == 0
        assert all(is_free(pid.port) for pid in (leader, *followers))


def more_answers_than(answers, leader):
    state = json.loads(request(leader, "/leader/state").body)
    return state if state["answers"] > answers else None


def test_a_terminated_demo_takes_its_programs_with_it():
    port = unused_port()
    with run_demo("--port", port) as program:
        program.wait_for_line("leader +registered follower1@")
        assert program.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert is_free(port)


def test_a_port_in_use_is_said_and_the_demo_fails():
    with socket.create_server(("127.0.0.1", 0)) as taken, run_demo("--port", taken.getsockname()[1]) as program:
        program.wait_for_line("leader +.*cannot listen on 127.0.0.1")
        program.wait_for_line("The demo failed: leader ended by itself")
        assert program.process.wait(DEADLINE) == 1


def test_a_step_whose_line_does_not_come_fails_the_demo(tmp_path):
    (tmp_path / "leader.py").write_text("import time\nprint('listening to nobody')\ntime.sleep(60)\n")
    impatient = (
        "import pathlib, sys\nfrom compactor import demo\n"
        "demo.STEP_SECONDS = 1.0\ndemo._examples = lambda: pathlib.Path(sys.argv[1])\nsys.exit(demo.run())"
    )
    with RunningProgram("-c", impatient, tmp_path) as program:
        program.wait_for_line(r"The demo failed: leader did not say 'listening leader@127\.0\.0\.1:\d+\$'")
        assert program.process.wait(DEADLINE) == 1


def test_a_wheel_has_the_programs_that_the_demo_runs(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=EXAMPLES.parent,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"compactor/examples/{path.name}" for path in EXAMPLES.iterdir() if path.is_file()} <= names
    assert {"compactor/demo.py", "compactor/py.typed"} <= names
    assert not [name for name in names if name.startswith(("src/", "examples/", "tests/"))]


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"compactor {compactor.__version__}\n"


def test_help_names_the_commands_and_needs_none_of_what_the_demo_does():
    program = "import sys, compactor.cli\nprint('compactor.demo' in sys.modules)\ncompactor.cli.main(['--help'])"
    done = run_program(program)
    assert done.stdout.startswith("False\nusage: compactor")
    assert "demo" in done.stdout


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", ""])
def test_a_port_that_is_none_is_refused_with_the_reason(port, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", f"--port={port}"])
    assert ended.value.code == 2
    assert "is not a port: a number from 1 to 65535" in capsys.readouterr().err


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "compactor", "--version"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout == f"compactor {compactor.__version__}\n"
