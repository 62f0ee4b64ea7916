"""The demo: the programs `leader.py` and `follower.py` of the examples at work, and what happens when some are killed.

The leader and its followers are OS processes of their own and know nothing of the demo. It starts and kills them, shows
each line that they print at the moment they print it, and checks after each step that the lines which must come have
come. What they count is asked of the leader over HTTP.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

FOLLOWERS: Final = ("follower1", "follower2", "follower3")
SHOWN_SECONDS: Final = 1.0
"""How long a step is shown at least: most would be over before they can be read."""
STEP_SECONDS: Final = 10.0
"""How long a step may take."""
TOTAL_SECONDS: Final = 28.0
"""How long all steps together may take: the demo promises to end within 30 seconds."""
PORTS: Final = range(5050, 5150)
"""Where a free port for the leader is looked for. Not among those that systems give to outgoing connections: while the
leader is away, a follower's own connection could be given the leader's port."""

_COLOURS = {"leader": "36", "follower1": "32", "follower2": "33", "follower3": "35", "demo": "1"}


class Missed(Exception):
    """Something that must happen in the demo did not."""


class _Program:
    """One running program of the examples; a thread of its own queues its lines. Touched only by the main thread."""

    def __init__(self, name: str, lines: queue.SimpleQueue[tuple[_Program, str | None]], *command: str) -> None:
        self.name = name
        self.killed = False
        self._process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
            [sys.executable, "-u", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # The settings of the caller's own contexts are not meant for these.
            env={name: value for name, value in os.environ.items() if not name.startswith("LIBPROCESS_")},
        )
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()

    def _read(self, lines: queue.SimpleQueue[tuple[_Program, str | None]]) -> None:
        with self._process as process:
            for line in process.stdout or ():
                lines.put((self, line.rstrip()))
        lines.put((self, None))

    def kill(self) -> None:
        """End it with SIGKILL, which leaves it no time to tell anybody."""
        self.killed = True
        self._process.kill()
        self._process.wait()
        self._reader.join()


class _Demo:
    """Runs the programs and keeps all that they said. Touched only by the main thread."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.quiet = False  # leave out the lines about single pieces of work
        self._started = time.monotonic()
        self._running: dict[str, _Program] = {}
        self._arriving: queue.SimpleQueue[tuple[_Program, str | None]] = queue.SimpleQueue()
        self._said: list[tuple[str, str]] = []  # (program, line), from the start
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def start(self, name: str, program: str, *arguments: str) -> None:
        self._running[name] = _Program(name, self._arriving, str(_examples() / program), *arguments)

    def start_leader(self) -> None:
        self.start("leader", "leader.py", "--port", str(self.port))

    def kill(self, name: str) -> None:
        self._running.pop(name).kill()

    def kill_all(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def show(self, name: str, text: str) -> None:
        colour = _COLOURS[name]
        shown = f"\x1b[{colour}m{name:<10}\x1b[0m" if self._coloured else f"{name:<10}"
        print(f"{time.monotonic() - self._started:6.2f}  {shown} {text}", flush=True)

    @contextlib.contextmanager
    def step(self, title: str, **expected: list[str]) -> Iterator[None]:
        """Do what the `with` block does; then wait for the `expected` lines, in any order, of each program.

        Raises:
            Missed: one did not come in time, or a program ended by itself.
        """
        # What was said before must not count as said in this step.
        while self.listen(0.0):
            pass
        print()
        self.show("demo", title)
        mark = len(self._said)
        yield
        began = time.monotonic()
        missing = [(name, re.compile(pattern)) for name, patterns in expected.items() for pattern in patterns]
        deadline = min(began + STEP_SECONDS, self._started + TOTAL_SECONDS)
        while missing := [wanted for wanted in missing if not self._was_said(wanted, mark)]:
            mark = len(self._said)
            if not self.listen(deadline - time.monotonic()):
                raise Missed("; ".join(f"{name} did not say '{wanted.pattern}'" for name, wanted in missing))
        while self.listen(began + SHOWN_SECONDS - time.monotonic()):
            pass

    def _was_said(self, wanted: tuple[str, re.Pattern[str]], mark: int) -> bool:
        return any(name == wanted[0] and wanted[1].match(line) for name, line in self._said[mark:])

    def listen(self, seconds: float | None) -> bool:
        """Show the next line of any program; return False when none has come in time.

        Raises:
            Missed: a program ended by itself.
        """
        try:
            program, line = self._arriving.get(timeout=None if seconds is None else max(seconds, 0.0))
        except queue.Empty:
            return False
        if line is not None:
            self._said.append((program.name, line))
            if not (self.quiet and line.startswith(("work ", "answer "))):
                self.show(program.name, line)
        elif not program.killed:
            raise Missed(f"{program.name} ended by itself")
        return True

    def count(self, event: str) -> int:
        """Return how many lines of any program began with `event`."""
        return sum(line.startswith(event) for _, line in self._said)

    def leader_state(self) -> dict[str, Any]:
        """Return what the leader's page shows.

        Raises:
            Missed: the leader did not answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=STEP_SECONDS)
        try:
            connection.request("GET", "/leader/state")
            state: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Missed(f"the leader did not answer GET /leader/state: {error}") from error
        finally:
            connection.close()
        return state


def _examples() -> Path:
    """Return the folder of the example programs: beside this file when installed, else in the source tree."""
    installed = Path(__file__).with_name("examples")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "examples"


def _free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise Missed(f"no port from {PORTS.start} to {PORTS.stop - 1} is free; name another with --port")


def _answers(*followers: str) -> list[str]:
    return [rf"answer .* <- {follower}@" for follower in followers]


def _play(demo: _Demo) -> list[dict[str, Any]]:
    """Go through all steps; return the final state of the first leader and that of the second."""
    leader = f"leader@127.0.0.1:{demo.port}"
    lost, *left = FOLLOWERS[1], FOLLOWERS[0], FOLLOWERS[2]
    with demo.step("a leader starts", leader=[f"listening {leader}$"]):
        demo.start_leader()
    with demo.step(
        "three followers start, register, and get work",
        leader=[f"registered {follower}@" for follower in FOLLOWERS] + _answers(*FOLLOWERS),
        **{follower: [f"registered with {leader}$"] for follower in FOLLOWERS},
    ):
        for follower in FOLLOWERS:
            demo.start(follower, "follower.py", leader, "--name", follower)
    with demo.step(f"{lost} is killed (SIGKILL), and the leader is told", leader=[f"exited {lost}@"]):
        demo.kill(lost)
    with demo.step("the other two go on", leader=_answers(*left)):
        pass
    states = [demo.leader_state()]
    with demo.step(
        "the leader is killed, and its followers are told", **{follower: [f"exited {leader}"] for follower in left}
    ):
        demo.kill("leader")
    with demo.step(
        "the leader starts again at the same address, and they find it",
        leader=[f"registered {follower}@" for follower in left] + _answers(*left),
        **{follower: [f"registered with {leader}$"] for follower in left},
    ):
        demo.start_leader()
    return [*states, demo.leader_state()]


def _check(states: list[dict[str, Any]]) -> None:
    """Compare what the leaders count with what was done to them."""
    first, second = ([one["pid"].partition("@")[0] for one in state["exits"]] for state in states)
    if first != [FOLLOWERS[1]] or second:
        raise Missed(f"the first leader counts the exits {first} and the second {second}")
    if [len(state["followers"]) for state in states] != [2, 2]:
        raise Missed("the leaders do not count two followers each at the end")


def _summarise(demo: _Demo, states: list[dict[str, Any]]) -> None:
    print()
    demo.show("demo", "everything expected was seen:")
    for what, number in (
        ("registrations", demo.count("registered follower")),
        ("numbers factored", sum(state["answers"] for state in states)),
        ("messages received by the leaders", sum(state["statistics"]["messages_received"] for state in states)),
        ("messages that found nobody", sum(state["statistics"]["dead_letters"] for state in states)),
        ("exits seen by the leaders", sum(len(state["exits"]) for state in states)),
        ("exits seen by the followers", demo.count("exited leader@")),
    ):
        print(f"{number:>21}  {what}")


def _end(signal_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal_number)


def run(port: int | None = None, *, serve: bool = False) -> int:
    """Run the demo and print what happens; return the exit status for the shell: 0, or 1 when anything was missed.

    Call it in the main thread of a program of its own: a SIGTERM ends that, its children first.

    Args:
        port: the leader's port; by default the first free one of `PORTS`.
        serve: go on until Ctrl-C, with the leader's page.
    """
    signal.signal(signal.SIGTERM, _end)
    demo = None
    try:
        demo = _Demo(_free_port() if port is None else port)
        states = _play(demo)
        _check(states)
        _summarise(demo, states)
        if serve:
            print(f"\nThe live state is at http://127.0.0.1:{demo.port}/leader until you press Ctrl-C.", flush=True)
            demo.quiet = True
            while True:
                demo.listen(None)
    except Missed as missed:
        print(f"\nThe demo failed: {missed}.", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print()
        return 0 if serve else 130
    finally:
        if demo is not None:
            demo.kill_all()
    return 0
