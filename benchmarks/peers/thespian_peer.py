"""thespian on its TCP base, where each actor is an OS process: `tell` one way."""

from __future__ import annotations

import itertools
import socket
from typing import Any

from common import Arrivals, Run, bodies_of, cpu_seconds, peak_bytes
from thespian.actors import Actor, ActorSystem

ANSWER_SECONDS = 120.0


class Sink(Actor):
    arrivals: Arrivals
    cpu: float

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802 - the name it is called by
        if isinstance(message, bytes):
            self.arrivals.take(message)
        elif isinstance(message, tuple):
            self.arrivals = Arrivals(message[0], bodies_of(message[1]))
            self.cpu = cpu_seconds()
            self.send(sender, "ready")
        elif message == "result":
            found = self.arrivals
            seconds = found.ended - found.began
            # The clock of `perf_counter` is the same for all OS processes on Linux.
            self.send(sender, (found.count, found.wrong, seconds, found.ended, cpu_seconds() - self.cpu, peak_bytes()))


def one_way(run: Run) -> None:
    """Tell an actor `number` messages; what it says of them is the result."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    system = ActorSystem("multiprocTCPBase", capabilities={"Admin Port": port}, logDefs={"version": 1})
    try:
        to = system.createActor(Sink)
        system.ask(to, (run.number, run.size), ANSWER_SECONDS)
        run.wait_for_go()
        for body in itertools.islice(itertools.cycle(bodies_of(run.size)), run.number):
            system.tell(to, body)
        count, wrong, seconds, ended, cpu, peak = system.ask(to, "result", ANSWER_SECONDS)
        ok = wrong == 0 and count == run.number
        run.report(count, seconds, ok, ended, receiver_us=cpu / count * 1e6, receiver_mib=peak / 2**20)
        run.wait_for_end()
    finally:
        system.shutdown()


if __name__ == "__main__":
    Run().play({"one_way": one_way})
