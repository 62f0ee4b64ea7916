"""compactor through its public API: latency under load, big bodies, protobuf, routes, many processes, links, start."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time

from common import BURST, Arrivals, Run, big_body, checksum, forget_peak, peak_bytes, percentiles, rss_bytes

from compactor import PID, Context, Process


def make_context() -> Context:
    return Context(ip="127.0.0.1")


# --- latency under load -----------------------------------------------------------------------------------------------


class Passer(Process):
    """Passes on what it gets, for ever."""

    to: PID

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        self.send(self.to, "item", body)


class Responder(Process):
    @Process.install("ping")
    def ping(self, from_pid: PID, body: bytes) -> None:
        self.reply("pong", body)


def saturated(run: Run) -> None:
    """Ask from the main thread while ten processes keep the loop busy with each other."""
    context = make_context()
    passers = [Passer(f"passer{number}") for number in range(10)]
    pids = [context.spawn(passer) for passer in passers]
    for passer, to in zip(passers, pids[1:] + pids[:1], strict=True):
        passer.to = to
    responder = context.spawn(Responder("responder"))
    asker = Process("asker")
    context.spawn(asker)
    run.wait_for_go()
    for passer in passers:
        for _ in range(10):
            passer.send(passer.to, "item", b"")
    latencies, wrong = [], 0
    began = time.perf_counter()
    for number in range(run.number):
        asked = time.perf_counter()
        answer = asker.ask(responder, "ping", b"%d" % number).result()
        latencies.append(time.perf_counter() - asked)
        wrong += answer.body != b"%d" % number
    run.report(len(latencies), time.perf_counter() - began, wrong == 0, **percentiles(latencies))
    run.wait_for_end()
    context.stop(0)


class Flooded(Process):
    """Queues a new message to itself for each one that it handles, so that there are always as many."""

    def flood(self, number: int) -> None:
        for _ in range(number):
            self.send(self.pid, "item")

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        self.send(from_pid, "item")


class Prober(Process):
    """Sends to a quiet process from time to time, and measures how long its answer takes."""

    def __init__(self, to: PID, number: int) -> None:
        super().__init__()
        self.to = to
        self.number = number
        self.latencies: list[float] = []
        self.began = self.ended = 0.0
        self.done = threading.Event()

    def probe(self) -> None:
        self.began = self.began or time.perf_counter()
        self.sent = time.perf_counter()
        self.send(self.to, "ping")

    @Process.install("pong")
    def pong(self, from_pid: PID, body: bytes) -> None:
        self.latencies.append(time.perf_counter() - self.sent)
        if len(self.latencies) == self.number:
            self.ended = time.perf_counter()
            self.done.set()
        else:
            self.context.delay(0.002, self.pid, "probe")


def quiet(run: Run) -> None:
    """Measure there and back between two quiet processes, beside one that always has 5,000 messages waiting."""
    context = make_context()
    flooded = context.spawn(Flooded("flooded"))
    prober = Prober(context.spawn(Responder("responder")), run.number)
    context.spawn(prober)
    run.wait_for_go()
    context.dispatch(flooded, "flood", 5_000)
    context.dispatch(prober.pid, "probe")
    prober.done.wait()
    run.report(len(prober.latencies), prober.ended - prober.began, ok=True, **percentiles(prober.latencies))
    run.wait_for_end()
    context.stop(0)


# --- large bodies -----------------------------------------------------------------------------------------------------


class HugeSink(Process):
    def __init__(self) -> None:
        super().__init__("sink")
        self.peak = 0
        self.size = self.checksum = 0
        self.done = threading.Event()

    @Process.install("item")
    def item(self, from_pid: PID, body: bytes) -> None:
        self.peak = peak_bytes()
        self.size, self.checksum = len(body), checksum(body)
        self.done.set()


def huge_sink(run: Run) -> None:
    """Receive one body; say by how many times its size the memory grew."""
    context = make_context()
    process = HugeSink()
    pid = context.spawn(process)
    before = forget_peak()
    run.ready(pid)
    began = time.perf_counter()
    process.done.wait()
    seconds = time.perf_counter() - began
    expected = big_body(run.size)
    run.report(
        1,
        seconds,
        process.size == len(expected) and process.checksum == checksum(expected),
        added_by_receiver=(process.peak - before) / process.size,
    )
    run.wait_for_end()
    context.stop()


def huge_source(run: Run) -> None:
    """Send one body, which counts as memory of the sender's too."""
    context = make_context()
    process = Process("source")
    context.spawn(process)
    before = forget_peak()
    run.wait_for_go()
    body = big_body(run.size)
    began = time.perf_counter()
    process.send(PID.from_string(run.address), "item", body)
    run.wait_for_end()
    added = (peak_bytes() - before) / len(body)
    run.report(1, time.perf_counter() - began, ok=True, added_by_sender=added)
    context.stop()


