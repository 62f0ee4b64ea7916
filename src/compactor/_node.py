"""One context on its thread: joins the two cores and the shell, and holds all state that they share.

Everything here is called on the context's thread, except the methods under "any thread", which act at once there and
hand over through the portal elsewhere. A reader who follows a message meets this file three times: `send` (a process
sends), `accept` and `serve` (a connection brought something that is no plain message), `undelivered` (it was lost).
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
from _thread import get_ident
from collections import Counter, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ._aio.coroutines import Stepper
from ._aio.inbound import ACCEPTED, Inbound, InboundExchange
from ._aio.outbound import RECONNECT_SECONDS, Lane, Outgoing, Peer, Refresh
from ._aio.portal import Portal
from ._aio.sockets import reason_of
from ._runtime.asks import Asks, Pending
from ._runtime.cell import ENDED, CallEvent, Cell, Event, ExitedEvent, InitializeEvent
from ._runtime.handlers import find_method, tables_of
from ._runtime.links import Link, Links
from ._runtime.scheduler import Scheduler
from ._version import VERSION
from .errors import AskError, AskTimeout, ContextStopped, InvalidMethod, InvalidProcess, MalformedBody
from .http.exchange import plain_response
from .http.routes import allow, split_target
from .messages import Envelope, Message
from .pid import PID, format_address, local_pid
from .settings import is_own, is_wildcard
from .wire.answers import Answer
from .wire.decoder import EXITED, LINK, ONE_TIME, HeadBudget, Request
from .wire.encoder import as_bytes, check_name, decode_id, encode_head

if TYPE_CHECKING:
    from .context import Context
    from .process import Process

log: Final = logging.getLogger("compactor")

Address = tuple[str, int]
AnswerT = TypeVar("AnswerT")
Convert = Callable[[PID, str, bytes], Any]

_SERVER: Final = f"Server: compactor/{VERSION}\r\n"
_CLOSE: Final = f"HTTP/1.1 202 Accepted\r\n{_SERVER}Connection: close\r\nContent-Length: 0\r\n\r\n".encode()
_LINK_BODY: Final = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,6})")
_EXITED_BODY: Final = re.compile(rb"([0-9a-f]{32}) (.{0,1000})", re.DOTALL)
_MOST_ROUTES: Final = 65_536
_MOST_WATCHERS: Final = 100_000  # per connection
_NAME_SECONDS: Final = 30.0
_REFRESHES_MISSED: Final = 4
_RESERVED: Final = (LINK, EXITED)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was not delivered, or whose delivery is not known, and why.

    Attributes:
        sender, to, name: as they were sent; `to` has the local address for what came from elsewhere.
        size: bytes of the body, None where it is not known any more.
        reason: "no such process", "connection refused", "terminated", ...
        time: seconds since the epoch.
    """

    sender: PID
    to: PID
    name: str
    size: int | None
    reason: str
    time: float = field(default_factory=time.time)


class LocalOut(Envelope):
    """All messages of one (sender, receiver, name) inside the context; in the mailbox it is their envelope."""

    __slots__ = ("cell", "node", "to")

    def __init__(self, node: Node, cell: Cell, sender: PID, to: PID, name: str) -> None:
        super().__init__(sender, to.id, name)
        self.node = node
        self.cell = cell
        self.to = to

    def put(self, body: bytes) -> None:
        """Queue a message."""
        cell = self.cell
        if cell.queued:
            cell.mailbox.append((self, body))  # type: ignore[union-attr]
        elif cell.state is not ENDED:
            cell.wake((self, body))
        else:
            self.node.put_again(self, body)


