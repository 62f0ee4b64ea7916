"""What README.md prints works: its program, its fragments, its commands, and its links."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from helpers import DEADLINE, PACKAGE_ROOT, run_program, unused_port
from running import RunningProgram

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


PROGRAM, LINKS, ASK, PROTOBUF = blocks("python")
LEADER, FOLLOWER, CURL = blocks("sh")
PRINTED = re.search(r"prints something like\n\n    (.*)\n", README).group(1)
OUTPUT = re.sub(r":\d+", lambda port: r":\d+", re.escape(PRINTED)) + "\n"


def test_the_program_prints_what_the_text_says():
    assert re.fullmatch(OUTPUT, run_program(PROGRAM).stdout)


def test_the_program_is_of_twenty_lines_at_most():
    assert len(PROGRAM.splitlines()) <= 20


def test_the_program_works_when_pasted_into_the_interactive_python():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-i", "-q"],
        input=PROGRAM,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert "Error" not in done.stderr, done.stderr
    # Python shows the values of the other lines too.
    assert re.fullmatch(OUTPUT, done.stdout.splitlines(keepends=True)[-1])


def test_the_watcher_is_told_when_the_other_process_ends():
    done = run_program(f"""
import compactor, threading
{LINKS}
class Loud(Watcher):
    def exited(self, pid):
        super().exited(pid)
        told.set()
told = threading.Event()
with_watched, with_watcher = compactor.Context(ip="127.0.0.1"), compactor.Context(ip="127.0.0.1")
watched = compactor.Process("watched")
with_watched.spawn(watched)
with_watcher.spawn(Loud(watched.pid))
watched.terminate()
assert told.wait({DEADLINE})
""")
    assert re.fullmatch(r"watched@127\.0\.0\.1:\d+ is gone: \S.*\n", done.stdout)


def test_the_asker_passes_on_what_the_greeter_answers():
    port = str(unused_port())
    definitions = PROGRAM.partition("\n# Each context")[0] + "\n" + ASK.replace("5050", port)
    done = run_program(f"""{definitions}
context = compactor.Context(ip="127.0.0.1", port={port})
context.spawn(Greeter("greeter"))
client = compactor.Process("client")
context.spawn(client)
print(client.ask(context.spawn(Asker("asker")), "question", b"you").result().body)
""")
    assert done.stdout == "b'hello, you'\n"


def test_the_shouter_answers_with_a_protocol_buffer():
    done = run_program(f"""
import compactor
{PROTOBUF}
context = compactor.Context(ip="127.0.0.1")
client = compactor.ProtobufProcess("client")
context.spawn(client)
print(client.ask(context.spawn(Shouter("shouter")), StringValue(value="hello")).result().value)
""")
    assert done.stdout == "HELLO\n"


def test_the_commands_for_three_terminals_work_as_printed(monkeypatch):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    monkeypatch.chdir(ROOT)
    port = str(unused_port())

    def command(line):
        return shlex.split(line.replace("5050", port))

    with RunningProgram(*command(LEADER)[1:]) as leader, RunningProgram(*command(FOLLOWER)[1:]) as follower:
        follower.wait_for_line(f"registered with leader@127.0.0.1:{port}")
        get_state, send_number = (command(line) for line in CURL.splitlines())
        got = subprocess.run(get_state, capture_output=True, text=True, timeout=DEADLINE, check=True)
        assert f'"leader@127.0.0.1:{port}"' in got.stdout
        subprocess.run([*send_number, "--fail"], capture_output=True, timeout=DEADLINE, check=True)
        leader.wait_for_line("answer 1234567890123 = 3 x 3541 x 116216501 <- follower@")


def test_the_files_that_it_links_to_exist():
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)", README))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