# --- protobuf ---------------------------------------------------------------------------------------------------------


def _record(number: int) -> object:
    from google.protobuf.type_pb2 import Field

    return Field(
        kind=Field.TYPE_STRING,
        cardinality=Field.CARDINALITY_OPTIONAL,
        number=number % 100_000,
        name="slave.attributes.rack",
        type_url="type.googleapis.com/mesos.internal.Attribute",
        json_name="slaveAttributesRack",
    )


def _classes(number: int) -> tuple[type, type]:
    # Made here: the other roles do without protobuf.
    from google.protobuf.type_pb2 import Field

    from compactor import ProtobufProcess

    class ProtobufSink(ProtobufProcess):
        def __init__(self) -> None:
            super().__init__("sink")
            self.arrivals = Arrivals(number, [b"%d" % at for at in range(100_000)])

        @ProtobufProcess.install(Field)
        def record(self, from_pid: PID, message: Field) -> None:
            self.arrivals.take(b"%d" % message.number)

    class ProtobufSource(ProtobufProcess):
        def __init__(self, to: PID) -> None:
            super().__init__()
            self.to = to
            self.sent = 0

        def burst(self) -> None:
            stop = min(self.sent + BURST, number)
            for at in range(self.sent, stop):
                self.send(self.to, _record(at))
            self.sent = stop
            if stop < number:
                self.context.dispatch(self.pid, "burst")

    return ProtobufSink, ProtobufSource


def protobuf_sink(run: Run) -> None:
    """Receive protobuf messages; their numbers tell the order."""
    context = make_context()
    process = _classes(run.number)[0]()
    run.ready(context.spawn(process))
    process.arrivals.done.wait()
    process.arrivals.report(run)
    run.wait_for_end()
    context.stop()


def protobuf_source(run: Run) -> None:
    """Make and send protobuf messages."""
    context = make_context()
    process = _classes(run.number)[1](PID.from_string(run.address))
    context.spawn(process)
    run.wait_for_go()
    began = time.perf_counter()
    context.dispatch(process.pid, "burst")
    run.wait_for_end()
    run.report(run.number, time.perf_counter() - began, ok=True)
    context.stop()


def protobuf_alone(run: Run) -> None:
    """Make, serialize and parse the same messages, and nothing else: protobuf's own time."""
    from google.protobuf.type_pb2 import Field

    run.wait_for_go()
    wrong = 0
    began = time.perf_counter()
    for number in range(run.number):
        read = Field()
        read.ParseFromString(_record(number).SerializeToString())
        wrong += read.number != number % 100_000
    run.report(run.number, time.perf_counter() - began, wrong == 0)
    run.wait_for_end()


# --- routes -----------------------------------------------------------------------------------------------------------


class Web(Process):
    @Process.route("/")
    def page(self, handler) -> None:
        handler.write("hello, world")


def web(run: Run) -> None:
    """Serve one route."""
    context = make_context()
    pid = context.spawn(Web("web"))
    run.ready(f"http://{pid.ip}:{pid.port}/web/")
    run.wait_for_end()
    run.report(0, 0.0, ok=True)
    context.stop()


# --- many processes ---------------------------------------------------------------------------------------------------


class Idle(Process):
    pass


class Spawner(Process):
    """Spawns, and terminates, from its handlers."""

    def __init__(self, number: int) -> None:
        super().__init__("spawner")
        self.number = number
        self.before = self.after = 0
        self.ended = 0
        self.began = self.seconds = 0.0
        self.done = threading.Event()

    def fill(self) -> None:
        self.before = rss_bytes()
        for _ in range(self.number):
            self.context.spawn(Idle())
        self.after = rss_bytes()
        self.done.set()

    def churn(self) -> None:
        self.began = time.perf_counter()
        spawner = self

        class Short(Process):
            def finalize(self) -> None:
                spawner.finished()

        processes = [Short() for _ in range(self.number)]
        for process in processes:
            self.context.spawn(process)
        for process in processes:
            process.terminate()

    def finished(self) -> None:
        self.ended += 1
        if self.ended == self.number:
            self.seconds = time.perf_counter() - self.began
            self.done.set()


