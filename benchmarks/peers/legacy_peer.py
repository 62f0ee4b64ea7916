"""compactor 0.3.0, unpatched, on CPython 3.11: one way."""

from __future__ import annotations

import itertools
import time

from common import Arrivals, Run, bodies_of

from compactor.context import Context
from compactor.pid import PID
from compactor.process import Process


class Sink(Process):
    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__("sink")
        self.arrivals = arrivals

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        self.arrivals.take(body)


def sink(run: Run) -> None:
    """Receive `number` messages and check them."""
    context = Context(ip="127.0.0.1")
    context.start()
    arrivals = Arrivals(run.number, bodies_of(run.size))
    process = Sink(arrivals)
    context.spawn(process)
    run.ready(process.pid)
    arrivals.done.wait()
    arrivals.report(run)
    run.wait_for_end()


def source(run: Run) -> None:
    """Send `number` messages from the main thread."""
    context = Context(ip="127.0.0.1")
    context.start()
    process = Process("source")
    context.spawn(process)
    to = PID.from_string(run.address)
    run.wait_for_go()
    began = time.perf_counter()
    for body in itertools.islice(itertools.cycle(bodies_of(run.size)), run.number):
        process.send(to, "item", body)
    run.wait_for_end()
    run.report(run.number, time.perf_counter() - began, ok=True)


if __name__ == "__main__":
    Run().play({"sink": sink, "source": source})
