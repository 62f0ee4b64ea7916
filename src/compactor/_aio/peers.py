"""A peer address, and who may use which connection to it.

A `Peer` is an address. Its messages leave through lanes: a lane is a queue and at most one connection that writes it.
Most peers have one lane for everybody. mesos-go takes the sender of a connection's first request for the sender of all,
so a peer of that kind has a lane for each sender. What a new peer is tells its first answer, or the lack of one:

    UNKNOWN --answer like mesos-go's--> PER_SENDER      each lane connects
    UNKNOWN --any other answer--------> SHARED          lanes are merged, in order
    UNKNOWN --no answer for 0.1 s-----> ASSUMED         as SHARED, but a late answer may still tell otherwise

While it is unknown only the first lane connects, so a connection carries one sender's messages and the others wait.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any, Final

from ..pid import PID, format_address
from ..wire.answers import Answer
from ..wire.encoder import ONE_TIME
from .outbound import ANSWER_SECONDS, Address, Connection, Network, Outgoing
from .sockets import reason_of

CONNECT_SECONDS: Final = 10.0
PROBE_SECONDS: Final = 0.1
RECONNECT_SECONDS: Final = 1.0
"""How long a link that reconnects waits for what the old connection still owes."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 3.0


class Kind(Enum):
    """What is known of a peer."""

    UNKNOWN = "unknown"
    ASSUMED = "assumed"
    SHARED = "shared"
    PER_SENDER = "per sender"


