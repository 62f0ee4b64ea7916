"""How many messages a second go one way between two OS processes, through the public API.

    python benchmarks/one_way.py [--messages N] [--size BYTES] [--from main|handler] [--rounds N]

The receiver checks number and order. Printed are the median and the spread of the rounds, and the CPU time of a message
on each side. Both OS processes share the machine with whatever else runs: compare figures of one run only.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import threading
import time

from compactor import PID, Context, Process

BURST = 1000


class Sink(Process):
    """Counts messages and checks that each is the next one."""

    def __init__(self, expected: int) -> None:
        super().__init__("sink")
        self.expected = expected
        self.received = 0
        self.in_order = True
        self.began = self.ended = 0.0
        self.done = threading.Event()

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        if self.received == 0:
            self.began = time.perf_counter()
        if int(body[:8]) != self.received:
            self.in_order = False
        self.received += 1
        if self.received == self.expected:
            self.ended = time.perf_counter()
            self.done.set()


class Source(Process):
    """Sends from its handlers, a burst at a time, so that the loop can write meanwhile."""

    def __init__(self, to: PID, messages: int, body: bytes) -> None:
        super().__init__("source")
        self.to = to
        self.messages = messages
        self.body = body
        self.sent = 0

    def burst(self) -> None:
        stop = min(self.sent + BURST, self.messages)
        for number in range(self.sent, stop):
            self.send(self.to, "item", b"%08d" % number + self.body)
        self.sent = stop
        if stop < self.messages:
            self.context.dispatch(self.pid, "burst")


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def receive(messages: int) -> None:
    """Be the receiving OS process."""
    context = Context(ip="127.0.0.1")
    sink = Sink(messages)
    print(context.spawn(sink), flush=True)
    before = cpu_seconds()
    sink.done.wait(300)
    found = {"received": sink.received, "in_order": sink.in_order}
    print(json.dumps({**found, "seconds": sink.ended - sink.began, "cpu": cpu_seconds() - before}))
    context.stop()


def one_round(messages: int, size: int, source: str) -> dict[str, float]:
    """Start a receiver, send, and return what it measured."""
    receiver = subprocess.Popen(
        [sys.executable, __file__, "--receive", "--messages", str(messages)], stdout=subprocess.PIPE, text=True
    )
    assert receiver.stdout is not None
    to = PID.from_string(receiver.stdout.readline().strip())
    context = Context(ip="127.0.0.1")
    process = Source(to, messages, bytes(max(0, size - 8)))
    context.spawn(process)
    before = cpu_seconds()
    if source == "main":
        for number in range(messages):
            process.send(to, "item", b"%08d" % number + process.body)
    else:
        context.dispatch(process.pid, "burst")
    found = json.loads(receiver.stdout.readline())
    sender_cpu = cpu_seconds() - before
    receiver.wait()
    context.stop()
    if found["received"] != messages or not found["in_order"]:
        raise SystemExit(f"wrong: {found}")
    return {
        "rate": messages / found["seconds"],
        "send_us": sender_cpu / messages * 1e6,
        "receive_us": found["cpu"] / messages * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--size", type=int, default=100, help="bytes of each body, at least 8")
    parser.add_argument("--from", dest="source", choices=("main", "handler"), default="handler")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        receive(arguments.messages)
        return
    one_round(20_000, arguments.size, arguments.source)  # warm up
    rounds = [one_round(arguments.messages, arguments.size, arguments.source) for _ in range(arguments.rounds)]
    rates = [found["rate"] for found in rounds]
    print(
        f"one way, {arguments.size} B, from {arguments.source}: {statistics.median(rates):,.0f} messages/s "
        f"({min(rates):,.0f} to {max(rates):,.0f}); CPU a message: "
        f"{statistics.median(found['send_us'] for found in rounds):.2f} us sending, "
        f"{statistics.median(found['receive_us'] for found in rounds):.2f} us receiving"
    )


if __name__ == "__main__":
    main()
