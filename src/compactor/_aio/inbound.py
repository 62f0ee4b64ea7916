"""One accepted connection: bytes to mailboxes, and the answers back in order.

A block of bytes is decoded and queued as a whole, then answered in one write, then the handlers run in the same turn of
the loop. When the answer leaves depends on the peer (docs/protocol.md):

    peer                    its 202s leave
    a compactor             after the handlers: it never waits for them, and its replies should not either
    libprocess (C++)        when the connection has been quiet for a moment: it closes without reading them, and the
                            reset that follows an unread answer would destroy what it sent behind
    anybody else            at once, when the message is queued: mesos-go waits for them before it sends on

An ordinary HTTP request is answered by its route, maybe much later. Messages behind it are queued at once and their
answers wait for their turn; a second ordinary request waits itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

from .._version import VERSION
from ..http.exchange import plain_response
from ..messages import Envelope
from ..pid import PID
from ..wire.decoder import Decoder, HeadBudget, Item, Request
from ..wire.head import AGENT_COMPACTOR, AGENT_LIBPROCESS, BadRequest, Head
from .sockets import keep_alive, read_rest

ACCEPTED: Final = f"HTTP/1.1 202 Accepted\r\nServer: compactor/{VERSION}\r\nContent-Length: 0\r\n\r\n".encode()
CLOSING: Final = ACCEPTED[:-2] + b"Connection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

QUIET_SECONDS: Final = 0.03
"""How long a libprocess peer has to be quiet before its answers leave."""
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 16 * 1024 * 1024
_MOST_UNHANDLED: Final = 64  # in a mailbox, before the connection that filled it is not read for a while
_MOST_WAITING: Final = 10_000  # answers that wait behind an HTTP exchange before the connection is not read any more

_AT_ONCE, _AFTER, _LATE = range(3)


class Server(Protocol):
    """What a connection needs of its context."""

    loop: asyncio.AbstractEventLoop
    cells: Any  # id -> cell; asked with None for what is no plain message
    heads: HeadBudget
    body_limit: int
    connections: set[Inbound]
    messages_received: int

    def hold(self) -> None:
        """Events are about to be queued, and `run` follows."""

    def run(self) -> None:
        """Handle what is queued, and flush."""

    @property
    def backlog(self) -> bool:
        """Whether events are left that this turn had no room for."""

    def each_turn(self, check: Callable[[], bool]) -> None:
        """Call at the end of each turn until it returns True."""

    def accept(self, connection: Inbound, request: Request) -> bytes | None:
        """Take a message that is not plain: a control message, one for no process, one behind which it closes.

        Return the answer. Return None when it is an ordinary request, which `serve` takes.
        """

    def serve(self, exchange: InboundExchange) -> None:
        """Answer an ordinary request."""

    def undeliverable(self, envelope: Envelope, body: bytes) -> bytes:
        """Take a message to an id that is no process here; return the answer."""

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""

    def connection_closed(self, connection: Inbound) -> None:
        """It is gone, and with it what belonged to it."""


class InboundExchange:
    """One ordinary HTTP request and its answer: `http.exchange.Exchange` on a connection.

    Touched only by the context thread.
    """

    __slots__ = ("_callback", "_connection", "_done", "body", "head", "lost", "remote_ip")

    def __init__(self, connection: Inbound, head: Head, body: bytes, remote_ip: str) -> None:
        self._connection = connection
        self._callback: Callable[[], None] | None = None
        self._done = False
        self.head = head
        self.body = body
        self.remote_ip = remote_ip
        self.lost = False

    def write(self, data: bytes) -> None:
        """Send bytes of the response; nothing happens once the client is gone."""
        if not self.lost and not self._done:
            self._connection.write(data)

    def drained(self) -> asyncio.Future[None]:
        """Return a future for the moment when what was written has left our buffers."""
        return self._connection.drained(lost=self.lost)

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Call back when the client goes away before `finish`."""
        self._callback = callback

    def finish(self, close: bool) -> None:
        """The response is complete."""
        if not self._done:
            self._done = True
            if not self.lost:
                self._connection.exchange_done(close)

    def client_lost(self) -> None:
        """The client has gone away."""
        if not self._done:
            self.lost = True
            callback, self._callback = self._callback, None
            if callback is not None:
                callback()