def _spawner(run: Run, method: str) -> tuple[Context, Spawner]:
    context = make_context()
    process = Spawner(run.number)
    context.spawn(process)
    run.wait_for_go()
    began = time.perf_counter()
    context.dispatch(process.pid, method)
    process.done.wait()
    process.seconds = process.seconds or time.perf_counter() - began
    return context, process


def idle(run: Run) -> None:
    """Spawn `number` processes and let them be; say how much memory each takes."""
    context, process = _spawner(run, "fill")
    each = (process.after - process.before) / run.number / 1024
    run.report(run.number, process.seconds, ok=process.after > 0, kib_each=each)
    run.wait_for_end()
    context.stop()


def churn(run: Run) -> None:
    """Spawn `number` processes and terminate them all."""
    context, process = _spawner(run, "churn")
    left = sum(1 for _ in context.dead_letters)
    seconds = process.seconds / run.number * 100_000
    run.report(process.ended, process.seconds, ok=left == 0, seconds_per_100000=seconds)
    run.wait_for_end()
    context.stop()


# --- links ------------------------------------------------------------------------------------------------------------


class Linkee(Process):
    @Process.install("die")
    def die(self, from_pid: PID, body: bytes) -> None:
        os._exit(1)

    @Process.install("ping")
    def ping(self, from_pid: PID, body: bytes) -> None:
        self.reply("pong", body)


def linkees(run: Run) -> None:
    """Have processes to be linked to, and die when told."""
    context = make_context()
    for number in range(run.number):
        context.spawn(Linkee(f"linkee{number}"))
    run.ready(f"{context.ip}:{context.port}")
    run.wait_for_end()


class Linker(Process):
    """Links to each linkee, and takes the time from the death of their OS process to the last `exited`."""

    def __init__(self, peers: list[PID]) -> None:
        super().__init__()
        self.peers = peers
        self.gone: set[PID] = set()
        self.calls = 0
        self.killed = self.seconds = 0.0
        self.done = threading.Event()

    async def begin(self) -> None:
        for peer in self.peers:
            self.link(peer)
        # It is answered behind all links.
        await self.ask(self.peers[0], "ping")
        self.killed = time.perf_counter()
        self.send(self.peers[0], "die")

    def exited(self, pid: PID) -> None:
        self.calls += 1
        self.gone.add(pid)
        if len(self.gone) == len(self.peers):
            self.seconds = time.perf_counter() - self.killed
            self.done.set()


def linker(run: Run) -> None:
    """Link to the first `links` linkees at `address` and have them die."""
    context = make_context()
    links = int(run.options["links"])
    process = Linker([PID.from_string(f"linkee{number}@{run.address}") for number in range(links)])
    context.spawn(process)
    run.wait_for_go()
    context.dispatch(process.pid, "begin")
    process.done.wait()
    run.report(
        run.number,
        process.seconds,
        ok=process.calls == links,
        ms=process.seconds * 1e3,
        us_each=process.seconds / links * 1e6,
    )
    run.wait_for_end()
    context.stop()


# --- start ------------------------------------------------------------------------------------------------------------


def start(run: Run) -> None:
    """Start interpreters that import compactor or show its help, and bare ones, in turns; say the difference."""
    what = {"import": ["-c", "import compactor"], "help": ["-m", "compactor", "--help"]}[run.options["what"]]
    took: dict[str, list[float]] = {"bare": [], "ours": []}
    run.wait_for_go()
    began = time.perf_counter()
    for _, (name, arguments) in itertools.product(range(3), (("bare", ["-c", "pass"]), ("ours", what))):
        at = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        took[name].append(time.perf_counter() - at)
    over = min(took["ours"]) - min(took["bare"])
    run.report(run.number, time.perf_counter() - began, ok=True, seconds_over_bare=over)
    run.wait_for_end()


if __name__ == "__main__":
    Run().play(
        {
            "saturated": saturated,
            "quiet": quiet,
            "huge_sink": huge_sink,
            "huge_source": huge_source,
            "protobuf_sink": protobuf_sink,
            "protobuf_source": protobuf_source,
            "protobuf_alone": protobuf_alone,
            "web": web,
            "idle": idle,
            "churn": churn,
            "linkees": linkees,
            "linker": linker,
            "start": start,
        }
    )