class Lane:
    """A queue to a peer and the connection that writes it.

    Attributes:
        chunks, outs: what has not left, in order and in parallel: the bytes, and which message they are.
        dirty: it is in the list of what is flushed at the end of this turn.
        large: some chunk is a pair (head, body) that is not to be copied.
        specials: how many of `outs` want their answer.
    """

    __slots__ = (
        "_connecting",
        "_waiting_for",
        "chunks",
        "connection",
        "dirty",
        "large",
        "network",
        "outs",
        "owner",
        "peer",
        "specials",
    )

    def __init__(self, peer: Peer, owner: PID | None) -> None:
        self.peer = peer
        self.network = peer.network
        self.owner = owner
        self.chunks: list[Any] = []
        self.outs: list[Outgoing] = []
        self.dirty = False
        self.large = False
        self.specials = 0
        self.connection: Connection | None = None
        self._connecting: asyncio.Task[None] | asyncio.TimerHandle | None = None
        self._waiting_for: Connection | None = None  # an earlier connection that still owes answers

    @property
    def one_time(self) -> bool:
        """Whether it is of a question's own PID, at a peer where that needs a connection of its own."""
        return self.peer.kind is Kind.PER_SENDER and self.owner is not None and self.owner.id.startswith(ONE_TIME)

    @property
    def busy(self) -> bool:
        """Whether anything is queued, under way or connected."""
        return bool(self.chunks) or self._connecting is not None or self.connection is not None

    @property
    def under_way(self) -> bool:
        """Whether anything has not left, or has not been answered."""
        connections = (self.connection, self._waiting_for)
        return bool(self.chunks) or any(connection is not None and connection.owes for connection in connections)

    def flush(self) -> None:
        """Write what is queued, connecting first where needed."""
        self.dirty = False
        connection = self.connection
        if connection is None:
            self.connect()
        elif not connection.paused:
            connection.push()

    def connect(self) -> None:
        """Begin to connect, unless that is under way or not its turn."""
        if self._connecting is not None or self._waiting_for is not None or not self.peer.may_connect(self):
            return
        loop = self.network.loop
        pause = self.peer.not_before - loop.time()
        if pause > 0:
            self._connecting = loop.call_later(pause, self._connect_now)
        else:
            self._connect_now()

    def _connect_now(self) -> None:
        self._connecting = self.network.loop.create_task(self._connect())

    async def _connect(self) -> None:
        ip, port = self.peer.address
        loop = self.network.loop
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: Connection(self), ip, port)
        except OSError as error:  # TimeoutError is one
            self._connecting = None
            self.network.count("connects_failed")
            self.peer.connect_failed(reason_of(error))

    def connected(self, connection: Connection) -> None:
        """A connection is made."""
        self._connecting = None
        self.connection = connection
        self.peer.connected(self)
        self.flush()

    def retire(self, seconds: float = ANSWER_SECONDS) -> None:
        """Let the connection go in order; what follows leaves on a new one, once this one owes nothing."""
        connection = self.connection
        if connection is not None:
            self.connection = None
            self._waiting_for = connection
            connection.retire(seconds)

    def wait_for(self, connection: Connection) -> None:
        """Connect only when an earlier connection owes nothing of what is on it now."""
        if connection.hold(self):
            self._waiting_for = connection

    def settled(self, connection: Connection) -> None:
        """An earlier connection owes nothing any more."""
        if self._waiting_for is connection:
            self._waiting_for = None
            if self.chunks:
                self.connect()
            else:
                self.peer.forget_if_idle(self)

    def drop(self, reason: str) -> None:
        """Report what has not left as undelivered."""
        outs, chunks = self.outs, self.chunks
        self.outs, self.chunks, self.large, self.specials = [], [], False, 0
        for out, chunk in zip(outs, chunks, strict=True):
            if not out.special:
                size = len(chunk[1]) if isinstance(chunk, tuple) else len(chunk) - chunk.find(b"\r\n\r\n") - 4
                self.network.undelivered(out.sender, out.to, out.name, size, reason)

    def close(self) -> None:
        """Give up, letting go what has been written."""
        self._stop_connecting()
        for connection in (self.connection, self._waiting_for):
            if connection is not None:
                connection.close("the context stopped")

    def abort(self, reason: str) -> None:
        """Give up at once; what is queued leaves by another connection, which need not wait."""
        self._stop_connecting()
        connections = (self.connection, self._waiting_for)
        self.connection = self._waiting_for = None
        for connection in connections:
            if connection is not None:
                connection.give_up(reason)

    def _stop_connecting(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None


class Peer:
    """One peer address and its lanes. Touched only by the context thread.

    Attributes:
        server: the `Server` of its newest answer, "" before the first.
        answers: how many answers it ever gave.
        not_before: when the next connect may begin (loop time): after failures it waits, with jitter, and never at
            first.
    """

    __slots__ = (
        "_failures",
        "_first",
        "_lanes",
        "_probe",
        "_set",
        "_shared",
        "address",
        "answers",
        "kind",
        "network",
        "not_before",
        "server",
    )

    def __init__(self, network: Network, address: Address, *, per_sender: bool = False) -> None:
        self.network = network
        self.address = address
        self._set = per_sender
        self.kind = Kind.PER_SENDER if per_sender else Kind.UNKNOWN
        self.server = ""
        self.answers = 0
        self.not_before = 0.0
        self._failures = 0
        self._lanes: dict[PID, Lane] = {}
        self._shared: Lane | None = None
        self._first: Lane | None = None
        self._probe: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Peer {format_address(self.address)} {self.kind.value}>"

    @property
    def lanes(self) -> list[Lane]:
        """All lanes there are."""
        return [*self._lanes.values(), *([self._shared] if self._shared else [])]

    def lane(self, sender: PID) -> Lane:
        """Return the lane of a sender."""
        if self._shared is not None and (self.kind is not Kind.PER_SENDER or sender is self._shared.owner):
            return self._shared
        lane = self._lanes.get(sender)
        if lane is None:
            lane = self._lanes[sender] = Lane(self, sender)
            if self._shared is not None and self._shared.connection is not None:
                lane.wait_for(self._shared.connection)  # which may carry earlier messages of this sender
        return lane

    def may_connect(self, lane: Lane) -> bool:
        """Whether it is this lane's turn."""
        if self.kind is not Kind.UNKNOWN:
            return True
        if self._first is None or not self._first.busy:
            self._first = lane
        return self._first is lane

    def connected(self, lane: Lane) -> None:
        """One of its lanes has a connection."""
        self._failures = 0
        self.not_before = 0.0
        self.network.count("connects")
        if self.kind is Kind.UNKNOWN and self._probe is None:
            self._probe = self.network.loop.call_later(PROBE_SECONDS, self._assume)

    def connect_failed(self, reason: str) -> None:
        """Nobody is there: everything queued is lost, and reported; the next attempt waits a little."""
        self.not_before = self.network.loop.time() + self.network.jitter() * min(
            _FIRST_PAUSE * 2.0**self._failures, _LONGEST_PAUSE
        )
        self._failures = min(self._failures + 1, 16)
        for lane in self.lanes:
            if lane.connection is None:
                lane.drop(reason)
        self._begin_anew()
        self.network.address_lost(self.address, reason, gone=True)
        self.network.loop.call_later(2 * _LONGEST_PAUSE, self._forget_if_idle)

    def connection_lost(self, lane: Lane, reason: str, *, broken: bool) -> None:
        """A connection of it has ended; `broken` when we did not end it ourselves."""
        if broken:
            self.network.count("connections_lost")
            # mesos-go closes what it has not accepted anything on, which says nothing about other senders' connections.
            own = self.kind is Kind.PER_SENDER and lane.owner is not None
            links = not own or self.network.watches(lane.owner, self.address)  # type: ignore[arg-type]
            self.network.address_lost(self.address, f"connection lost: {reason}", gone=False, links=links)
            self._begin_anew()
        if self.kind is Kind.UNKNOWN:
            self._first = None
            for other in self.lanes:
                if other.chunks:
                    other.connect()
                    return
        elif lane.chunks:
            lane.connect()
        self.forget_if_idle(lane)

    def set_per_sender(self) -> None:
        """Be told what kind of peer it is."""
        self._set = True
        if self.kind is not Kind.PER_SENDER:
            self._become_per_sender()

    def probe(self, sender: PID) -> None:
        """Connect, to see whether anybody is there."""
        self.lane(sender).connect()

    def _begin_anew(self) -> None:
        """What comes back at this address may be something else: forget what the last one was like."""
        if self._set or any(lane.busy for lane in self.lanes):
            return
        self.kind = Kind.UNKNOWN
        self._lanes = {}
        self._shared = self._first = None
        self.network.forget_routes()

    def learn(self, answer: Answer) -> None:
        """An answer has come: tell what kind of peer gives such ones."""
        self.answers += 1
        self.server = answer.headers.get("server", "")
        if self._set or self.kind in (Kind.SHARED, Kind.PER_SENDER):
            return
        if self._is_go(answer):
            self._become_per_sender()
        else:
            self._become_shared(Kind.SHARED)

    @staticmethod
    def _is_go(answer: Answer) -> bool:
        """Whether only mesos-go answers so: its 202 has a length and nothing else, its errors are those of net/http."""
        headers = answer.headers
        if answer.status == 202:
            return set(headers) == {"content-length"} and answer.minor == 1
        return "x-content-type-options" in headers or (
            answer.minor == 0 and "server" not in headers and headers.get("connection") == "keep-alive"
        )

    def _assume(self) -> None:
        self._probe = None
        if self.kind is Kind.UNKNOWN:
            self._become_shared(Kind.ASSUMED)

    def _become_shared(self, kind: Kind) -> None:
        """Everybody uses the first lane from now on. The order of each sender's messages stays as it is."""
        self.kind = kind
        if self._shared is None:
            shared = self._first or Lane(self, None)
            self._shared = shared
            for lane in self._lanes.values():
                if lane is not shared:
                    shared.chunks += lane.chunks
                    shared.outs += lane.outs
                    shared.large |= lane.large
                    shared.specials += lane.specials
            self._lanes = {}
            self.network.forget_routes()
            if shared.chunks:
                self.network.flush_soon(shared)

    def _become_per_sender(self) -> None:
        """Each sender gets a lane of its own. What is queued moves; the lane that there was stays with its owner."""
        self.kind = Kind.PER_SENDER
        self.network.forget_routes()
        shared = self._shared
        if shared is not None:
            if shared.connection is not None:
                shared.connection.mark()
            outs, chunks = shared.outs, shared.chunks
            shared.outs, shared.chunks, shared.specials = [], [], 0
            for out, chunk in zip(outs, chunks, strict=True):
                lane = self.lane(out.sender)
                lane.outs.append(out)
                lane.chunks.append(chunk)
                lane.large |= isinstance(chunk, tuple)
                lane.specials += out.special
        for lane in self.lanes:
            if lane.chunks:
                self.network.flush_soon(lane)

    def forget_if_idle(self, lane: Lane) -> None:
        """Drop a lane that has nothing, and tell when nothing at all is left."""
        if lane.busy:
            return
        if lane.owner is not None and self._lanes.get(lane.owner) is lane:
            del self._lanes[lane.owner]
            self.network.forget_routes()
        self._forget_if_idle()

    def _forget_if_idle(self) -> None:
        if not any(other.busy for other in self.lanes):
            if self._probe is not None:
                self._probe.cancel()
                self._probe = None
            self.network.peer_idle(self)

    def lose(self, reason: str) -> None:
        """It is gone though its connections stand: end them."""
        for lane in self.lanes:
            lane.abort(reason)