class Inbound(asyncio.Protocol):
    """One accepted connection. Touched only by the context thread.

    Attributes:
        peer: the (ip, port) it comes from.
        watchers: the remote linkers it has brought, as keys (cell, linker): they go with it.
    """

    __slots__ = (
        "_behind",
        "_closing",
        "_decoder",
        "_drains",
        "_eof",
        "_exchange",
        "_fed",
        "_heard",
        "_held",
        "_hold_timer",
        "_lingering",
        "_mode",
        "_paused",
        "_server",
        "_swallowed",
        "_transport",
        "_waiting",
        "_write_paused",
        "peer",
        "watchers",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder(server.heads, server.body_limit)
        self.peer: tuple[str, int] = ("", 0)
        self.watchers: dict[tuple[Any, PID], None] = {}
        # Answers:
        self._mode = _AT_ONCE
        self._held = 0  # 202s kept back for a libprocess peer
        self._hold_timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._exchange: InboundExchange | None = None
        self._behind: deque[bytes | Request] = deque()  # what waits for the exchange, in order
        # Flow:
        self._paused = False  # reading is paused
        self._waiting = False  # ... until there is room in the mailboxes of:
        self._fed: list[Any] = []
        self._write_paused = False
        self._drains: list[asyncio.Future[None]] = []
        # The end:
        self._closing = False  # close once everything is answered
        self._eof = False
        self._lingering: asyncio.TimerHandle | None = None
        self._swallowed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's has another base
        address = transport.get_extra_info("peername") or ("", 0)
        self.peer = (address[0], address[1])
        keep_alive(transport)
        self._server.connections.add(self)
        self._server.count("connections_accepted")

    def data_received(self, data: bytes) -> None:
        """Decode a block, queue what is in it, answer, and let the handlers run."""
        if self._closing:
            self._swallow(data)
            return
        server = self._server
        server.hold()
        try:
            items = self._decoder.feed(data)
            accepted = self._queue_up(items)
            if accepted and self._mode == _AT_ONCE:
                self._answer(ACCEPTED if accepted == 1 else ACCEPTED * accepted)
                accepted = 0
            if self._decoder.error is not None:
                self._flush_answers(accepted)
                accepted = 0
                self._refuse(self._decoder.error)
        finally:
            server.run()
        if accepted:
            if self._mode == _AFTER:
                self._answer(ACCEPTED if accepted == 1 else ACCEPTED * accepted)
            else:
                self._hold(accepted)
        if self._decoder.closing and not self._closing:
            self._end()
        if server.backlog and not self._waiting:
            self._wait_for_room(items)

    def _queue_up(self, items: list[Item]) -> int:
        """Put messages into mailboxes; return how many 202s are owed behind what was written."""
        cell_of = self._server.cells.get
        accepted = 0
        total = 0
        for item in items:
            cell = cell_of(item[0].id)
            if cell is not None:
                if cell.queued:
                    cell.mailbox.append(item)
                else:
                    cell.wake(item)
                accepted += 1
            else:
                total += accepted
                self._flush_answers(accepted)
                accepted = 0
                self._special(item)
        self._server.messages_received += total + accepted
        agent = self._decoder.agent
        if agent is not None:
            self._decoder.agent = None
            self._mode = _LATE if agent == AGENT_LIBPROCESS else _AFTER if agent == AGENT_COMPACTOR else _AT_ONCE
        return accepted

    def _flush_answers(self, accepted: int) -> None:
        """Write the 202s that are owed, because another answer follows."""
        accepted += self._held
        self._held = 0
        if accepted:
            self._answer(ACCEPTED * accepted)

    def _special(self, item: Any) -> None:
        """What is no message to a living process."""
        what, body = item
        server = self._server
        if not isinstance(what, Request):
            self._answer(server.undeliverable(what, body))
        elif what.expects:
            if self._exchange is None:
                self.write(_CONTINUE)
        elif what.refusal is not None:
            server.count("refused_requests")
            self._answer(plain_response(what.head, what.refusal.status, what.refusal.why + "\n"))
        else:
            answer = server.accept(self, what)
            if answer is not None:
                self._answer(answer)
            elif self._exchange is not None:
                self._behind.append(what)
                self._pause()
            else:
                self._begin(what)

    def _begin(self, request: Request) -> None:
        self._exchange = InboundExchange(self, request.head, request.body, self.peer[0])
        self._server.count("http_requests")
        self._server.serve(self._exchange)

    def _answer(self, data: bytes) -> None:
        """Write an answer, in its turn."""
        if self._exchange is None:
            self.write(data)
        else:
            self._behind.append(data)
            if len(self._behind) > _MOST_WAITING:
                self._pause()

    def write(self, data: bytes) -> None:
        """Write bytes whose turn it is."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _hold(self, accepted: int) -> None:
        """Keep the 202s of a libprocess peer back."""
        self._held += accepted
        self._heard = self._server.loop.time()
        if self._hold_timer is None:
            self._hold_timer = self._server.loop.call_later(QUIET_SECONDS, self._let_go)

    def _let_go(self) -> None:
        """Answer a libprocess peer, if it has been quiet for long enough, stands between messages and is read."""
        self._hold_timer = None
        if not self._held:
            return
        left = self._heard + QUIET_SECONDS - self._server.loop.time()
        if left > 0.001 or self._paused or not self._decoder.idle:
            self._hold_timer = self._server.loop.call_later(max(left, QUIET_SECONDS / 2), self._let_go)
        else:
            self._flush_answers(0)

    def _refuse(self, error: BadRequest) -> None:
        """The bytes cannot be understood: say so, and close without losing what was answered before."""
        self._server.count("malformed_requests")
        self._flush_answers(0)
        text = f"{error.why}\n".encode("utf-8", "replace")
        phrase = HTTPStatus(error.status).phrase
        self._answer(
            f"HTTP/1.1 {error.status} {phrase}\r\nServer: compactor/{VERSION}\r\nConnection: close\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n\r\n".encode()
            + (b"" if error.to_head else text)
        )
        self._end()

    def _end(self) -> None:
        """Nothing after this is read: close when all is answered, letting the peer read the answers first."""
        self._closing = True
        if self._exchange is None:
            self._linger()

    def _linger(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._lingering is not None:
            return
        self._flush_answers(0)
        if self._eof:
            transport.close()
            return
        # A close with unread bytes in the socket would reset it, and the peer might never see the answer.
        if transport.can_write_eof():
            transport.write_eof()
        self._resume()
        self._lingering = self._server.loop.call_later(_LINGER_SECONDS, transport.abort)

    def _swallow(self, data: bytes) -> None:
        self._swallowed += len(data)
        if self._swallowed > _LINGER_BYTES and self._transport is not None:
            self._transport.abort()

    def exchange_done(self, close: bool) -> None:
        """The response of the current exchange is complete: what waited behind it goes on."""
        self._exchange = None
        behind = self._behind
        if close:
            behind.clear()
            self._closing = True
        while behind and self._exchange is None:
            what = behind.popleft()
            if isinstance(what, Request):
                self._begin(what)
            else:
                self.write(what)
        if self._exchange is None:
            if self._closing:
                self._linger()
            else:
                self._go_on()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _wait_for_room(self, items: list[Item]) -> None:
        """Read no more until the processes that this block went to have handled most of what they have.

        One that waits in a handler of its own does not count: what it waits for may come on this very connection.
        """
        cell_of = self._server.cells.get
        self._fed = [cell for cell in {cell_of(item[0].id) for item in items} if cell is not None]
        if not self._room():
            self._waiting = True
            self._pause()
            self._server.each_turn(self._room)

    def _room(self) -> bool:
        for cell in self._fed:
            mailbox = cell.mailbox
            if mailbox is not None and len(mailbox) > _MOST_UNHANDLED and not cell.busy:
                return False
        self._fed = []
        if self._waiting:
            self._waiting = False
            self._go_on()
        return True

    def _go_on(self) -> None:
        """Read again, unless there is still a reason not to."""
        if not (self._waiting or self._write_paused or self._behind):
            self._resume()

    def pause_writing(self) -> None:
        """The peer does not read its answers."""
        self._write_paused = True
        self._pause()

    def resume_writing(self) -> None:
        """It does again."""
        self._write_paused = False
        drains, self._drains = self._drains, []
        for future in drains:
            if not future.done():
                future.set_result(None)
        self._go_on()

    def drained(self, *, lost: bool) -> asyncio.Future[None]:
        """Return a future for when what was written has left our buffers."""
        future: asyncio.Future[None] = self._server.loop.create_future()
        if lost or self._transport is None:
            _fail(future)
        elif self._write_paused:
            self._drains.append(future)
        else:
            future.set_result(None)
        return future

    def eof_received(self) -> bool:
        """The peer sends no more: answer what is due, then close. What arrived is handled."""
        self._held = 0  # a libprocess peer that closes reads no answers
        self._eof = True
        if not self._decoder.idle:
            self._server.count("truncated_requests")
        self._closing = True
        if self._exchange is None and self._transport is not None:
            self._transport.close()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed. After an error, what had arrived before is still handled."""
        transport, self._transport = self._transport, None
        if error is not None and transport is not None and not self._closing:
            self._held = 0
            rest = read_rest(transport)
            if rest:
                self.data_received(rest)
        self._closing = True
        for timer in (self._hold_timer, self._lingering):
            if timer is not None:
                timer.cancel()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.client_lost()
        for future in self._drains:
            if not future.done():
                _fail(future)
        self._decoder.close()
        self._server.connection_closed(self)

    def close(self) -> None:
        """The context stops: let the answers leave, then close."""
        self._flush_answers(0)
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def transport(self) -> asyncio.Transport | None:
        """What moves its bytes, None once it is closed."""
        return self._transport

    @property
    def owes(self) -> bool:
        """Whether an answer has not left yet."""
        transport = self._transport
        return transport is not None and (self._exchange is not None or transport.get_write_buffer_size() > 0)


def _fail(future: asyncio.Future[None]) -> None:
    from tornado.iostream import StreamClosedError

    future.set_exception(StreamClosedError())
    future.exception()  # a route need not look
