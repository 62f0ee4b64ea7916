"""pykka, actors in threads of one OS process: `tell` and `ask`."""

from __future__ import annotations

import itertools

import pykka
from common import Arrivals, Round, Run, bodies_of


class Sink(pykka.ThreadingActor):
    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__()
        self.arrivals = arrivals

    def on_receive(self, message: bytes) -> None:
        self.arrivals.take(message)


class Source(pykka.ThreadingActor):
    def __init__(self, to: pykka.ActorRef, number: int, bodies: list[bytes]) -> None:
        super().__init__()
        self.to = to
        self.number = number
        self.bodies = bodies

    def on_receive(self, message: str) -> None:
        _tell(self.to, self.number, self.bodies)


class Echo(pykka.ThreadingActor):
    def on_receive(self, message: bytes) -> bytes:
        return message


def _tell(to: pykka.ActorRef, number: int, bodies: list[bytes]) -> None:
    for body in itertools.islice(itertools.cycle(bodies), number):
        to.tell(body)


def local(run: Run) -> None:
    """Tell another actor, `from` an actor or the main thread."""
    bodies = bodies_of(run.size)
    arrivals = Arrivals(run.number, bodies)
    to = Sink.start(arrivals)
    source = Source.start(to, run.number, bodies)
    run.wait_for_go()
    if run.options["from"] == "thread":
        _tell(to, run.number, bodies)
    else:
        source.tell("go")
    arrivals.done.wait()
    arrivals.report(run)
    run.wait_for_end()
    pykka.ActorRegistry.stop_all()


def pingpong(run: Run) -> None:
    """Ask an actor, one question at a time."""
    trips = Round(run.number, bodies_of(run.size))
    echo = Echo.start()
    run.wait_for_go()
    while (body := trips.next()) is not None:
        trips.take(echo.ask(body))
    trips.report(run)
    run.wait_for_end()
    pykka.ActorRegistry.stop_all()


if __name__ == "__main__":
    Run().play({"local": local, "pingpong": pingpong})
