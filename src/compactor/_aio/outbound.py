"""To one peer address: who may use which connection, and the connection itself.

A `Peer` is an address. Its messages leave through lanes: a lane is a queue and at most one connection that writes it.
Most peers have one lane for everybody. mesos-go takes the sender of a connection's first request for the sender of all,
so a peer of that kind has a lane for each sender. What a new peer is tells its first answer, or the lack of one:

    UNKNOWN --answer like mesos-go's--> PER_SENDER      each lane connects
    UNKNOWN --any other answer--------> SHARED          lanes are merged, in order
    UNKNOWN --no answer for 0.1 s-----> ASSUMED         as SHARED, but a late answer may still tell otherwise

While it is unknown only the first lane connects, so a connection carries one sender's messages and the others wait.

A connection keeps what is unanswered, in order, so that each message that left has one of three outcomes: accepted,
refused, or unknown because the connection ended first. What never left is sent on the next connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum
from itertools import repeat
from typing import Any, Final, Protocol, cast

from ..pid import PID, format_address
from ..wire.answers import Answer, AnswerParser, BadAnswer
from ..wire.decoder import ONE_TIME
from .sockets import keep_alive, read_rest, reason_of

Address = tuple[str, int]

CONNECT_SECONDS: Final = 10.0
PROBE_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 5.0
"""How long an orderly close waits for the answers that are due."""
RECONNECT_SECONDS: Final = 1.0
"""How long a link that reconnects waits for what the old connection still owes."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 3.0
_LARGE: Final = 64 * 1024
_SLICE: Final = 256 * 1024
_BATCH: Final = 512
_MOST_UNANSWERED: Final = 200_000
"""So many unanswered messages are remembered on a connection. Beyond that it writes no more until answers come; of a
peer that gives none nothing more is attributed, for some never answer and must neither stop us nor make us grow."""


class Kind(Enum):
    """What is known of a peer."""

    UNKNOWN = "unknown"
    ASSUMED = "assumed"
    SHARED = "shared"
    PER_SENDER = "per sender"


class Network(Protocol):
    """What the outbound side needs of its context."""

    loop: asyncio.AbstractEventLoop
    idle_seconds: float
    messages_sent: int

    def undelivered(self, sender: PID, to: PID, name: str, size: int | None, reason: str) -> None:
        """Count and keep a dead letter."""

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""

    def address_lost(self, address: Address, reason: str, *, gone: bool, links: bool = True) -> None:
        """A connection to an address has broken, and with it its `links`; `gone`: nobody answers there any more."""

    def watches(self, sender: PID, address: Address) -> bool:
        """Whether this sender has a link to an address."""

    def needed(self, address: Address) -> bool:
        """Whether a link needs a connection to this address."""

    def peer_idle(self, peer: Peer) -> None:
        """Nothing is left of a peer."""

    def forget_routes(self) -> None:
        """Lanes have changed: whoever remembers one must ask again."""

    def send_again(self, out: Outgoing, body: bytes) -> None:
        """Send by another lane: the one that was remembered is gone."""

    def flush_soon(self, lane: Lane) -> None:
        """Call `lane.flush()` at the end of this turn."""

    def jitter(self) -> float:
        """Return a random number from 0.5 to 1."""


class Outgoing:
    """All messages of one (sender, receiver, name) to another context: the head is made once.

    `put` is the hot path of sending: one format, two appends.
    """

    __slots__ = ("head", "lane", "name", "network", "sender", "to")

    special = False

    def __init__(self, sender: PID, to: PID, name: str, head: bytes, lane: Lane) -> None:
        self.sender = sender
        self.to = to
        self.name = name
        self.head = head
        self.lane: Lane | None = lane  # None once lanes have changed
        self.network = lane.network

    def put(self, body: bytes) -> None:
        """Queue a message; it leaves at the end of this turn."""
        lane = self.lane
        if lane is None:
            self.network.send_again(self, body)
            return
        if len(body) < _LARGE:
            lane.chunks.append(b"%b%d\r\n\r\n%b" % (self.head, len(body), body))
        else:
            lane.chunks.append((b"%b%d\r\n\r\n" % (self.head, len(body)), body))
            lane.large = True
        lane.outs.append(self)
        if not lane.dirty:
            self.network.flush_soon(lane)


