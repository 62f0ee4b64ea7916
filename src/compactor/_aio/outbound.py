"""The connection that we opened to a peer: what is queued leaves in one write a turn, and the answers come back.

A connection keeps what is unanswered, in order, so that each message that left has one of three outcomes: accepted,
refused, or unknown because the connection ended first. What never left is sent on the next connection. Which connection
there is, and who may use it, is in `peers`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ..pid import PID
from ..wire.answers import Answer, AnswerParser, BadAnswer
from .sockets import keep_alive, read_rest, reason_of

if TYPE_CHECKING:
    from .peers import Lane, Peer

Address = tuple[str, int]

ANSWER_SECONDS: Final = 5.0
"""How long an orderly close waits for the answers that are due."""
_LARGE: Final = 64 * 1024
_SLICE: Final = 256 * 1024
_BATCH: Final = 512
_MOST_UNANSWERED: Final = 200_000
"""So many unanswered messages are remembered on a connection. Beyond that it writes no more until answers come; of a
peer that gives none nothing more is attributed, for some never answer and must neither stop us nor make us grow."""


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
        elif not self._pending and self.lane.one_time and not self._retired and not self.lane.chunks:
            self.lane.retire()

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
