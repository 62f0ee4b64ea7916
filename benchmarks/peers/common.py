"""What the peer programs in Python share: command line, begin and end, the bodies they send and the check of them.

Standard library only: each peer runs in an environment of its own. The protocol is in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import resource
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

CYCLE = 997
"""Bodies repeat after so many, a prime, so that neither side has to make them while the time runs."""
BURST = 1000
"""Messages that a handler sends before it lets its loop come round."""
ORPHAN_SECONDS = 5.0
MAILBOXES = SENDERS = 50
MIXED_CYCLE = 9973
MIXED_LARGEST = 2000


class Run:
    """One peer program between its command line and its result."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("role")
        parser.add_argument("--number", type=int, default=1)
        parser.add_argument("--size", type=int, default=100)
        parser.add_argument("--address", default="")
        parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE")
        arguments = parser.parse_args()
        self.role: str = arguments.role
        self.number: int = arguments.number
        self.size: int = arguments.size
        self.address: str = arguments.address
        self.options: dict[str, str] = dict(option.split("=", 1) for option in arguments.option)
        self._reported = False
        self._cpu = 0.0
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def play(self, roles: dict[str, Callable[[Run], None]]) -> None:
        """Play the role that the command line names."""
        if self.role not in roles:
            sys.exit(f"no role {self.role!r}: {', '.join(roles)}")
        roles[self.role](self)

    def ready(self, address: object = "") -> None:
        """Say that the others may begin, and where."""
        self._cpu = cpu_seconds()
        print(json.dumps({"ready": str(address)}), flush=True)

    def wait_for_go(self) -> None:
        """Say that all is prepared and wait until the others are."""
        self.ready()
        sys.stdin.readline()
        self._cpu = cpu_seconds()

    def wait_for_end(self) -> None:
        """Wait until the driver has what it wants."""
        sys.stdin.read()

    def report(self, count: int, seconds: float, ok: bool, ended: float = 0.0, **values: float) -> None:
        """Print the result; the first one counts.

        With `ended`, of `time.perf_counter`, the time is from the driver's go until then, and not `seconds`: what was
        sent before the first message arrived took time too.
        """
        if not self._reported:
            self._reported = True
            cpu = cpu_seconds() - self._cpu
            found = {"count": count, "seconds": seconds, "cpu": cpu, "rss": peak_bytes(), "ok": ok, "values": values}
            if ended:
                found["ended"] = time.time() - (time.perf_counter() - ended)
            print(json.dumps({"result": found}), flush=True)


def _end_with(driver: int) -> None:
    """A driver that was killed cannot clear away."""
    while os.getppid() == driver:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


class Arrivals:
    """Counts the bodies that arrive, and compares each with the one that must be next."""

    def __init__(self, number: int, bodies: Sequence[bytes]) -> None:
        self.number = number
        self.count = self.wrong = 0
        self.began = self.ended = 0.0
        self.done = threading.Event()
        self._next = itertools.cycle(bodies).__next__

    def take(self, body: bytes) -> None:
        if body != self._next():
            self.wrong += 1
        self.count += 1
        if self.count == 1:
            self.began = time.perf_counter()
        if self.count == self.number:
            self.ended = time.perf_counter()
            self.done.set()

    def report(self, run: Run, **values: float) -> None:
        ok = self.wrong == 0 and self.count == self.number
        run.report(self.count, self.ended - self.began, ok, self.ended, **values)


class Round:
    """The times of round trips: each answer is checked, and asks for the next question."""

    def __init__(self, number: int, bodies: Sequence[bytes]) -> None:
        self.number = number
        self.bodies = bodies
        self.sent = self.count = self.wrong = 0
        self.began = self.ended = 0.0
        self.done = threading.Event()
        self._times: list[float] = []
        self._latencies: list[float] = []

    def next(self) -> bytes | None:
        """The next body to send, or None when all are under way."""
        sent = self.sent
        if sent == self.number:
            return None
        self.sent = sent + 1
        now = time.perf_counter()
        if sent == 0:
            self.began = now
        self._times.append(now)
        return self.bodies[sent % len(self.bodies)]

    def take(self, body: bytes) -> None:
        """The answer to the oldest unanswered question."""
        now = time.perf_counter()
        count = self.count
        if body != self.bodies[count % len(self.bodies)]:
            self.wrong += 1
        self._latencies.append(now - self._times[count])
        self.count = count + 1
        if self.count == self.number:
            self.ended = now
            self.done.set()

    def report(self, run: Run) -> None:
        ok = self.wrong == 0 and self.count == self.number
        run.report(self.count, self.ended - self.began, ok, **percentiles(self._latencies))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in microseconds, and in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    p50 = ordered[len(ordered) // 2] * 1e6
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e6
    return {"p50_us": p50, "p99_us": p99, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3}


def bodies_of(size: int, sender: int = 0) -> list[bytes]:
    """The bodies that a sender sends again and again; as different as their size allows."""
    filler = bytes(range(32, 127)) * (size // 95 + 1)
    return [(b"%02d%06d" % (sender, number) + filler)[:size] for number in range(CYCLE)]


def mixed_plan() -> list[tuple[int, int, bytes]]:
    """Who sends what to whom, again and again: sender, mailbox, body of 0 to 2,000 bytes; the same for all peers."""
    drawn = random.Random(2_000)
    filler = drawn.randbytes(2 * MIXED_LARGEST)
    plan = []
    for _ in range(MIXED_CYCLE):
        start, size = drawn.randrange(MIXED_LARGEST), drawn.randint(0, MIXED_LARGEST)
        plan.append((drawn.randrange(SENDERS), drawn.randrange(MAILBOXES), filler[start : start + size]))
    return plan


class MixedArrivals:
    """Checks a mixed stream: the order from each sender at each mailbox, which is what is promised, and the count."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.began = self.ended = 0.0
        self.done = threading.Event()
        bodies: dict[tuple[int, int], list[bytes]] = {}
        for sender, to, body in mixed_plan():
            bodies.setdefault((sender, to), []).append(body)
        self.streams = {pair: Arrivals(-1, own) for pair, own in bodies.items()}

    def take(self, stream: Arrivals, body: bytes) -> None:
        stream.take(body)
        self.count += 1
        if self.count == 1:
            self.began = time.perf_counter()
        if self.count == self.number:
            self.ended = time.perf_counter()
            self.done.set()

    def report(self, run: Run) -> None:
        wrong = sum(stream.wrong for stream in self.streams.values())
        run.report(self.count, self.ended - self.began, wrong == 0 and self.count == self.number, self.ended)


def big_body(size: int) -> bytes:
    """One large body of about this size, made without a second copy; a shift or a hole would change its checksum."""
    return bytes(range(251)) * (size // 251)


def checksum(body: bytes) -> int:
    return zlib.crc32(body)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _status(name: str) -> int | None:
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(name + ":")), None)


def peak_bytes() -> int:
    """The peak memory of this program. `ru_maxrss` also counts the program that started it, so Linux is asked first."""
    found = _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if found is None else found


def forget_peak() -> int:
    """Let the peak begin anew, from the memory in use now, which is returned."""
    Path("/proc/self/clear_refs").write_text("5")
    return rss_bytes()


def rss_bytes() -> int:
    """The memory in use now."""
    return _status("VmRSS") or 0


def new_loop(run: Run) -> asyncio.AbstractEventLoop:
    """Make the event loop that the options name."""
    if run.options.get("loop") == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()
