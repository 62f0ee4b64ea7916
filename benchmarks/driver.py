"""Runs the cases: each contestant as OS processes of its own, in turns; checks and writes down what they say."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import environments
from .cases import CASES, PROGRAMS, Case, Contestant, Program
from .environments import HOME, PEERS, ROOT, Missing
from .report import as_markdown, judge

END_SECONDS = 15.0
"""Seconds that a program may take to end when its stdin has."""


class Wrong(Exception):
    """A contestant did not do what the case asks for: its speed does not count."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How long all of it takes."""

    name: str
    rounds: int
    warm: bool
    divisor: int
    deadline: float  # seconds that one run of one contestant may take


FULL = Scale("full", rounds=5, warm=True, divisor=1, deadline=120.0)
QUICK = Scale("quick", rounds=5, warm=False, divisor=10, deadline=15.0)
TINY = Scale("tiny", rounds=1, warm=False, divisor=1000, deadline=60.0)
SCALES = {scale.name: scale for scale in (FULL, QUICK, TINY)}


class Running:
    """One program at work. Its lines are read by a thread of its own, what it complains about goes to a file."""

    def __init__(self, program: Program, number: int, size: int, address: str, give_up: float) -> None:
        family, file = PROGRAMS[program.peer]
        there = environments.environment(program.environment or family)
        self.name = f"{program.peer} {program.role}"
        self.give_up = give_up
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by clear_away
        options = [text for key, value in program.options.items() for text in ("--option", f"{key}={value}")]
        command = [*there.command, str(PEERS / file), program.role, "--number", str(number), "--size", str(size)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LIBPROCESS_", "PYTHON"))}
        self.process = subprocess.Popen(
            [*command, "--address", address, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**clean, **there.variables},
            # A group of its own: some libraries start programs that outlive the one that made them.
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, key: str) -> Any:
        """The value of its next line of that kind."""
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, self.give_up - time.monotonic()))
            except queue.Empty:
                raise Wrong(f"{self.name}: no {key} in time{self._complaints()}") from None
            if line is None:
                raise Wrong(f"{self.name}: ended without a {key}{self._complaints()}")
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict) and key in found:
                    return found[key]

    def _complaints(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return f" ({lines[-1]})" if lines else ""

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def end(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def clear_away(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for its end, unless something went wrong; then there is nothing left of it or what it started."""
        self.end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS if kind is None else 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()


def run_once(case: Case, contestant: Contestant, number: int, deadline: float) -> dict[str, float]:
    """Let a contestant play a case once; return what was measured.

    Raises:
        Missing: it cannot be had here.
        Wrong: it failed, or its result is not right.
    """
    give_up = time.monotonic() + deadline
    size = case.size if contestant.size is None else contestant.size
    number = max(1, number // contestant.clients) * contestant.clients
    with contextlib.ExitStack() as stack:

        def start(program: Program, count: int, address: str) -> Running:
            running = Running(program, count, size, address, give_up)
            stack.push(running.clear_away)
            return running

        address, servers = "", []
        if contestant.server is not None:
            servers.append(start(contestant.server, number, ""))
            address = servers[0].wait_for("ready")
        others = []
        for program in contestant.others:
            others.append(start(program, number, address))
            others[-1].wait_for("ready")
        clients = []
        for index in range(contestant.clients):
            program = contestant.client
            if contestant.clients > 1:
                program = dataclasses.replace(program, options={**program.options, "sender": index})
            clients.append(start(program, number // contestant.clients, address))
        for running in clients:
            running.wait_for("ready")
        for running in others:
            running.say("go")
        began = time.time()
        for running in clients:
            running.say("go")
        measured = [] if contestant.measured == "client" else [one.wait_for("result") for one in servers]
        if contestant.measured == "client":
            measured = [one.wait_for("result") for one in clients]
        for running in (*clients, *others, *servers):
            running.end()
        at_client = measured if contestant.measured == "client" else [one.wait_for("result") for one in clients]
        at_others = [one.wait_for("result") for one in others]
        if contestant.server_dies:
            at_server: list[Any] = []
        else:
            at_server = measured if contestant.measured == "server" else [one.wait_for("result") for one in servers]
    for result in (*at_client, *at_others, *at_server):
        if not result["ok"]:
            raise Wrong(f"the result is wrong: {result}")
    count = sum(result["count"] for result in measured)
    if count != number:
        raise Wrong(f"{count:,} of {number:,} were counted")
    seconds = max(result["ended"] - began if result.get("ended") else result["seconds"] for result in measured)
    return {
        "value": _value(case, measured[0]["values"], count, seconds, size),
        "client_us": sum(result["cpu"] for result in at_client) / count * 1e6,
        "server_us": sum(result["cpu"] for result in at_server) / count * 1e6,
        "client_mib": max(result["rss"] for result in at_client) / 2**20,
        "server_mib": max((result["rss"] for result in at_server), default=0) / 2**20,
        **{key: value for result in (*at_server, *at_client) for key, value in result["values"].items()},
    }


def _value(case: Case, values: dict[str, float], count: int, seconds: float, size: int) -> float:
    if case.measure in ("rate", "bytes"):
        if seconds <= 0:
            raise Wrong(f"{count} in no time: too few to measure")
        return count / seconds if case.measure == "rate" else count * size / seconds / 1e6
    if case.measure not in values:
        raise Wrong(f"there is no {case.measure} in {values}")
    return values[case.measure]


def run_case(case: Case, scale: Scale, rounds: int, give_up: float) -> dict[str, Any]:
    """Let all contestants of a case play in turns, and return what is kept of it."""
    number = case.number_at(scale.name, scale.divisor)
    found: dict[str, list[dict[str, float]]] = {one.label: [] for one in case.contestants}
    why: dict[str, dict[str, str]] = {}
    # -1 is the warm-up, with a tenth of the messages.
    for turn in range(-1 if scale.warm else 0, rounds):
        if turn > 0 and time.monotonic() > give_up:
            break
        for contestant in case.contestants:
            if contestant.label in why:
                continue
            try:
                share = contestant.share * (0.1 if turn < 0 else 1.0) if case.scaled else 1.0
                measures = run_once(case, contestant, max(1, int(number * share)), scale.deadline)
            except Missing as reason:
                why[contestant.label] = {"skipped": str(reason)}
            except Wrong as reason:
                why[contestant.label] = {"failed": str(reason)}
            else:
                if turn >= 0:
                    found[contestant.label].append(measures)
    return judge(case, number, found, why)


@contextlib.contextmanager
def _progress(case: Case) -> Iterator[None]:
    began = time.monotonic()
    print(f"{case.name} ...", end=" ", file=sys.stderr, flush=True)
    yield
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    memory = 0
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": round(os.getloadavg()[0], 2),
    }


def _chosen(names: Sequence[str], scale: Scale) -> list[Case]:
    by_name = {case.name: case for case in CASES}
    for name in names:
        if name not in by_name:
            raise SystemExit(f"there is no case {name!r}; there are: {', '.join(by_name)}")
    if names:
        return [by_name[name] for name in dict.fromkeys(names)]
    return [case for case in CASES if scale is not QUICK or case.quick]


def _narrowed(cases: list[Case], peers: Sequence[str], against: Path | None) -> list[Case]:
    """Only contestants whose label begins so; and each of ours once more, from another checkout, beside it."""
    narrowed = []
    for case in cases:
        contestants = []
        for contestant in case.contestants:
            if peers and not any(contestant.label.startswith(peer) for peer in peers):
                continue
            contestants.append(contestant)
            if against is not None and contestant.label.startswith("compactor"):
                contestants.append(contestant.moved("against", f"{contestant.label} [{against.name}]"))
        if not contestants:
            raise SystemExit(f"{case.name} has nobody of {', '.join(peers)}: {', '.join(case.labels)}")
        narrowed.append(dataclasses.replace(case, contestants=tuple(contestants)))
    return narrowed


def write(results: dict[str, Any], folder: Path, plots: bool) -> None:
    """Write the JSON, the Markdown table made from it, and the plots made from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(as_markdown(results))
    if plots:
        try:
            there = environments.environment("plots")
        except Missing as why:
            print(f"no plots: {why}", file=sys.stderr)
        else:
            program = Path(__file__).with_name("plots.py")
            subprocess.run([*there.command, str(program), str(folder / "results.json"), str(folder)], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 when a contestant of ours failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure compactor beside its peers, in turns, on this machine."
    )
    parser.add_argument("case", nargs="*", help="names of cases (default: all of the scale); see --list")
    parser.add_argument("--list", action="store_true", help="show the cases and who plays them")
    parser.add_argument("--scale", choices=SCALES, default="full", help="quick: a tenth of the messages, fewer cases")
    parser.add_argument("--rounds", type=int, help="how often each contestant plays")
    parser.add_argument("--seconds", type=float, help="begin no further round of a case when its part of it is over")
    parser.add_argument("--only", action="append", default=[], metavar="LABEL", help="contestants that begin so")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout of compactor to compare with")
    parser.add_argument("--output", type=Path, help="folder of results (default: .bench/full, quick or some)")
    parser.add_argument("--no-plots", action="store_true")
    options = parser.parse_args(arguments)
    if options.list:
        for case in CASES:
            print(f"{case.name}: {case.title}\n    {', '.join(case.labels)}")
        return 0
    scale = SCALES[options.scale]
    against = options.against and options.against.resolve()
    if against is not None:
        environments.add_checkout("against", against)
    cases = _narrowed(_chosen(options.case, scale), options.only, against)
    rounds = options.rounds or scale.rounds
    # A run of some cases leaves the results of the long run alone.
    output = options.output or HOME / ("some" if options.case or options.only or against else scale.name)
    results: dict[str, Any] = {
        "machine": machine(),
        "when": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "scale": scale.name,
        "rounds": rounds,
        "warm_up": scale.warm,
        "cases": [],
    }
    # What runs is cleared away at Ctrl-C, and at a plain kill as well.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    for index, case in enumerate(cases):
        # The time that is left is shared by the cases that are left.
        left = float("inf") if options.seconds is None else began + options.seconds - time.monotonic()
        with _progress(case):
            results["cases"].append(run_case(case, scale, rounds, time.monotonic() + left / (len(cases) - index)))
        results["versions"] = environments.versions()
        write(results, output, plots=False)
    results["seconds"] = round(time.monotonic() - began, 1)
    write(results, output, plots=not options.no_plots)
    print((output / "results.md").read_text())
    print(f"in {output.relative_to(ROOT) if output.is_relative_to(ROOT) else output}")
    failed = [one for case in results["cases"] for one in case["contestants"] if "failed" in one]
    for one in failed:
        print(f"failed: {one['label']}: {one['failed']}", file=sys.stderr)
    return 1 if failed else 0
