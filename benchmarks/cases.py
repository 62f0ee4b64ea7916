"""The table of all cases: what is measured, who plays, and what is to be reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

PROGRAMS = {
    # peer: (environment, program in peers/)
    "compactor": ("compactor", "compactor_peer.py"),
    "compactor-more": ("compactor", "compactor_more_peer.py"),
    "bare": ("python", "bare_peer.py"),
    "pyzmq": ("pyzmq", "pyzmq_peer.py"),
    "pykka": ("pykka", "pykka_peer.py"),
    "erlang": ("erlang", "erlang_peer.py"),
    "legacy": ("legacy", "legacy_peer.py"),
    "xoscar": ("xoscar", "xoscar_peer.py"),
    "tapio": ("tapio", "tapio_peer.py"),
    "thespian": ("thespian", "thespian_peer.py"),
    "grpcio": ("grpcio", "grpcio_peer.py"),
    "tornado": ("compactor", "tornado_peer.py"),
    "wrk": ("wrk", "wrk_peer.py"),
}


@dataclass(frozen=True)
class Program:
    """A peer in a role, with options that its program knows; `environment` is another one than the peer's own."""

    peer: str
    role: str
    options: Mapping[str, object] = field(default_factory=dict)
    environment: str = ""


@dataclass(frozen=True)
class Contestant:
    """Who plays a case: the programs, and which of them says what counts.

    Attributes:
        label: how the results name it.
        client: what is started last and told to go.
        server: what is started first and says its address.
        others: started between the two.
        clients: how many of the client; they share the messages.
        measured: "server" or "client", whose count and time are taken.
        size: bytes of a body, when not the case's own.
        share: of the case's number of messages, for the slow ones.
        server_dies: it gives no result.
    """

    label: str
    client: Program
    server: Program | None = None
    others: tuple[Program, ...] = ()
    clients: int = 1
    measured: str = "client"
    size: int | None = None
    share: float = 1.0
    server_dies: bool = False

    def moved(self, environment: str, label: str) -> Contestant:
        """The same with compactor's programs in another environment."""

        def move(program: Program) -> Program:
            ours = program.peer.startswith("compactor")
            return dataclasses.replace(program, environment=environment) if ours else program

        return dataclasses.replace(
            self,
            label=label,
            client=move(self.client),
            server=self.server and move(self.server),
            others=tuple(map(move, self.others)),
        )


