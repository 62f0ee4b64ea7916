"""compactor through its public API: streams and round trips, between two OS processes and inside one context."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

from common import (
    BURST,
    MAILBOXES,
    SENDERS,
    Arrivals,
    MixedArrivals,
    Round,
    Run,
    bodies_of,
    mixed_plan,
    new_loop,
    percentiles,
)

from compactor import PID, Context, Process


def make_context(run: Run) -> Context:
    return Context(ip="127.0.0.1", loop=new_loop(run) if run.options.get("loop") else None)


# --- one way ----------------------------------------------------------------------------------------------------------


class Sink(Process):
    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__("sink")
        self.arrivals = arrivals

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        self.arrivals.take(body)


class AsyncSink(Process):
    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__("sink")
        self.arrivals = arrivals

    @Process.install("item")
    async def item(self, from_pid: PID, body: bytes) -> None:
        self.arrivals.take(body)


class SuspendingSink(Process):
    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__("sink")
        self.arrivals = arrivals

    @Process.install("item")
    async def item(self, from_pid: PID, body: bytes) -> None:
        await asyncio.sleep(0)
        self.arrivals.take(body)


class SharedSink(Process):
    """Takes the streams of several senders, told apart by their bodies."""

    def __init__(self, number: int, senders: int, size: int) -> None:
        super().__init__("sink")
        self.number = number
        self.streams = [Arrivals(number // senders, bodies_of(size, sender)) for sender in range(senders)]
        self.count = 0
        self.began = self.ended = 0.0
        self.spread = 1.0
        self.done = threading.Event()

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        stream = self.streams[int(body[:2])]
        stream.take(body)
        self.count += 1
        if self.count == 1:
            self.began = time.perf_counter()
        if self.spread == 1.0 and stream.ended:
            # The first one has ended: the shares are what the others have got by now.
            self.spread = 1 - min(other.count for other in self.streams) / stream.count
        if self.count == self.number:
            self.ended = time.perf_counter()
            self.done.set()


class Bystander(Process):
    @Process.install("hello")
    def hello(self, from_pid: PID, body: bytes) -> None:
        pass


class Crowd(Process):
    """Spawns many processes and links to some of them, from its handlers."""

    def __init__(self, processes: int, links: int) -> None:
        super().__init__("crowd")
        self.processes = processes
        self.links = links
        self.made = threading.Event()

    def initialize(self) -> None:
        self.context.spawn(Bystander("bystander"))
        for number in range(self.processes):
            pid = self.context.spawn(Bystander(f"member{number}"))
            if number < self.links:
                self.link(pid)
        self.made.set()


def sink(run: Run) -> None:
    """Receive `number` messages and check them; `crowd` and `links` say what else the context has."""
    context = make_context(run)
    if "crowd" in run.options:
        crowd = Crowd(int(run.options["crowd"]), int(run.options["links"]))
        context.spawn(crowd)
        crowd.made.wait()
    arrivals = Arrivals(run.number, bodies_of(run.size))
    kind = {"plain": Sink, "async": AsyncSink, "suspend": SuspendingSink}[run.options.get("handler", "plain")]
    run.ready(context.spawn(kind(arrivals)))
    arrivals.done.wait()
    arrivals.report(run)
    run.wait_for_end()
    context.stop()


def shared_sink(run: Run) -> None:
    """Receive from `senders` OS processes; `spread` is how far the slowest was behind when the first had ended."""
    context = make_context(run)
    process = SharedSink(run.number, int(run.options["senders"]), run.size)
    run.ready(context.spawn(process))
    process.done.wait()
    ok = not any(stream.wrong for stream in process.streams) and process.count == run.number
    run.report(process.count, process.ended - process.began, ok, process.ended, spread=process.spread)
    run.wait_for_end()
    context.stop()


class Source(Process):
    """Sends from its handlers, a burst at a time, so that the loop can write meanwhile."""

    def __init__(self, to: PID, number: int, bodies: list[bytes]) -> None:
        super().__init__()
        self.to = to
        self.left = number
        self.bodies = itertools.cycle(bodies)

    def burst(self) -> None:
        now = min(self.left, BURST)
        for body in itertools.islice(self.bodies, now):
            self.send(self.to, "item", body)
        self.left -= now
        if self.left:
            self.context.dispatch(self.pid, "burst")


def source(run: Run) -> None:
    """Send `number` messages, `from` the main thread or a handler; `sender` is this one's number among several."""
    context = make_context(run)
    bodies = bodies_of(run.size, int(run.options.get("sender", 0)))
    process = Source(PID.from_string(run.address), run.number, bodies)
    context.spawn(process)
    run.wait_for_go()
    began = time.perf_counter()
    if run.options.get("from", "handler") == "main":
        to = process.to
        for body in itertools.islice(process.bodies, run.number):
            process.send(to, "item", body)
    else:
        context.dispatch(process.pid, "burst")
    run.wait_for_end()
    run.report(run.number, time.perf_counter() - began, ok=True)
    context.stop()


