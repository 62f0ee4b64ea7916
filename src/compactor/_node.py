"""One context on its thread: joins the two cores and the shell, and holds all state that they share.

Everything here is called on the context's thread, except the methods under "any thread", which act at once there and
hand over through the portal elsewhere. A reader who follows a message meets this file three times: `send` (a process
sends), `accept` and `serve` (a connection brought something that is no plain message), `undelivered` (it was lost).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from _thread import get_ident
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ._aio.coroutines import Stepper
from ._aio.inbound import ACCEPTED, CLOSING, Inbound
from ._aio.outbound import Outgoing
from ._aio.peers import Lane, Peer
from ._aio.portal import Portal
from ._aio.sockets import close_descriptor
from ._asking import Asking
from ._names import Names
from ._runtime.cell import ENDED, CallEvent, Cell, Event, ExitedEvent, InitializeEvent
from ._runtime.handlers import find_method, tables_of
from ._runtime.scheduler import Scheduler
from ._serving import Serving
from ._watching import Watching
from .errors import ContextStopped, InvalidMethod, InvalidProcess, MalformedBody
from .http.exchange import SERVER, plain_response
from .messages import DeadLetter, Envelope
from .pid import PID, format_address, local_pid
from .settings import is_own, is_wildcard
from .wire.decoder import HeadBudget, Request
from .wire.encoder import EXITED, LINK, ONE_TIME, as_bytes, check_destination, encode_head

if TYPE_CHECKING:
    from .context import Context
    from .process import Process

log: Final = logging.getLogger("compactor")

Address = tuple[str, int]

_BREATH_SECONDS: Final = 0.00002  # what the system makes of it is some tens of microseconds
_MOST_ROUTES: Final = 65_536
_POLL_SECONDS: Final = 0.005  # only while the context stops, when many things end on their own


class LocalOut(Envelope):
    """All messages of one (sender, receiver, name) inside the context; in the mailbox it is their envelope."""

    __slots__ = ("cell", "lane", "node", "to")

    def __init__(self, node: Node, cell: Cell, sender: PID, to: PID, name: str) -> None:
        super().__init__(sender, to.id, name)
        self.node = node
        self.cell = cell
        self.to = to
        self.lane: None = None  # it has none

    def put(self, body: bytes) -> None:
        """Queue a message."""
        cell = self.cell
        if cell.queued:
            cell.mailbox.append((self, body))  # type: ignore[union-attr]
        elif cell.state is not ENDED:
            cell.wake((self, body))
        else:
            self.node.send_again(self, body)


class Node:
    """The state of one context. Implements `Host` for cells, `Network` for peers and `Server` for connections."""

    def __init__(
        self, context: Context, loop: asyncio.AbstractEventLoop, bound: Address, own: Address, interruptible: bool
    ) -> None:
        # For the context's life:
        self.context = context
        self.interruptible = interruptible
        self.loop = loop
        self.thread = -1  # ident of the loop's thread, once it runs
        self.bound = bound
        self.address = own
        self.random = random.Random()  # noqa: S311 - for pauses and incarnations, not for secrets
        self.heads = HeadBudget()
        self.body_limit: int = context.body_limit
        self.idle_seconds: float = context.idle_seconds
        breathe = (lambda: None) if interruptible else partial(time.sleep, _BREATH_SECONDS)
        self.scheduler = Scheduler(time.monotonic, self._ask_turn, self._flush, breathe)
        self.stepper = Stepper(loop)
        self.portal = Portal(loop, self._drain)
        self.step = self.stepper.step
        self.hold = self.scheduler.hold
        self.run = self.scheduler.run
        self.enqueue = self.scheduler.enqueue
        self.borrow_mailbox = self.scheduler.borrow_mailbox
        self.return_mailbox = self.scheduler.return_mailbox
        # Processes:
        self.cells: dict[str, Cell] = {}
        self.watching = Watching(self, context.link_silence)
        self.asking = Asking(self)
        self.asks = self.asking.asks
        self.ask = self.asking.ask
        self.stopping = False
        # Connections:
        self.connections: set[Inbound] = set()
        self.peers: dict[Address, Peer] = {}
        self.go_peers: set[Address] = set()
        self._routes: dict[tuple[PID, PID, str], LocalOut | Outgoing] = {}
        self._dirty: list[Lane] = []
        self._checks: list[Callable[[], bool]] = []
        self.names = Names(loop, ":" in bound[0], self.forget_routes)
        self.serving = Serving(self, context.delegate)
        self.serve = self.serving.serve
        self._own: dict[Address, bool] = {bound: True, own: True}
        # What happened:
        self.counters: Counter[str] = Counter()
        self.messages_received = 0  # from other contexts, as those sent
        self.messages_sent = 0
        self.dead_letters: deque[DeadLetter] = deque(maxlen=1000)
        self._awaited: dict[Cell, list[Callable[[], None]]] = {}
        self._empty: asyncio.Future[None] | None = None

    # --- any thread ---------------------------------------------------------------------------------------------------

    def send(self, sender: PID, to: PID, name: str, body: Any = None) -> None:
        """Send a message. On the context's thread it is queued at once, elsewhere handed over.

        Raises:
            TypeError, ValueError: the receiver, the name or the body cannot be sent to, or sent.
            ContextStopped: the context has stopped.
        """
        if type(body) is not bytes:
            body = as_bytes(body)
        if get_ident() == self.thread:
            # What other threads handed over comes first, or a message could overtake an earlier one.
            if self.portal.queue:
                self.portal.drain()
            out = self._routes.get((sender, to, name))
            if out is not None:
                out.put(body)
            else:
                self.send_now(sender, to, name, body)
        else:
            out = self._routes.get((sender, to, name))
            if out is not None:
                self.portal.post(out, body)
            else:
                check_destination(to, name)
                self.portal.submit(self.send_now, sender, to, name, body)

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Run something on the context's thread: now when this is it, else soon."""
        if get_ident() == self.thread:
            if self.portal.queue:
                self.portal.drain()
            function(*args)
        else:
            self.portal.submit(function, *args)

    def link(self, cell: Cell, to: PID, reconnect: bool = False) -> None:
        """Let a process watch another."""
        if not isinstance(to, PID):
            raise TypeError(f"a process links to a PID, not {to!r}")
        self.call(self.watching.link, cell, to, reconnect)

    def terminate(self, cell: Cell, inject: bool = True) -> None:
        """End a process."""
        self.call(cell.terminate, "terminated", inject)

    def on_loop(self) -> bool:
        """Whether this is the context's thread, with the loop running in it: nothing may block here."""
        return get_ident() == self.thread and asyncio._get_running_loop() is self.loop

    def local_cell(self, pid: PID) -> Cell:
        """Return the cell of a local process.

        Raises:
            InvalidProcess: there is none.
        """
        if not isinstance(pid, PID):
            raise TypeError(f"expected a PID, not {pid!r}")
        cell = self.cells.get(pid.id)
        if cell is None or not self.is_own(pid.address):
            raise InvalidProcess(
                f"{pid} is no process of the context at {format_address(self.address)}: never spawned, or terminated"
            )
        return cell

    def event_for(self, pid: PID, method: str, args: tuple[Any, ...]) -> tuple[Cell, CallEvent]:
        """Return what a dispatch queues, and where.

        Raises:
            InvalidProcess, InvalidMethod: there is no such process, or it has no such method.
        """
        cell = self.local_cell(pid)
        function = find_method(cell.process, method) if isinstance(method, str) else None
        if function is None:
            raise InvalidMethod(f"{type(cell.process).__name__} {pid} has no method {method!r} to dispatch to")
        return cell, CallEvent(function, method, args)

    def is_own(self, address: Address) -> bool:
        """Whether an address is this context's: the one it advertises, or another by which it is reached here."""
        known = self._own.get(address)
        if known is None:
            ip, port = address
            known = port == self.bound[1] and is_wildcard(self.bound[0]) and is_own(ip)
            if len(self._own) > 4096:
                self._own = {self.bound: True, self.address: True}
            self._own[address] = known
        return known

    # --- turns --------------------------------------------------------------------------------------------------------

    def _ask_turn(self) -> None:
        try:
            self.loop.call_soon(self.scheduler.turn)
        except RuntimeError:
            raise ContextStopped("the context's event loop was closed before its stop(): make a new one") from None

    def _drain(self) -> None:
        """Other threads have handed something over."""
        self.scheduler.hold()
        try:
            self.portal.drain()
        finally:
            self.scheduler.run()

    def _flush(self) -> None:
        """Everything that was sent in this turn leaves: one write per connection."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for lane in dirty:
                lane.flush()
        if self._checks:
            self._checks = [check for check in self._checks if not check()]

    def flush_soon(self, lane: Lane) -> None:
        """Have a lane flushed at the end of this turn."""
        if not lane.dirty:
            lane.dirty = True
            self._dirty.append(lane)
            self.scheduler.ask()

    @property
    def backlog(self) -> bool:
        """Whether events wait for another turn."""
        return bool(self.scheduler.ready)

    def each_turn(self, check: Callable[[], bool]) -> None:
        """Call at the end of each turn until it returns True."""
        self._checks.append(check)

    # --- processes ----------------------------------------------------------------------------------------------------

    def bind(self, process: Process) -> Cell:
        """Give a process its cell and its PID.

        Raises:
            InvalidProcess: the name is taken, or the process is bound already or cannot be.
            ContextStopped: the context is stopping.
        """
        if self.stopping:
            raise ContextStopped("the context is stopping: no process can be spawned on it")
        id_ = process._compactor_id
        if id_ is None:
            raise InvalidProcess(f"{type(process).__name__}.__init__ did not call super().__init__(name)")
        if process._compactor_cell is not None:
            raise InvalidProcess(f"{process!r} is bound already: a process is spawned once, make another one")
        if id_ in self.cells:
            raise InvalidProcess(
                f"the id {id_!r} is taken by {self.cells[id_].pid} on this context: "
                "terminate that first, or choose another name (unique_id makes one)"
            )
        tables = tables_of(type(process))
        if tables.routes:
            _ = self.serving.bridge  # its import is not to happen under the first request
        cell = Cell(self, process, local_pid(self.address, id_), tables, f"{self.random.getrandbits(64):016x}")
        cell.delegates = process._compactor_delegates
        self.cells[id_] = cell
        process._compactor_cell = cell
        self.counters["spawned"] += 1
        return cell

    def spawn_here(self, process: Process) -> PID:
        """Spawn on the context's own thread: a plain `initialize` runs at once."""
        cell = self.bind(process)
        raised: list[BaseException] = []
        returned = False

        def done(error: BaseException | None) -> None:
            if error is not None:
                if returned:  # nobody is there any more to whom it could be raised
                    self.handler_raised(cell, "initialize", None, error)
                raised.append(error)

        cell.serve_first(InitializeEvent(done))
        returned = True
        if raised:
            raise raised[0]
        return cell.pid

    def spawn_for(self, process: Process, done: Callable[[PID | None, BaseException | None], None]) -> None:
        """Spawn for another thread, which waits."""
        try:
            cell = self.bind(process)
        except Exception as error:
            done(None, error)
            return
        cell.put((InitializeEvent(lambda error: done(cell.pid, error)), None))

    def spawn_error(self, cell: Cell, reason: str) -> BaseException:
        """The process ended before it was initialized."""
        return ContextStopped(f"{cell.pid} was never initialized: {reason}")

    def ended(self, cell: Cell, reason: str) -> None:
        """A process has ended: its id is free, who watched it is told."""
        if self.cells.get(cell.pid.id) is cell:
            del self.cells[cell.pid.id]
        cell.process._compactor_cell = None
        self.counters["terminated"] += 1
        self.watching.ended(cell, reason)
        self.asks.target_ended(cell.pid, reason)
        for done in self._awaited.pop(cell, ()):
            done()
        if self._empty is not None and not self.cells and not self._empty.done():
            self._empty.set_result(None)

    def when_ended(self, pid: PID, done: Callable[[], None]) -> None:
        """Call when a local process has ended, now if there is none."""
        cell = self.cells.get(pid.id)
        if cell is None or not self.is_own(pid.address):
            done()
        else:
            self._awaited.setdefault(cell, []).append(done)

    def set_per_sender(self, pid: PID) -> None:
        """Treat the peer of a PID as mesos-go from its first message."""
        address = self.names.resolve(pid, partial(self.set_per_sender, pid), lambda reason: None)
        if address is None:
            return
        self.go_peers.add(address)
        peer = self.peers.get(address)
        if peer is not None:
            peer.set_per_sender()

    def queue_call(self, cell: Cell, event: Event) -> None:
        """Queue a dispatch, unless the process is gone by now."""
        if cell.state is ENDED:
            event.dropped(cell, "terminated")
        else:
            cell.put((event, None))

    # --- sending ------------------------------------------------------------------------------------------------------

    def send_now(self, sender: PID, to: PID, name: str, body: bytes) -> None:
        """Send a message; on the context's thread."""
        out = self._routes.get((sender, to, name))
        if out is None:
            check_destination(to, name)
            address = self.names.at_once(to)
            if address is None:
                again = partial(self.send_now, sender, to, name, body)
                address = self.names.resolve(to, again, partial(self.undelivered, sender, to, name, len(body)))
                if address is None:
                    return
            if self.is_own(address):
                self._send_here(sender, to, name, body)
                return
            out = Outgoing(sender, to, name, encode_head(sender, to, name), self.peer(address).lane(sender))
            if not sender.id.startswith(ONE_TIME) and not to.id.startswith(ONE_TIME):
                self._remember(sender, to, name, out)
        out.put(body)

    def _send_here(self, sender: PID, to: PID, name: str, body: bytes) -> None:
        cell = self.cells.get(to.id)
        if cell is not None:
            out = LocalOut(self, cell, sender, to, name)
            if not sender.id.startswith(ONE_TIME):
                self._remember(sender, to, name, out)
            out.put(body)
        elif to.id.startswith(ONE_TIME):
            self.asking.answered(Envelope(sender, to.id, name), body)
        else:
            self.undelivered(sender, to, name, len(body), "no such process")

    def send_again(self, out: LocalOut | Outgoing, body: bytes) -> None:
        """A remembered route leads nowhere any more: its process has ended, or lanes have changed. Find another."""
        if self._routes.get((out.sender, out.to, out.name)) is out:
            del self._routes[out.sender, out.to, out.name]
        self.send_now(out.sender, out.to, out.name, body)

    def _remember(self, sender: PID, to: PID, name: str, out: LocalOut | Outgoing) -> None:
        if len(self._routes) >= _MOST_ROUTES:
            self.forget_routes()
        self._routes[sender, to, name] = out

    def forget_routes(self) -> None:
        """Lanes have changed: whoever holds a remembered route has to ask again."""
        routes, self._routes = self._routes, {}
        for out in routes.values():
            out.lane = None

    def forward(self, sender: PID, to: PID, name: str, body: bytes) -> None:
        """Pass a delegated message on, with its sender."""
        self.counters["delegated"] += 1
        self.send_now(sender, to, name, body)

    def peer(self, address: Address) -> Peer:
        """Return the peer at an address."""
        peer = self.peers.get(address)
        if peer is None:
            peer = self.peers[address] = Peer(self, address, per_sender=address in self.go_peers)
        return peer

    def peer_idle(self, peer: Peer) -> None:
        """A peer has nothing left: forget it."""
        if self.peers.get(peer.address) is peer and not self.needed(peer.address):
            del self.peers[peer.address]
            self.forget_routes()

    def jitter(self) -> float:
        """Return a random factor for a pause."""
        return self.random.uniform(0.5, 1.0)

    # --- links --------------------------------------------------------------------------------------------------------

    def tell(self, linker: Cell, pid: PID, reason: str) -> None:
        """Let a process know that one it watched is gone."""
        self.counters["exited"] += 1
        log.info("%s: the linked %s is gone: %s", linker.pid, pid, reason)
        if linker.state is not ENDED:
            linker.put((ExitedEvent(pid, reason), None))

    def needed(self, address: Address) -> bool:
        """Whether a link needs a connection to an address."""
        return self.watching.links.has(address)

    def watches(self, sender: PID, address: Address) -> bool:
        """Whether a process has a link to an address."""
        return any(link.cell.pid is sender for link in self.watching.links.at(address))

    def address_lost(self, address: Address, reason: str, *, gone: bool, links: bool = True) -> None:
        """A connection broke, or could not be made: links break, and what was asked there may have no answer."""
        broken = self.watching.address_lost(address, reason) if links else 0
        log.info("%s: %s; %d links broken", format_address(address), reason, broken)
        asked = [pid for pid in self.asks.targets() if self.names.known(pid) == address]
        self.names.forget(address[0])
        if gone:
            for pid in asked:
                self.asks.target_ended(pid, reason)
        elif asked and not self.stopping:
            # Closed is not gone: whoever answers may do so on a connection of its own. If nobody is there, it is.
            self.peer(address).probe(local_pid(self.address, ""))

    # --- what connections bring ---------------------------------------------------------------------------------------

    def accept(self, connection: Inbound, request: Request) -> bytes | None:
        """Take a message that is not plain; None when it is an ordinary request."""
        envelope = request.envelope
        if envelope is None:
            return None
        self.messages_received += 1
        if envelope.name == LINK:
            return self.watching.watched(connection, request, envelope)
        if envelope.name == EXITED:
            return self.watching.exit_notice(request, envelope)
        # What is left is the last message of its connection.
        cell = self.cells.get(envelope.id)
        if cell is not None:
            cell.put((envelope, request.body))
        elif self.undeliverable(envelope, request.body) is not ACCEPTED:
            return plain_response(request.head, 404, "no such process\n")
        return CLOSING

    def undeliverable(self, envelope: Envelope, body: bytes) -> bytes:
        """Take a message to an id that is no process."""
        if envelope.id.startswith(ONE_TIME):
            return ACCEPTED if self.asking.answered(envelope, body) else _NO_SUCH_PROCESS
        to = local_pid(self.address, envelope.id)
        self.undelivered(envelope.sender, to, envelope.name, len(body), "no such process", answered=True)
        return _NO_SUCH_PROCESS

    def connection_closed(self, connection: Inbound) -> None:
        """A connection is gone, and what it brought with it."""
        self.connections.discard(connection)
        self.watching.connection_closed(connection)

    # --- what happened ------------------------------------------------------------------------------------------------

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""
        self.counters[what] += number

    def undelivered(
        self, sender: PID, to: PID, name: str, size: int | None, reason: str, *, answered: bool = False
    ) -> None:
        """A message was not delivered, or is not known to be: keep it as a dead letter, and end a question.

        `answered` says that it came from elsewhere, so that the answer tells its sender.
        """
        self.counters["dead_letters"] += 1
        self.counters[f"dead_letters: {reason}"] += 1
        self.dead_letters.append(DeadLetter(sender, to, name, size, reason))
        log.debug("dead letter: %r from %s to %s: %s", name, sender, to, reason)
        if not answered and sender.id.startswith(ONE_TIME) and self.is_own(sender.address):
            self.asks.failed(sender.id, reason)

    def event_dropped(self, cell: Cell, what: str, reason: str) -> None:
        """An event was not served because its process ended."""
        self.counters["dropped_events"] += 1
        log.debug("%s: %s was not served: %s", cell.pid, what, reason)

    def no_handler(self, cell: Cell, envelope: Envelope, body: bytes) -> None:
        """A process has neither handler nor delegate for a message."""
        self.undelivered(envelope.sender, cell.pid, envelope.name, len(body), "no handler", answered=False)

    def handler_raised(self, cell: Cell, what: str, sender: PID | None, error: BaseException) -> None:
        """User code raised: log it once, count it, go on."""
        if isinstance(error, MalformedBody):
            log.warning("%s: dropped %r from %s: %s", cell.pid, what, sender, error)
            self.counters["protobuf_errors"] += 1
            return
        source = f" from {sender}" if sender is not None else ""
        log.error("%s: the handler of %r%s raised", cell.pid, what, source, exc_info=error)
        self.counters["handler_errors"] += 1  # behind the log, so that whoever sees it counted finds it there

    def statistics(self) -> dict[str, int]:
        """Return all counters. Any thread: what is read is a moment ago."""
        result = {name: self.counters.get(name, 0) for name in _ALWAYS}
        result.update(self.counters.copy())
        result["messages_received"] = self.messages_received
        result["messages_sent"] = self.messages_sent
        result["processes"] = len(self.cells)
        result["connections_inbound"] = len(self.connections)
        result["peers"] = len(self.peers)
        return result

    # --- the end ------------------------------------------------------------------------------------------------------

    async def shut_down(self, grace: float) -> None:
        """End everything in order: processes, what they sent, connections."""
        deadline = self.loop.time() + grace
        self.stopping = True
        for cell in list(self.cells.values()):
            cell.terminate("the context stopped")
        if self.cells:
            self._empty = self.loop.create_future()
            await asyncio.wait([self._empty], timeout=grace)
            for cell in list(self.cells.values()):
                log.error("%s did not end within %.1f s of the context's stop; it is abandoned", cell.pid, grace)
                cell.abandon("the context stopped")
        self.portal.close()
        self.asks.close("the context stopped")
        self._flush()
        await self._let_leave(deadline)
        self.names.close("the context stopped")
        for peer in list(self.peers.values()):
            for lane in peer.lanes:
                lane.drop("the context stopped")
                lane.close()
        for connection in list(self.connections):
            connection.close()
        while self.connections and self.loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        for connection in list(self.connections):
            connection.abort()
        self.stepper.close()
        self.watching.close()
        await turns(2)  # in these, what was closed and cancelled ends

    def disown(self, why: str) -> None:
        """Without a loop: accept nothing more, close the descriptors, end what waits."""
        self.stopping = True
        self.thread = -1
        self.portal.disown(why)
        outbound = [lane.connection for peer in self.peers.values() for lane in peer.lanes]
        for connection in (*self.connections, *outbound):
            if connection is not None and connection.transport is not None:
                close_descriptor(connection.transport)
        with contextlib.suppress(RuntimeError):  # who awaits on a loop that has ended cannot be told
            self.asks.close(why)

    async def _let_leave(self, deadline: float) -> None:
        """Wait until what was sent has left and was answered; those that never answer are not waited for long."""
        silent_until = min(deadline, self.loop.time() + 0.5)
        while (now := self.loop.time()) < deadline:
            lanes = [lane for peer in self.peers.values() for lane in peer.lanes if lane.under_way]
            answering = any(lane.peer.answers or lane.chunks for lane in lanes)
            left = not self.names.busy and (not lanes or (not answering and now > silent_until))
            if left and not any(connection.owes for connection in self.connections):
                return
            await asyncio.sleep(_POLL_SECONDS)


_ALWAYS: Final = (
    "dead_letters",
    "dropped_events",
    "exited",
    "handler_errors",
    "late_answers",
    "protobuf_errors",
    "spawned",
    "stale_exits",
    "terminated",
)


_NO_SUCH_PROCESS: Final = (
    f"HTTP/1.1 404 Not Found\r\nServer: {SERVER}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: 16\r\n\r\nno such process\n"
).encode()


async def turns(number: int) -> None:
    """Let the loop come round some times."""
    for _ in range(number):
        await asyncio.sleep(0)