@dataclass(frozen=True)
class Target:
    """What is to be reached: `ours` divided by `theirs`, or `ours` alone, is at least or at most so much.

    `measure` is another value of the results than the case's own.
    """

    ours: str
    theirs: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    measure: str = "value"


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        number: messages, trips or things of a full run.
        measure: "rate" (of `number`), "bytes" (a second), or a value that the programs report.
        unit: of the measure.
        quick: part of the two minutes.
        quick_number, tiny_number: instead of a fixed part of `number`.
        scaled: a warm-up and a slow contestant may do fewer.
    """

    name: str
    title: str
    number: int
    contestants: tuple[Contestant, ...]
    targets: tuple[Target, ...] = ()
    size: int = 100
    measure: str = "rate"
    unit: str = "messages/s"
    quick: bool = True
    quick_number: int | None = None
    tiny_number: int | None = None
    scaled: bool = True

    @property
    def labels(self) -> list[str]:
        return [one.label for one in self.contestants]

    def number_at(self, scale: str, divisor: int) -> int:
        """How many of them at a scale."""
        own = {"quick": self.quick_number, "tiny": self.tiny_number}.get(scale)
        return own if own is not None else max(1, self.number // divisor)


MAIN, HANDLER = "compactor, main thread", "compactor, handler"
UVLOOP = "compactor, uvloop"


def one_way(
    label: str,
    peer: str,
    *,
    to: str | None = None,
    options: Mapping[str, object] | None = None,
    sink_options: Mapping[str, object] | None = None,
    environment: str = "",
    size: int | None = None,
    share: float = 1.0,
    roles: tuple[str, str] = ("sink", "source"),
) -> Contestant:
    """A source that sends to a sink, which measures."""
    return Contestant(
        label,
        Program(peer, roles[1], options or {}, environment),
        Program(to or peer, roles[0], sink_options or {}, environment),
        measured="server",
        size=size,
        share=share,
    )


def trips(
    label: str,
    peer: str,
    *,
    role: str = "caller",
    options: Mapping[str, object] | None = None,
    environment: str = "",
    share: float = 1.0,
) -> Contestant:
    """A caller that measures, and an echo."""
    return Contestant(
        label,
        Program(peer, role, options or {}, environment),
        Program(peer, "echo", {k: v for k, v in (options or {}).items() if k == "loop"}, environment),
        share=share,
    )


def alone(
    label: str, peer: str, role: str, options: Mapping[str, object] | None = None, share: float = 1.0
) -> Contestant:
    """One OS process."""
    return Contestant(label, Program(peer, role, options or {}), share=share)


_FROM_MAIN = {"from": "main"}
_UV = {"loop": "uvloop"}
_CHUNKED = {"framing": "chunked"}

CASES = (
    Case(
        "one_way",
        "One way, 100 B, two OS processes",
        300_000,
        (
            one_way(MAIN, "compactor", options=_FROM_MAIN),
            one_way(HANDLER, "compactor"),
            one_way("bare asyncio.Protocol", "bare"),
            one_way("pyzmq PUSH/PULL", "pyzmq"),
            one_way("Erlang/OTP", "erlang"),
            one_way(UVLOOP, "compactor", options=_UV, sink_options=_UV, environment="uvloop"),
            one_way("bare asyncio.Protocol, uvloop", "bare", options=_UV, sink_options=_UV, environment="uvloop"),
            one_way("grpcio, a stream", "grpcio", share=0.1),
            one_way("tapio-py", "tapio", share=0.05),
            one_way("xoscar", "xoscar", share=0.03),
            alone("thespian", "thespian", "one_way", share=0.01),
            one_way("compactor 0.3.0", "legacy", share=0.01),
        ),
        tuple(
            target
            for ours in (MAIN, HANDLER)
            for target in (
                Target(ours, "bare asyncio.Protocol", at_least=0.5),
                Target(ours, "pyzmq PUSH/PULL", at_least=0.6),
                Target(ours, "Erlang/OTP", at_least=1.3),
                Target(ours, "compactor 0.3.0", at_least=80),
                Target(ours, at_least=330_000),
            )
        ),
    ),
    Case(
        "mixed",
        "50 senders to 50 mailboxes, 0 to 2,000 B at random",
        200_000,
        (
            one_way(HANDLER, "compactor", roles=("mixed_sink", "mixed_source")),
            one_way(MAIN, "compactor", options=_FROM_MAIN, roles=("mixed_sink", "mixed_source")),
            one_way("compactor, one to one, 100 B", "compactor"),
            one_way("pyzmq PUSH/PULL", "pyzmq", roles=("mixed_sink", "mixed_source")),
        ),
        (
            Target(HANDLER, "compactor, one to one, 100 B", at_least=0.4),
            Target(HANDLER, "pyzmq PUSH/PULL", at_least=0.6),
            Target(MAIN, "pyzmq PUSH/PULL", at_least=0.6),
        ),
    ),
    Case(
        "chunked",
        "The bytes of the C++ library (chunked), 100 B",
        300_000,
        (
            one_way("compactor, from C++ bytes", "bare", to="compactor", options=_CHUNKED),
            one_way("compactor, from compactor", "compactor"),
            one_way("bare asyncio.Protocol, C++ bytes", "bare", options=_CHUNKED, sink_options=_CHUNKED),
        ),
        (Target("compactor, from C++ bytes", "compactor, from compactor", at_least=0.7),),
    ),
    Case(
        "round_trip",
        "Round trip, one at a time, 100 B, p50",
        5_000,
        (
            trips("compactor", "compactor"),
            trips("bare asyncio.Protocol", "bare"),
            trips("Erlang/OTP", "erlang"),
            trips(UVLOOP, "compactor", options=_UV, environment="uvloop"),
            trips("bare asyncio.Protocol, uvloop", "bare", options=_UV, environment="uvloop"),
            trips("pyzmq DEALER/ROUTER", "pyzmq"),
            trips("compactor, ask", "compactor", role="asker"),
            trips("grpcio", "grpcio", share=0.5),
        ),
        (
            Target("compactor", "bare asyncio.Protocol", at_most=1.3),
            Target(UVLOOP, "bare asyncio.Protocol, uvloop", at_most=1.2),
            Target("compactor", "Erlang/OTP", at_most=1.3),
        ),
        measure="p50_us",
        unit="microseconds",
    ),
    Case(
        "in_flight",
        "250 round trips in flight, 100 B",
        100_000,
        (
            trips("compactor", "compactor", options={"in_flight": 250}),
            trips("pyzmq DEALER/ROUTER", "pyzmq", options={"in_flight": 250}),
        ),
        (Target("compactor", "pyzmq DEALER/ROUTER", at_least=0.6),),
        unit="trips/s",
    ),
    Case(
        "ask",
        "`ask`, 250 in flight, two OS processes",
        30_000,
        (
            trips("compactor", "compactor", role="asker", options={"in_flight": 250}),
            trips("xoscar", "xoscar", options={"in_flight": 250}, share=0.2),
            trips("tapio-py", "tapio", options={"in_flight": 250}, share=0.2),
            trips("grpcio", "grpcio", options={"in_flight": 250}, share=0.2),
        ),
        (Target("compactor", "xoscar", at_least=10), Target("compactor", "tapio-py", at_least=10)),
        unit="questions/s",
    ),
    Case(
        "local",
        "Send inside one context",
        300_000,
        (
            alone(HANDLER, "compactor", "local", {"from": "handler"}),
            alone("compactor, another thread", "compactor", "local", {"from": "thread"}),
            alone("pykka tell, actor", "pykka", "local", {"from": "handler"}, share=0.2),
            alone("pykka tell, main thread", "pykka", "local", {"from": "thread"}, share=0.2),
        ),
        (
            Target(HANDLER, "pykka tell, actor", at_least=5),
            Target("compactor, another thread", "pykka tell, main thread", at_least=3),
        ),
    ),
    Case(
        "ping_pong",
        "Ping-pong inside one context",
        100_000,
        (alone("compactor", "compactor", "pingpong"), alone("pykka ask", "pykka", "pingpong", share=0.1)),
        (Target("compactor", "pykka ask", at_least=20),),
        unit="trips/s",
    ),
    Case(
        "async_handlers",
        "`async def` handlers, two OS processes, 100 B",
        200_000,
        (
            one_way("compactor, plain", "compactor"),
            one_way("compactor, async", "compactor", sink_options={"handler": "async"}),
            one_way("compactor, suspends once", "compactor", sink_options={"handler": "suspend"}, share=0.5),
        ),
        (
            Target("compactor, async", "compactor, plain", at_least=0.7),
            Target("compactor, suspends once", "compactor, plain", at_least=0.2),
        ),
    ),
    Case(
        "saturated",
        "Another thread's `ask(...).result()` on a loop full of local work, p50",
        200,
        (alone("compactor", "compactor-more", "saturated"),),
        (
            Target("compactor", at_most=10.0, measure="p50_ms"),
            Target("compactor", at_most=50.0, measure="p99_ms"),
        ),
        measure="p50_ms",
        unit="ms",
        tiny_number=5,
    ),
    Case(
        "quiet",
        "A quiet process beside one with 5,000 queued messages, p50",
        300,
        (alone("compactor", "compactor-more", "quiet"),),
        (Target("compactor", at_most=1.0, measure="p50_ms"),),
        measure="p50_ms",
        unit="ms",
        tiny_number=5,
    ),
    Case(
        "large",
        "One way, 64 KiB",
        20_000,
        (
            one_way(HANDLER, "compactor"),
            one_way("bare asyncio.Protocol", "bare"),
            one_way("pyzmq PUSH/PULL", "pyzmq"),
        ),
        (Target(HANDLER, "bare asyncio.Protocol", at_least=0.7),),
        size=64 * 1024,
        measure="bytes",
        unit="MB/s",
        tiny_number=20,
    ),
    Case(
        "huge",
        "One body of 100 MiB: added peak memory, in bodies",
        1,
        (one_way("compactor", "compactor-more", roles=("huge_sink", "huge_source")),),
        (
            Target("compactor", at_most=2.2, measure="added_by_receiver"),
            Target("compactor", at_most=2.2, measure="added_by_sender"),
        ),
        size=100 * 2**20,
        measure="added_by_receiver",
        unit="times its size",
        scaled=False,
    ),
    Case(
        "protobuf",
        "Protobuf messages of about 100 B",
        200_000,
        (
            one_way("compactor, protobuf", "compactor-more", roles=("protobuf_sink", "protobuf_source")),
            one_way("compactor, bytes", "compactor"),
            alone("protobuf alone, both ends' work in one", "compactor-more", "protobuf_alone"),
        ),
        (Target("compactor, protobuf", "compactor, bytes", at_least=0.6),),
    ),
    Case(
        "route",
        "GET on a route, keep-alive, 50 connections (wrk)",
        1,
        (
            Contestant("compactor", Program("wrk", "load"), Program("compactor-more", "web")),
            Contestant("tornado", Program("wrk", "load"), Program("tornado", "web")),
        ),
        (Target("compactor", "tornado", at_least=1.0),),
        measure="requests_per_second",
        unit="requests/s",
        scaled=False,
    ),
    Case(
        "eight_senders",
        "8 OS processes send to one, 100 B",
        320_000,
        (
            Contestant(
                "compactor, 8 senders",
                Program("compactor", "source"),
                Program("compactor", "shared_sink", {"senders": 8}),
                clients=8,
                measured="server",
            ),
            Contestant(
                "compactor, 1 sender",
                Program("compactor", "source"),
                Program("compactor", "shared_sink", {"senders": 1}),
                measured="server",
            ),
        ),
        (
            Target("compactor, 8 senders", "compactor, 1 sender", at_least=0.7),
            Target("compactor, 8 senders", at_most=0.2, measure="spread"),
        ),
        quick_number=80_000,
    ),
    Case(
        "idle",
        "Memory of an idle process, 100,000 of them",
        100_000,
        (alone("compactor", "compactor-more", "idle"),),
        (Target("compactor", at_most=1.0),),
        measure="kib_each",
        unit="KiB",
        quick_number=100_000,
        tiny_number=100,
    ),
    Case(
        "churn",
        "Spawn and terminate from a handler",
        100_000,
        (alone("compactor", "compactor-more", "churn"),),
        (Target("compactor", at_most=5.0, measure="seconds_per_100000"),),
        measure="seconds_per_100000",
        unit="s for 100,000",
        tiny_number=100,
    ),
    Case(
        "crowd",
        "One way, 100 B, beside 100,000 processes, 10,000 links and 2,000 connections",
        200_000,
        (
            Contestant(
                "compactor, in the crowd",
                Program("compactor", "source"),
                Program("compactor", "sink", {"crowd": 100_000, "links": 10_000}),
                others=(Program("bare", "connections", {"connections": 2_000}),),
                measured="server",
            ),
            one_way("compactor, alone", "compactor"),
        ),
        (Target("compactor, in the crowd", "compactor, alone", at_least=0.9),),
        quick=False,
    ),
    Case(
        "links",
        "Links to a peer that dies: until every `exited`",
        5_000,
        tuple(
            Contestant(
                f"compactor, {links:,} links",
                Program("compactor-more", "linker", {"links": links}),
                Program("compactor-more", "linkees"),
                server_dies=True,
            )
            for links in (500, 1_000, 2_500, 5_000)
        ),
        (
            Target("compactor, 5,000 links", at_most=1_000.0, measure="ms"),
            Target("compactor, 5,000 links", "compactor, 500 links", at_most=1.5, measure="us_each"),
        ),
        measure="ms",
        unit="ms",
        quick_number=5_000,
        tiny_number=5_000,
        scaled=False,
    ),
    Case(
        "start",
        "Start of the interpreter, above that of a bare one",
        1,
        (
            alone("compactor, import", "compactor-more", "start", {"what": "import"}),
            alone("compactor --help", "compactor-more", "start", {"what": "help"}),
        ),
        (Target("compactor, import", at_most=0.15), Target("compactor --help", at_most=0.3)),
        measure="seconds_over_bare",
        unit="s",
        scaled=False,
    ),
    Case(
        "sizes",
        "One way by size of the body",
        100_000,
        tuple(
            one_way(f"{label}, {size:,} B", peer, size=size, share=share)
            for size, share in ((0, 1.0), (100, 1.0), (1_000, 1.0), (10_000, 0.5), (100_000, 0.1))
            for label, peer in (("compactor", "compactor"), ("bare", "bare"))
        ),
        quick=False,
    ),
)