class Refresh(Outgoing):
    """A link's own message; its answer is the truth about the linkee."""

    __slots__ = ("answered", "body")

    special = True

    def __init__(
        self, sender: PID, to: PID, name: str, head: bytes, lane: Lane, body: bytes, answered: Callable[[Answer], None]
    ) -> None:
        super().__init__(sender, to, name, head, lane)
        self.body = body
        self.answered = answered

    def send(self) -> None:
        """Queue it."""
        assert self.lane is not None
        self.lane.specials += 1
        self.put(self.body)


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


class Connection(asyncio.Protocol):
    """One connection that we opened: writes messages, reads answers.

    Attributes:
        paused: the peer does not read as fast as we write; what is queued waits in the lane.
    """

    __slots__ = (
        "_answers",
        "_attributed",
        "_check",
        "_ended",
        "_full",
        "_held",
        "_idle",
        "_marked",
        "_parser",
        "_pending",
        "_retired",
        "_specials",
        "_tail",
        "_transport",
        "_why",
        "_writes",
        "lane",
        "paused",
    )

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.paused = False
        self._transport: asyncio.Transport | None = None
        self._parser: AnswerParser | None = AnswerParser()  # None once the peer talks no HTTP
        self._pending: deque[Outgoing] = deque()
        self._specials = 0
        self._marked = 0  # how many of the unanswered are from before only one sender was left
        self._held: list[Lane] = []  # who waits for them
        self._attributed = True
        self._full = False  # no more is written until some of what is unanswered has been answered
        self._answers = 0
        self._tail: memoryview | None = None  # the rest of a large body that is being written
        self._retired = False
        self._ended = False
        self._why: str | None = None
        self._writes = 0
        self._idle: asyncio.TimerHandle | None = None
        self._check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: the lane may write."""
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's has another base
        transport.set_write_buffer_limits(high=_SLICE)
        keep_alive(transport)
        self._watch_idle(-1)
        self.lane.connected(self)

    def push(self) -> None:
        """Write what the lane has, as far as the peer takes it."""
        lane = self.lane
        transport = self._transport
        assert transport is not None
        while not self.paused:
            if self._tail is not None:
                transport.write(self._tail[:_SLICE])
                self._tail = self._tail[_SLICE:] if len(self._tail) > _SLICE else None
                continue
            if self._retired:
                if not self._pending:
                    self._close()
                return
            chunks, outs = lane.chunks, lane.outs
            if not chunks:
                return
            if self._full:
                return
            self._writes += 1
            if lane.large or len(chunks) > _BATCH:
                chunks, outs = self._some(chunks, outs)
            else:
                lane.chunks, lane.outs = [], []
            lane.network.messages_sent += len(outs)
            specials = 0
            if lane.specials:
                specials = sum(out.special for out in outs)
                lane.specials -= specials
            if self._attributed:
                self._pending.extend(outs)
                self._specials += specials
                if len(self._pending) > _MOST_UNANSWERED:
                    self._full = True
                    self._overdue(-1)
            transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _some(self, chunks: list[Any], outs: list[Outgoing]) -> tuple[list[Any], list[Outgoing]]:
        """Take a bounded batch from the lane's front, ending behind a large one."""
        number = min(len(chunks), _BATCH)
        taken = chunks[:number]
        for index, chunk in enumerate(taken):
            if isinstance(chunk, tuple):
                number = index + 1
                taken = [*taken[:index], chunk[0]]
                self._tail = memoryview(chunk[1])
                break
        batch = outs[:number]
        del chunks[:number], outs[:number]
        if not chunks:
            self.lane.large = False
        return taken, batch

    def _links(self) -> bool:
        return self.lane.network.needed(self.lane.peer.address)

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        self.paused = True

    def resume_writing(self) -> None:
        """It does again."""
        self.paused = False
        self.push()

    def data_received(self, data: bytes) -> None:
        """Answers."""
        if self._parser is None:
            return
        try:
            answers = self._parser.feed(data)
        except BadAnswer as error:
            self._answered(error.answers)
            self._no_more_answers()
            return
        self._answered(answers)

    def _answered(self, answers: list[tuple[Answer, int]]) -> None:
        peer = self.lane.peer
        for answer, number in answers:
            peer.learn(answer)
            if self._attributed:
                self._attribute(answer, number)
            if self._marked:
                self._marked -= number
                if self._marked <= 0:
                    self._release()
            if not answer.persistent and not self._retired:
                self.lane.retire()
            self._answers += number
        if self._full and len(self._pending) <= _MOST_UNANSWERED // 2:
            self._full = False
            self.push()
        if self._retired and not self._pending:
            self._close()
        elif not self._pending and self._one_time() and not self._retired and not self.lane.chunks:
            self.lane.retire()

    def _one_time(self) -> bool:
        lane = self.lane
        return lane.peer.kind is Kind.PER_SENDER and lane.owner is not None and lane.owner.id.startswith(ONE_TIME)

    def _attribute(self, answer: Answer, number: int) -> None:
        pending = self._pending
        if number > len(pending):  # an answer too many: whose they are is not known any more
            self.lane.network.count("surplus_answers")
            self._attribute_no_more()
            return
        if 200 <= answer.status < 300 and not self._specials:
            if number == len(pending):
                pending.clear()
            else:
                for _ in repeat(None, number):
                    pending.popleft()
            return
        for _ in repeat(None, number):
            out = pending.popleft()
            if isinstance(out, Refresh):
                self._specials -= 1
                out.answered(answer)
            elif not 200 <= answer.status < 300:
                ours = answer.status == 404 and self.lane.peer.server.startswith("compactor/")
                reason = "no such process" if ours else f"refused with {answer.status}"
                self.lane.network.undelivered(out.sender, out.to, out.name, None, reason)

    def _attribute_no_more(self) -> None:
        self._attributed = False
        self._release()
        self.lane.network.count("unattributed", len(self._pending))
        self._pending.clear()
        self._specials = 0

    def _overdue(self, answers: int) -> None:
        """Too much is unanswered: write on when answers have come, or when none has come for long."""
        if not self._full or self._ended:
            return
        if answers == self._answers:
            self._full = False
            self._attribute_no_more()
            self.push()
        else:
            self.lane.network.loop.call_later(ANSWER_SECONDS, self._overdue, self._answers)

    def mark(self) -> None:
        """From here on only one sender uses it: what is unanswered now may be of others, who wait for its answers."""
        self._marked = len(self._pending)

    def hold(self, lane: Lane) -> bool:
        """Whether a lane has to wait for answers from before the mark; then it is told when they have come."""
        if self._marked > 0:
            self._held.append(lane)
        return self._marked > 0

    def _release(self) -> None:
        self._marked = 0
        held, self._held = self._held, []
        for lane in held:
            lane.settled(self)

    def _no_more_answers(self) -> None:
        """What comes back is no HTTP: it says nothing, and the peer may take messages all the same."""
        self.lane.network.count("bad_answers")
        self._attribute_no_more()
        self._parser = None

    def _watch_idle(self, writes: int) -> None:
        """Close in order when an idle time has passed with nothing written, unless a link needs the connection."""
        if writes == self._writes and not self._retired and not self.lane.chunks and not self._links():
            self.lane.retire()
            return
        loop = self.lane.network.loop
        self._idle = loop.call_later(self.lane.network.idle_seconds, self._watch_idle, self._writes)

    def retire(self, seconds: float) -> None:
        """Write nothing more; close when the answers that are due have come, or after some seconds."""
        self._retired = True
        if self.owes:
            self._check = self.lane.network.loop.call_later(seconds, self.close, "given up")
        else:
            self._close()

    @property
    def transport(self) -> asyncio.Transport | None:
        """What moves its bytes."""
        return self._transport

    @property
    def owes(self) -> bool:
        """Whether bytes of ours or answers of the peer are still under way."""
        transport = self._transport
        return not self._ended and (
            bool(self._pending)
            or self._tail is not None
            or (transport is not None and transport.get_write_buffer_size() > 0)
        )

    def _close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._retired = True
            self._transport.close()

    def close(self, reason: str) -> None:
        """End it now; what has been written still leaves when the peer owes nothing."""
        if self.owes:
            self.abort(reason)
        else:
            self._close()

    def give_up(self, reason: str) -> None:
        """End it now, as we decided; whoever is to be told is told already."""
        self._retired = True
        self.abort(reason)

    def abort(self, reason: str) -> None:
        """End it now."""
        self._why = reason
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """It has ended: what is unanswered stays unknown, and is reported so."""
        assert self._transport is not None
        lane = self.lane
        if self._parser is not None:
            rest = read_rest(self._transport)
            if rest:
                self.data_received(rest)
        if self._parser is not None:
            self._answered(self._parser.eof())
        self._ended = True
        for timer in (self._idle, self._check):
            if timer is not None:
                timer.cancel()
        reason = self._why or reason_of(error)
        for out in self._pending:
            if not out.special:
                lane.network.undelivered(out.sender, out.to, out.name, None, "connection lost, unanswered")
        self._pending.clear()
        broken = not self._retired
        if lane.connection is self:
            lane.connection = None
        lane.peer.connection_lost(lane, reason, broken=broken)
        lane.settled(self)
        self._release()