# --- mixed ------------------------------------------------------------------------------------------------------------


class Mailbox(Process):
    def __init__(self, number: int, arrivals: MixedArrivals) -> None:
        super().__init__(f"mailbox{number}")
        self.number = number
        self.arrivals = arrivals
        self.streams: dict[PID, Arrivals] = {}

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        stream = self.streams.get(from_pid)
        if stream is None:
            sender = int(from_pid.id.removeprefix("sender"))
            stream = self.streams[from_pid] = self.arrivals.streams[sender, self.number]
        self.arrivals.take(stream, body)


def mixed_sink(run: Run) -> None:
    """Receive a mix: many senders, many mailboxes, bodies of all sizes."""
    context = make_context(run)
    arrivals = MixedArrivals(run.number)
    for number in range(MAILBOXES):
        context.spawn(Mailbox(number, arrivals))
    run.ready(f"{context.ip}:{context.port}")
    arrivals.done.wait()
    arrivals.report(run)
    run.wait_for_end()
    context.stop()


class MixedSource(Process):
    """Has its siblings send, each under its own PID."""

    def __init__(self, plan: itertools.cycle, number: int) -> None:
        super().__init__()
        self.plan = plan
        self.left = number

    def burst(self) -> None:
        now = min(self.left, BURST)
        for sender, to, body in itertools.islice(self.plan, now):
            sender.send(to, "item", body)
        self.left -= now
        if self.left:
            self.context.dispatch(self.pid, "burst")


def mixed_source(run: Run) -> None:
    """Send the mix of `mixed_plan`."""
    context = make_context(run)
    senders = [Process(f"sender{number}") for number in range(SENDERS)]
    for sender in senders:
        context.spawn(sender)
    mailboxes = [PID.from_string(f"mailbox{number}@{run.address}") for number in range(MAILBOXES)]
    plan = itertools.cycle([(senders[sender], mailboxes[to], body) for sender, to, body in mixed_plan()])
    process = MixedSource(plan, run.number)
    context.spawn(process)
    run.wait_for_go()
    began = time.perf_counter()
    if run.options.get("from", "handler") == "main":
        for sender, to, body in itertools.islice(plan, run.number):
            sender.send(to, "item", body)
    else:
        context.dispatch(process.pid, "burst")
    run.wait_for_end()
    run.report(run.number, time.perf_counter() - began, ok=True)
    context.stop()


# --- there and back ---------------------------------------------------------------------------------------------------


class Echo(Process):
    @Process.install("ping")
    def ping(self, from_pid: PID, body: bytes) -> None:
        self.send(from_pid, "pong", body)


def echo(run: Run) -> None:
    """Answer each `ping` with a `pong` of the same body."""
    context = make_context(run)
    run.ready(context.spawn(Echo("echo")))
    run.wait_for_end()
    run.report(0, 0.0, ok=True)
    context.stop()