class Ask(Generic[AnswerT]):
    """An answer that is to come: `await` it on an event loop, or call `result()` in a thread."""

    __slots__ = ("_callbacks", "_error", "_event", "_lock", "_node", "_value", "done_")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._value: AnswerT | None = None
        self._error: BaseException | None = None
        self.done_ = False

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.done_

    def result(self, timeout: float | None = None) -> AnswerT:
        """Wait for the answer and return it.

        Args:
            timeout: seconds to wait at most; the question itself ends by its own.

        Raises:
            AskError: it will not be answered; `AskTimeout` when the time of the question is over.
            TimeoutError: `timeout` is over.
            RuntimeError: on the context's own thread, which would wait for itself: `await` it there.
        """
        if not self.done_:
            if get_ident() == self._node.thread:
                raise RuntimeError("result() on the context's own thread would wait for itself: await the ask instead")
            event = threading.Event()
            self._when_done(event.set)
            if not event.wait(timeout):
                raise TimeoutError(f"no answer within {timeout} s of waiting")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def __await__(self) -> Generator[Any, None, AnswerT]:
        if not self.done_:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not future.done():
                    future.set_result(None)

            if loop is self._node.loop:
                self._when_done(wake)
            else:
                self._when_done(lambda: loop.call_soon_threadsafe(wake))
            yield from future
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _when_done(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self.done_:
                self._callbacks.append(callback)
                return
        callback()

    def finish(self, value: AnswerT | None, error: BaseException | None) -> None:
        """End it; called once, on the context's thread."""
        with self._lock:
            self._value = value
            self._error = error
            self.done_ = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class HttpEvent(Event):
    """An ordinary request for a route of the process. An asynchronous route does not hold the mailbox."""

    __slots__ = ("exchange", "function")

    def __init__(self, exchange: InboundExchange, function: Callable[..., Any]) -> None:
        self.exchange = exchange
        self.function = function

    @property
    def what(self) -> str:  # type: ignore[override]
        """Which request, for the log."""
        return f"{self.exchange.head.method} {self.exchange.head.path}"

    def run(self, cell: Cell) -> None:
        """Start the route."""
        node: Any = cell.host
        process = cell.process

        def failed(error: BaseException) -> None:
            node.handler_raised(cell, self.what, None, error)

        def done(error: BaseException | None) -> None:
            if error is not None:
                failed(error)

        run = node.bridge.start(self.exchange, lambda handler: self.function(process, handler), failed)
        node.step(run, done)

    def dropped(self, cell: Cell, reason: str) -> None:
        """The process ended first."""
        super().dropped(cell, reason)
        exchange = self.exchange
        exchange.write(plain_response(exchange.head, 503, f"{cell.pid.id}: {reason}\n"))
        exchange.finish(not exchange.head.persistent)


class _Waiting:
    """What waits for a host name to be resolved, in order."""

    __slots__ = ("calls", "name", "port")

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.calls: list[tuple[Callable[..., None], Callable[[str], None]]] = []


class Node:
    """The state of one context. Implements `Host` for cells, `Network` for peers and `Server` for connections."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop, bound: Address, own: Address) -> None:
        # For the context's life:
        self.context = context
        self.loop = loop
        self.thread = -1  # ident of the loop's thread, once it runs
        self.bound = bound
        self.address = own
        self.token = f"{random.getrandbits(48):012x}"
        self.random = random.Random()
        self.heads = HeadBudget()
        self.body_limit: int = context.body_limit
        self.idle_seconds: float = context.idle_seconds
        self.link_silence: float = context.link_silence
        # mesos-go closes a connection on which it has accepted nothing for 10 s, and it does not know a __link__.
        self.refresh_seconds = min(context.link_silence / 3, 5.0)
        self.scheduler = Scheduler(time.monotonic, self._ask_turn, self._flush)
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
        self.links = Links()
        self.asks = Asks()
        self.ask_number = 0
        self.stopping = False
        # Connections:
        self.connections: set[Inbound] = set()
        self.peers: dict[Address, Peer] = {}
        self.go_peers: set[Address] = set()
        self._routes: dict[tuple[PID, PID, str], LocalOut | Outgoing] = {}
        self._dirty: list[Lane] = []
        self._when_clear: list[Callable[[], None]] = []
        self._refreshing: dict[Address, list[Any]] = {}
        self._names: dict[str, tuple[str, float]] = {}
        self._waiting: list[_Waiting] = []
        self._own: dict[Address, bool] = {bound: True, own: True}
        # What happened:
        self.counters: Counter[str] = Counter()
        self.messages_received = 0
        self.dead_letters: deque[DeadLetter] = deque(maxlen=1000)
        self._bridge: Any = None
        self._awaited: dict[Cell, list[Callable[[], None]]] = {}
        self.sweeper: Any = None
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
                self._send(sender, to, name, body)
        else:
            if (sender, to, name) not in self._routes:
                _check(to, name)
            self.portal.submit(self._send, sender, to, name, body)

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
        self.call(self._link, cell, to, reconnect)

    def terminate(self, cell: Cell, inject: bool = True) -> None:
        """End a process."""
        self.call(partial(cell.terminate, "terminated", inject=inject))

    def ask(
        self, to: PID, name: str, body: Any = None, timeout: float | None = 30.0, convert: Convert | None = None
    ) -> Ask[Any]:
        """Ask a process; see `Process.ask`."""
        _check(to, name)
        body = as_bytes(body)
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"the timeout of an ask is a number of seconds from 0, or None, not {timeout!r}")
        ask: Ask[Any] = Ask(self)
        self.call(self._ask, ask, to, name, body, timeout, convert)
        return ask

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
            known = port == self.bound[1] and is_wildcard(self.bound[0]) and ":" not in ip == (":" not in self.bound[0])
            known = known and ip.replace(".", "").isdigit() and is_own(ip)
            if len(self._own) > 4096:
                self._own = {self.bound: True, self.address: True}
            self._own[address] = known
        return known

    # --- turns --------------------------------------------------------------------------------------------------------

    def _ask_turn(self) -> None:
        self.loop.call_soon(self.scheduler.turn)

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
        if self._when_clear and not self.scheduler.ready:
            callbacks, self._when_clear = self._when_clear, []
            for callback in callbacks:
                callback()

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

    def when_clear(self, callback: Callable[[], None]) -> None:
        """Call when no events wait any more."""
        self._when_clear.append(callback)

    # --- processes ----------------------------------------------------------------------------------------------------

    def bind(self, process: Process) -> Cell:
        """Give a process its cell and its PID.

        Raises:
            InvalidProcess: the name is taken, or the process is bound already or cannot be.
            ContextStopped: the context is stopping.
        """
        if self.stopping:
            raise ContextStopped("the context is stopping: no process can be spawned on it")
        id_ = process._compactor_id  # noqa: SLF001 - ours
        if id_ is None:
            raise InvalidProcess(f"{type(process).__name__}.__init__ did not call super().__init__(name)")
        if process._compactor_cell is not None:  # noqa: SLF001
            raise InvalidProcess(f"{process!r} is bound already: a process is spawned once, make another one")
        if id_ in self.cells:
            raise InvalidProcess(
                f"the id {id_!r} is taken by {self.cells[id_].pid} on this context: "
                "terminate that first, or choose another name (unique_id makes one)"
            )
        tables = tables_of(type(process))
        if tables.routes and self._bridge is None:
            self._load_bridge()
        cell = Cell(self, process, local_pid(self.address, id_), tables, f"{self.random.getrandbits(64):016x}")
        cell.delegates = process._compactor_delegates  # noqa: SLF001
        self.cells[id_] = cell
        process._compactor_cell = cell  # noqa: SLF001
        self.counters["spawned"] += 1
        return cell

    def spawn_here(self, process: Process) -> PID:
        """Spawn on the context's own thread: a plain `initialize` runs at once."""
        cell = self.bind(process)
        raised: list[BaseException] = []
        cell.serve_first(InitializeEvent(lambda error: raised.append(error) if error is not None else None))
        if raised:
            raise raised[0]
        return cell.pid

    def spawn_for(self, process: Process, done: Callable[[PID | None, BaseException | None], None]) -> None:
        """Spawn for another thread, which waits."""
        try:
            cell = self.bind(process)
        except Exception as error:  # noqa: BLE001 - it is raised where the spawn was called
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
        cell.process._compactor_cell = None  # noqa: SLF001 - ours
        self.counters["terminated"] += 1
        for linker, pid in self.links.ended(cell):
            self._tell(linker, pid, reason)
        self.asks.target_ended(cell.pid, reason)
        if cell.watchers:
            for (connection, linker), (nonce, _) in cell.watchers.items():
                connection.watchers.pop((cell, linker), None)  # type: ignore[attr-defined]
                if not self.stopping:
                    self._notify(cell.pid, linker, nonce, reason)
            cell.watchers = None
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

    def set_per_sender(self, address: Address) -> None:
        """Treat a peer as mesos-go from its first message."""
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

    def _send(self, sender: PID, to: PID, name: str, body: bytes) -> None:
        out = self._routes.get((sender, to, name))
        if out is None:
            _check(to, name)
            address = self._resolve(to, lambda: self._send(sender, to, name, body), self._lost(sender, to, name, body))
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
        elif not self._to_one_time(Envelope(sender, to.id, name), body):
            self.undelivered(sender, to, name, len(body), "no such process")

    def put_again(self, out: LocalOut, body: bytes) -> None:
        """The process of a remembered route has ended; another may have its id now."""
        self._routes.pop((out.sender, out.to, out.name), None)
        self._send_here(out.sender, out.to, out.name, body)

    def _remember(self, sender: PID, to: PID, name: str, out: LocalOut | Outgoing) -> None:
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        self._routes[sender, to, name] = out

    def forget_routes(self) -> None:
        """Lanes have changed."""
        self._routes.clear()

    def forward(self, sender: PID, to: PID, name: str, body: bytes) -> None:
        """Pass a delegated message on, with its sender."""
        self.counters["delegated"] += 1
        self._send(sender, to, name, body)

    def _lost(self, sender: PID, to: PID, name: str, body: bytes) -> Callable[[str], None]:
        return lambda reason: self.undelivered(sender, to, name, len(body), reason)

    def peer(self, address: Address) -> Peer:
        """Return the peer at an address."""
        peer = self.peers.get(address)
        if peer is None:
            peer = self.peers[address] = Peer(self, address, per_sender=address in self.go_peers)
        return peer

    def peer_idle(self, peer: Peer) -> None:
        """A peer has nothing left: forget it."""
        if self.peers.get(peer.address) is peer and not self.links.has(peer.address):
            del self.peers[peer.address]
            self.forget_routes()

    def jitter(self) -> float:
        """Return a random factor for a pause."""
        return self.random.uniform(0.5, 1.0)

    # --- names --------------------------------------------------------------------------------------------------------

    def _resolve(self, to: PID, again: Callable[[], None], failed: Callable[[str], None]) -> Address | None:
        """Return the address of a PID with its name resolved, or None: then `again` or `failed` is called later.

        What goes to another name or number while one with the same port is being looked up waits behind it: they may
        be the same process, and a message must not overtake an earlier one.
        """
        ip, port = to.address
        for waiting in self._waiting:
            if waiting.port == port:
                waiting.calls.append((again, failed))
                if waiting.name != ip and self._name_of(to) is not None and self._known(ip) is None:
                    self._look_up(ip, port)
                return None
        name = self._name_of(to)
        if name is None:
            return to.address
        known = self._known(name)
        if known is not None:
            return known, port
        self.forget_routes()
        self._look_up(name, port).calls.append((again, failed))
        return None

    @staticmethod
    def _name_of(to: PID) -> str | None:
        ip = to.ip
        return None if ":" in ip or ip.replace(".", "").isdigit() else ip

    def _known(self, name: str) -> str | None:
        entry = self._names.get(name)
        if entry is None or (entry[1] < self.loop.time() and not self._routes):
            return None
        return entry[0]

    def _look_up(self, name: str, port: int) -> _Waiting:
        waiting = _Waiting(name, port)
        self._waiting.append(waiting)
        self.loop.create_task(self._resolve_name(waiting))  # noqa: RUF006 - `_waiting` keeps what it works on
        return waiting

    async def _resolve_name(self, waiting: _Waiting) -> None:
        reason = ""
        try:
            found = await self.loop.getaddrinfo(waiting.name, waiting.port, type=1)
            self._names[waiting.name] = (str(found[0][4][0]), self.loop.time() + _NAME_SECONDS)
        except OSError as error:
            reason = f"the name {waiting.name!r} cannot be resolved: {reason_of(error)}"
        self._waiting.remove(waiting)
        for again, failed in waiting.calls:
            if reason:
                failed(reason)
            else:
                again()

    # --- questions ----------------------------------------------------------------------------------------------------

    def _ask(
        self, ask: Ask[Any], to: PID, name: str, body: bytes, timeout: float | None, convert: Convert | None
    ) -> None:
        self.ask_number += 1
        id_ = f"{ONE_TIME}{self.token}-{self.ask_number:x}"

        def finish(answer: tuple[PID, str, bytes] | None, reason: str) -> None:
            if answer is None:
                kind = AskTimeout if reason == "timed out" else AskError
                ask.finish(None, kind(f"{to} did not answer {name!r}: {reason}", reason))
                return
            try:
                ask.finish(convert(*answer) if convert is not None else Message(*answer), None)
            except AskError as error:
                ask.finish(None, error)

        pending = Pending(to, finish)
        self.asks.add(id_, pending)
        if timeout is not None:
            pending.timer = self.loop.call_later(timeout, self._ask_timed_out, id_)
        if self.stopping:
            self.asks.failed(id_, "the context stopped")
            return
        self._send(local_pid(self.address, id_), to, name, body)

    def _ask_timed_out(self, id_: str) -> None:
        self.counters["asks_timed_out"] += 1
        self.asks.failed(id_, "timed out")

    def _to_one_time(self, envelope: Envelope, body: bytes) -> bool:
        if not envelope.id.startswith(ONE_TIME):
            return False
        if not self.asks.answered(envelope.id, envelope.sender, envelope.name, body):
            self.counters["late_answers"] += 1
        return True

    # --- links --------------------------------------------------------------------------------------------------------

    def _link(self, cell: Cell, to: PID, reconnect: bool) -> None:
        if cell.state is ENDED:
            return
        address = self._resolve(to, lambda: self._link(cell, to, reconnect), lambda why: self._tell(cell, to, why))
        if address is None:
            return
        if self.is_own(address):
            target = self.cells.get(to.id)
            if target is None:
                self._tell(cell, to, "no such process")
            else:
                self.links.local(cell, target, to)
            return
        peer = self.peer(address)
        link = self.links.remote(cell, to, address, f"{random.SystemRandom().getrandbits(128):032x}")
        if reconnect:
            peer.lane(cell.pid).retire(RECONNECT_SECONDS)
        if link is None and reconnect:
            link = next(known for known in self.links.at(address) if known.cell is cell and known.pid is to)
        if link is not None:
            self._refresh(peer, link)
            if address not in self._refreshing:
                self._watch(address, peer)

    def _refresh(self, peer: Peer, link: Link) -> None:
        """Say (again) that we watch, and learn from the answer whether the linkee lives."""
        pid = link.cell.pid
        body = b"%b %d" % (link.nonce.encode(), max(1, round(self.refresh_seconds)))
        head = encode_head(pid, link.pid, LINK)
        Refresh(pid, link.pid, LINK, head, peer.lane(pid), body, partial(self._link_answered, link)).send()

    def _link_answered(self, link: Link, answer: Answer) -> None:
        """Believe a compactor's word about its process, and nobody else's: mesos-go answers 404 to any unknown name."""
        if not link.alive or not answer.headers.get("server", "").startswith("compactor/"):
            return
        if answer.status == 404:
            self._linkee_gone(link, "no such process" if link.incarnation is None else "terminated")
        elif answer.status == 202:
            incarnation = answer.headers.get("compactor-incarnation")
            if link.incarnation is None:
                link.incarnation = incarnation
            elif incarnation != link.incarnation:
                self._linkee_gone(link, "terminated; another process has its PID now")

    def _linkee_gone(self, link: Link, reason: str) -> None:
        if self.links.take(link):
            self._tell(link.cell, link.pid, reason)
        self.asks.target_ended(link.pid, reason)

    def _tell(self, linker: Cell, pid: PID, reason: str) -> None:
        """Let a process know that one it watched is gone."""
        self.counters["exited"] += 1
        log.info("%s: the linked %s is gone: %s", linker.pid, pid, reason)
        if linker.state is not ENDED:
            linker.put((ExitedEvent(pid, reason), None))

    def _watch(self, address: Address, peer: Peer) -> None:
        """Begin to refresh the links to an address, and to judge its silence."""
        now = self.loop.time()
        timer = self.loop.call_later(self.refresh_seconds, self._tick, address)
        self._refreshing[address] = [timer, peer.answers, now]

    def _tick(self, address: Address) -> None:
        links = self.links.at(address)
        if not links:
            del self._refreshing[address]
            return
        peer = self.peer(address)
        entry = self._refreshing[address]
        now = self.loop.time()
        if peer.answers != entry[1]:
            entry[1:] = [peer.answers, now]
        # Only a peer that has answered before can fall silent: some never answer.
        if peer.answers and now - entry[2] >= self.link_silence:
            self.counters["silent_peers"] += 1
            del self._refreshing[address]
            peer.lose(f"silent for {now - entry[2]:.1f} s")
            return
        entry[0] = self.loop.call_later(self.refresh_seconds, self._tick, address)
        for link in links:
            self._refresh(peer, link)

    def needed(self, address: Address) -> bool:
        """Whether a link needs a connection to an address."""
        return self.links.has(address)

    def address_lost(self, address: Address, reason: str, *, gone: bool) -> None:
        """A connection broke, or could not be made: all links to the address break."""
        entry = self._refreshing.pop(address, None)
        if entry is not None:
            entry[0].cancel()
        broken = self.links.broken(address)
        for link in broken:
            self._tell(link.cell, link.pid, reason)
        if broken or gone:
            log.info("lost %s: %s", format_address(address), reason)
        for name in [name for name, (ip, _) in self._names.items() if ip == address[0]]:
            del self._names[name]
            self.forget_routes()

        def at_address(pid: PID) -> bool:
            name = self._name_of(pid)
            return pid.port == address[1] and (pid.ip if name is None else self._known(name)) in (address[0], None)

        if gone:
            self.asks.gone(at_address, reason)
        elif not self.stopping and self.asks.waits_for(at_address):
            # Closed is not gone: whoever answers may do so on a connection of its own. Nobody there is.
            self.peer(address).probe(self.bound_pid)

    @property
    def bound_pid(self) -> PID:
        """A PID of this context that is no process's, for connections on nobody's behalf."""
        return local_pid(self.address, "")

    # --- what connections bring ---------------------------------------------------------------------------------------

    def accept(self, connection: Inbound, request: Request) -> bytes | None:
        """Take a message that is not plain; None when it is an ordinary request."""
        envelope = request.envelope
        if envelope is None:
            return None
        self.messages_received += 1
        if envelope.name == LINK:
            return self._watched(connection, request, envelope)
        if envelope.name == EXITED:
            return self._exit_notice(request, envelope)
        cell = self.cells.get(envelope.id)
        if cell is None:
            answer = self.undeliverable(envelope, request.body)
            return plain_response(request.head, 404, "no such process\n") if answer is not ACCEPTED else _CLOSE
        cell.put((envelope, request.body))
        return _CLOSE

    def undeliverable(self, envelope: Envelope, body: bytes) -> bytes:
        """Take a message to an id that is no process."""
        if envelope.id.startswith(ONE_TIME):
            if self.asks.answered(envelope.id, envelope.sender, envelope.name, body):
                return ACCEPTED
            self.counters["late_answers"] += 1
            return _not_found("late")
        to = local_pid(self.address, envelope.id)
        self.undelivered(envelope.sender, to, envelope.name, len(body), "no such process", answered=True)
        return _not_found("no such process")

    def _watched(self, connection: Inbound, request: Request, envelope: Envelope) -> bytes:
        """Somebody elsewhere watches a process here (the link extension, docs/protocol.md)."""
        parts = _LINK_BODY.fullmatch(request.body)
        if parts is None:
            return plain_response(request.head, 400, "a __link__ carries a nonce and its refresh time\n")
        cell = self.cells.get(envelope.id)
        if cell is None:
            return _not_found("no such process")
        key = (cell, envelope.sender)
        if key in connection.watchers or len(connection.watchers) < _MOST_WATCHERS:
            until = self.loop.time() + _REFRESHES_MISSED * max(1, int(parts[2]))
            connection.watchers[key] = None
            if cell.watchers is None:
                cell.watchers = {}
            cell.watchers[connection, envelope.sender] = (parts[1], until)
        else:
            self.counters["watchers_refused"] += 1
        persistent = "" if request.head.persistent else "Connection: close\r\n"
        return (
            f"HTTP/1.1 202 Accepted\r\n{_SERVER}Compactor-Incarnation: {cell.incarnation}\r\n{persistent}"
            "Content-Length: 0\r\n\r\n"
        ).encode()

    def _exit_notice(self, request: Request, envelope: Envelope) -> bytes:
        """A process that one of ours watches says that it has ended: believed if it knows the link's nonce."""
        cell = self.cells.get(envelope.id)
        parts = _EXITED_BODY.fullmatch(request.body)
        link = self.links.by_nonce(cell, parts[1].decode()) if cell is not None and parts is not None else None
        if link is None or parts is None:
            self.counters["stale_exits"] += 1
        else:
            self._linkee_gone(link, parts[2].decode("utf-8", "replace"))
        return ACCEPTED if request.head.persistent else _CLOSE

    def _notify(self, dead: PID, linker: PID, nonce: bytes, reason: str) -> None:
        """Tell a linker elsewhere; it only speeds things up, so it is not reported when it is lost."""

        def notify() -> None:
            address = self._resolve(linker, notify, lambda why: None)
            if address is not None and not self.is_own(address):
                lane = self.peer(address).lane(dead)
                head = encode_head(dead, linker, EXITED)
                Refresh(dead, linker, EXITED, head, lane, nonce + b" " + reason.encode(), lambda answer: None).send()

        notify()

    def sweep_watchers(self) -> None:
        """Forget remote linkers that have not refreshed for too long."""
        now = self.loop.time()
        for connection in list(self.connections):
            for cell, linker in list(connection.watchers):
                entry = cell.watchers.get((connection, linker)) if cell.watchers else None
                if entry is None or entry[1] < now:
                    self._unwatch(connection, cell, linker)
        self.sweeper = self.loop.call_later(60.0, self.sweep_watchers)

    def _unwatch(self, connection: Inbound, cell: Cell, linker: PID) -> None:
        connection.watchers.pop((cell, linker), None)
        if cell.watchers is not None:
            cell.watchers.pop((connection, linker), None)

    def connection_closed(self, connection: Inbound) -> None:
        """A connection is gone, and the watchers it brought with it."""
        self.connections.discard(connection)
        for cell, linker in list(connection.watchers):
            self._unwatch(connection, cell, linker)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    @property
    def bridge(self) -> Any:
        """What runs routes; tornado is loaded when first needed."""
        if self._bridge is None:
            self._load_bridge()
        return self._bridge

    def _load_bridge(self) -> None:
        from .http.tornado import TornadoBridge  # noqa: PLC0415 - slow to import

        self._bridge = TornadoBridge()

    def serve(self, exchange: InboundExchange) -> None:
        """Find the route of an ordinary request and queue it, or answer at once."""
        head = exchange.head
        path = head.path
        id_, rest = split_target(path)
        cell = self._cell_at(id_)
        delegate = self.context.delegate
        if cell is None and delegate:
            cell = self.cells.get(delegate)
            rest = path
        if cell is None:
            self._respond(exchange, 404, f"no process serves {path}\n")
            return
        found = cell.tables.routes.find(rest)
        if found is None:
            self._respond(exchange, 404, f"{cell.pid.id} has no route for {path}\n")
            return
        function, methods = found
        if head.method not in methods:
            allowed = allow(methods)
            self._respond(exchange, 405, f"{path} takes {allowed}\n", [("Allow", allowed)])
            return
        cell.put((HttpEvent(exchange, function), None))

    def _cell_at(self, segment: str) -> Cell | None:
        try:
            return self.cells.get(decode_id(segment))
        except ValueError:
            return None

    @staticmethod
    def _respond(
        exchange: InboundExchange, status: int, text: str, headers: list[tuple[str, str]] | None = None
    ) -> None:
        exchange.write(plain_response(exchange.head, status, text, headers or []))
        exchange.finish(not exchange.head.persistent)

    # --- what happened ------------------------------------------------------------------------------------------------

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""
        self.counters[what] += number

    def undelivered(
        self, sender: PID, to: PID, name: str, size: int | None, reason: str, *, answered: bool = False
    ) -> None:
        """A message was not delivered, or is not known to be: keep it as a dead letter, and end a question.

        Args:
            answered: it came from elsewhere and its sender is told by the answer.
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
            self.counters["protobuf_errors"] += 1
            log.warning("%s: dropped %r from %s: %s", cell.pid, what, sender, error)
            return
        if what == "initialize":
            return  # raised where the spawn was called
        self.counters["handler_errors"] += 1
        source = f" from {sender}" if sender is not None else ""
        log.error("%s: the handler of %r%s raised", cell.pid, what, source, exc_info=error)

    def statistics(self) -> dict[str, int]:
        """Return all counters. Any thread: what is read is a moment ago."""
        result = {name: self.counters.get(name, 0) for name in _ALWAYS}
        result.update(self.counters.copy())
        result["messages_received"] = self.messages_received
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
        for peer in list(self.peers.values()):
            for lane in peer.lanes:
                lane.drop("the context stopped")
                lane.close()
        for connection in list(self.connections):
            connection.close()
        while self.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.005)
        for connection in list(self.connections):
            connection.abort()
        self.stepper.close()
        for entry in self._refreshing.values():
            entry[0].cancel()
        self.sweeper.cancel()
        await asyncio.sleep(0)

    async def _let_leave(self, deadline: float) -> None:
        """Wait until what was sent has left and was answered; those that never answer are not waited for long."""
        silent_until = min(deadline, self.loop.time() + 0.5)
        while (now := self.loop.time()) < deadline:
            lanes = [lane for peer in self.peers.values() for lane in peer.lanes if lane.under_way]
            answering = any(lane.peer.answers or lane.chunks for lane in lanes)
            if not lanes or (not answering and now > silent_until):
                if not any(connection.owes for connection in self.connections):
                    return
            await asyncio.sleep(0.005)


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


def _not_found(why: str) -> bytes:
    text = f"{why}\n"
    return (
        f"HTTP/1.1 404 Not Found\r\n{_SERVER}Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


def _check(to: PID, name: str) -> None:
    if not isinstance(to, PID):
        raise TypeError(f"a message is sent to a PID, not {to!r}; PID.from_string parses text")
    check_name(name)
    if name in _RESERVED:
        raise ValueError(f"the message name {name!r} is reserved for links")
    if to.port == 0:
        raise ValueError(f"nothing can be sent to {to}: port 0 is nowhere")