class Caller(Process):
    """Keeps some round trips in flight."""

    def __init__(self, to: PID, trips: Round, in_flight: int) -> None:
        super().__init__()
        self.to = to
        self.trips = trips
        self.in_flight = in_flight

    def begin(self) -> None:
        self.link(self.to)
        for _ in range(self.in_flight):
            self.call()

    def call(self) -> None:
        body = self.trips.next()
        if body is not None:
            self.send(self.to, "ping", body)

    @Process.install("pong")
    def pong(self, from_pid: PID, body: bytes) -> None:
        self.trips.take(body)
        self.call()


def _make_calls(run: Run, context: Context, to: PID) -> None:
    trips = Round(run.number, bodies_of(run.size))
    process = Caller(to, trips, int(run.options.get("in_flight", 1)))
    context.spawn(process)
    run.wait_for_go()
    context.dispatch(process.pid, "begin")
    trips.done.wait()
    trips.report(run)
    run.wait_for_end()
    context.stop()


def caller(run: Run) -> None:
    """Make `number` round trips with the echo at `address`, `in_flight` at a time."""
    _make_calls(run, make_context(run), PID.from_string(run.address))


def pingpong(run: Run) -> None:
    """The same inside one context."""
    context = make_context(run)
    _make_calls(run, context, context.spawn(Echo("echo")))


class Asker(Process):
    """Keeps some questions open at a time."""

    def __init__(self, to: PID, number: int, bodies: list[bytes], in_flight: int) -> None:
        super().__init__()
        self.to = to
        self.left = self.number = number
        self.bodies = bodies
        self.in_flight = in_flight
        self.wrong = 0
        self.latencies: list[float] = []
        self.seconds = 0.0
        self.done = threading.Event()

    async def begin(self) -> None:
        began = time.perf_counter()
        await asyncio.gather(*[self.questions() for _ in range(self.in_flight)])
        self.seconds = time.perf_counter() - began
        self.done.set()

    async def questions(self) -> None:
        while self.left:
            self.left -= 1
            body = self.bodies[self.left % len(self.bodies)]
            asked = time.perf_counter()
            answer = await self.ask(self.to, "ping", body)
            self.latencies.append(time.perf_counter() - asked)
            if answer.body != body:
                self.wrong += 1


def asker(run: Run) -> None:
    """Ask the echo at `address` `number` questions, `in_flight` at a time."""
    context = make_context(run)
    bodies = bodies_of(run.size)
    process = Asker(PID.from_string(run.address), run.number, bodies, int(run.options.get("in_flight", 1)))
    context.spawn(process)
    run.wait_for_go()
    context.dispatch(process.pid, "begin")
    process.done.wait()
    count = len(process.latencies)
    ok = process.wrong == 0 and count == run.number
    run.report(count, process.seconds, ok, **percentiles(process.latencies))
    run.wait_for_end()
    context.stop()


def local(run: Run) -> None:
    """Send inside one context, `from` a handler or another thread."""
    context = make_context(run)
    arrivals = Arrivals(run.number, bodies_of(run.size))
    process = Source(context.spawn(Sink(arrivals)), run.number, bodies_of(run.size))
    context.spawn(process)
    run.wait_for_go()
    if run.options["from"] == "thread":
        to = process.to
        for body in itertools.islice(process.bodies, run.number):
            process.send(to, "item", body)
    else:
        context.dispatch(process.pid, "burst")
    arrivals.done.wait()
    arrivals.report(run)
    run.wait_for_end()
    context.stop()


if __name__ == "__main__":
    Run().play(
        {
            "sink": sink,
            "shared_sink": shared_sink,
            "source": source,
            "mixed_sink": mixed_sink,
            "mixed_source": mixed_source,
            "echo": echo,
            "caller": caller,
            "pingpong": pingpong,
            "asker": asker,
            "local": local,
        }
    )
