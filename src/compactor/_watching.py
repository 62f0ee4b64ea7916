"""Links across contexts: the link extension of docs/protocol.md, on both of its sides.

As a linker: `__link__` goes to the linkee's id when the link is made and again and again on the linker's own
connection; its answer is the truth about the linkee. As the linkee's context: the answer names the incarnation of the
process, and when the process ends a notice goes to those who watch it, which only speeds things up.
"""

from __future__ import annotations

import asyncio
import random
import re
from functools import partial
from typing import TYPE_CHECKING, Final

from ._aio.inbound import ACCEPTED, CLOSING, Inbound
from ._aio.outbound import Refresh
from ._aio.peers import RECONNECT_SECONDS, Peer
from ._runtime.cell import ENDED, Cell
from ._runtime.links import Link, Links
from .http.exchange import SERVER, plain_response
from .messages import Envelope
from .pid import PID
from .wire.answers import Answer
from .wire.decoder import Request
from .wire.encoder import EXITED, LINK, encode_head

if TYPE_CHECKING:
    from ._node import Node

Address = tuple[str, int]

_LINK_BODY: Final = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,6})")
_EXITED_BODY: Final = re.compile(rb"([0-9a-f]{32}) (.{0,1000})", re.DOTALL)
_MOST_WATCHERS: Final = 100_000  # per connection
_REFRESHES_MISSED: Final = 4
_SWEEP_SECONDS: Final = 60.0
_LONGEST_REFRESH: Final = 5.0
"""mesos-go closes a connection on which it has accepted nothing for 10 s, and it does not know a `__link__`."""


class _Watch:
    """One address that links lead to: when it was heard of last (loop time)."""

    __slots__ = ("answers", "heard", "timer")

    def __init__(self, timer: asyncio.TimerHandle, answers: int, heard: float) -> None:
        self.timer = timer
        self.answers = answers
        self.heard = heard

    def excuse(self, now: float) -> None:
        """Count no silence for the time in which we were deaf: a handler held our own loop past the timer."""
        self.heard += max(0.0, now - self.timer.when())


class Watching:
    """The links of one context to and from others. Touched only by the context thread."""

    __slots__ = ("_node", "_refresh_seconds", "_secrets", "_silence", "_sweeper", "_watches", "links")

    def __init__(self, node: Node, silence: float) -> None:
        self.links = Links()
        self._node = node
        self._silence = silence
        self._refresh_seconds = min(silence / 3, _LONGEST_REFRESH)
        self._secrets = random.SystemRandom()
        self._watches: dict[Address, _Watch] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    # --- as a linker --------------------------------------------------------------------------------------------------

    def link(self, cell: Cell, to: PID, reconnect: bool) -> None:
        """Let a local process watch another."""
        node = self._node
        if cell.state is ENDED:
            return
        address = node.names.resolve(to, lambda: self.link(cell, to, reconnect), lambda why: node.tell(cell, to, why))
        if address is None:
            return
        if node.is_own(address):
            target = node.cells.get(to.id)
            if target is None:
                node.tell(cell, to, "no such process")
            else:
                self.links.local(cell, target, to)
            return
        peer = node.peer(address)
        link = self.links.remote(cell, to, address, f"{self._secrets.getrandbits(128):032x}")
        if reconnect:
            peer.lane(cell.pid).retire(RECONNECT_SECONDS)
            link = link or self.links.find(cell, to, address)
        if link is not None:
            self._refresh(peer, link)
            if address not in self._watches:
                timer = node.loop.call_later(self._refresh_seconds, self._tick, address)
                self._watches[address] = _Watch(timer, peer.answers, node.loop.time())

    def _refresh(self, peer: Peer, link: Link) -> None:
        """Say (again) that we watch, and learn from the answer whether the linkee lives."""
        pid = link.cell.pid
        body = b"%b %d" % (link.nonce.encode(), max(1, round(self._refresh_seconds)))
        head = encode_head(pid, link.pid, LINK)
        Refresh(pid, link.pid, LINK, head, peer.lane(pid), body, partial(self._answered, link)).send()

    def _answered(self, link: Link, answer: Answer) -> None:
        """Believe a compactor's word about its process, and nobody else's: mesos-go answers 404 to any unknown name."""
        if not link.alive or not answer.headers.get("server", "").startswith("compactor/"):
            return
        if answer.status == 404:
            self._gone(link, "no such process" if link.incarnation is None else "terminated")
        elif answer.status == 202:
            incarnation = answer.headers.get("compactor-incarnation")
            if link.incarnation is None:
                link.incarnation = incarnation
            elif incarnation != link.incarnation:
                self._gone(link, "terminated; another process has its PID now")

    def _gone(self, link: Link, reason: str) -> None:
        if self.links.take(link):
            self._node.tell(link.cell, link.pid, reason)
        self._node.asks.target_ended(link.pid, reason)

    def _tick(self, address: Address) -> None:
        """Judge the silence of a linked address, and refresh the links to it."""
        node = self._node
        watch = self._watches[address]
        links = self.links.at(address)
        if not links:
            del self._watches[address]
            return
        peer = node.peer(address)
        now = node.loop.time()
        watch.excuse(now)
        if peer.answers != watch.answers:
            watch.answers, watch.heard = peer.answers, now
        # Only a peer that has answered before can fall silent: some never answer.
        if peer.answers and now - watch.heard >= self._silence:
            node.count("silent_peers")
            reason = f"silent for {now - watch.heard:.1f} s"
            # First, so that nothing a process does when it is told goes to the connection that is given up.
            peer.lose(reason)
            node.address_lost(address, reason, gone=True)
            return
        watch.timer = node.loop.call_later(self._refresh_seconds, self._tick, address)
        # A peer that reads nothing would pile them up.
        stuck = {lane for lane in peer.lanes if lane.specials}
        for link in links:
            if peer.lane(link.cell.pid) not in stuck:
                self._refresh(peer, link)

    def address_lost(self, address: Address, reason: str) -> int:
        """A connection broke, or could not be made: all links to the address break. Return how many did."""
        watch = self._watches.pop(address, None)
        if watch is not None:
            watch.timer.cancel()
        broken = self.links.broken(address)
        for link in broken:
            self._node.tell(link.cell, link.pid, reason)
        return len(broken)

    def exit_notice(self, request: Request, envelope: Envelope) -> bytes:
        """A process that one of ours watches is said to have ended: believed if it knows the link's nonce."""
        cell = self._node.cells.get(envelope.id)
        parts = _EXITED_BODY.fullmatch(request.body)
        link = self.links.by_nonce(cell, parts[1].decode()) if cell is not None and parts is not None else None
        if link is None or parts is None:
            self._node.count("stale_exits")
        else:
            self._gone(link, parts[2].decode("utf-8", "replace"))
        return ACCEPTED if request.head.persistent else CLOSING

    # --- as the linkee's context --------------------------------------------------------------------------------------

    def watched(self, connection: Inbound, request: Request, envelope: Envelope) -> bytes:
        """Somebody elsewhere watches a process here; return the answer that tells whether it lives."""
        head = request.head
        parts = _LINK_BODY.fullmatch(request.body)
        if parts is None:
            return plain_response(head, 400, "a __link__ carries a nonce and its refresh time\n")
        cell = self._node.cells.get(envelope.id)
        if cell is None:
            return plain_response(head, 404, "no such process\n")
        key = (cell, envelope.sender)
        if key in connection.watchers or len(connection.watchers) < _MOST_WATCHERS:
            connection.watchers[key] = None
            if cell.watchers is None:
                cell.watchers = {}
            until = self._node.loop.time() + _REFRESHES_MISSED * max(1, int(parts[2]))
            cell.watchers[connection, envelope.sender] = (parts[1], until)
            if self._sweeper is None:
                self._sweeper = self._node.loop.call_later(_SWEEP_SECONDS, self._sweep)
        else:
            self._node.count("watchers_refused")
        persistent = "" if head.persistent else "Connection: close\r\n"
        return (
            f"HTTP/1.1 202 Accepted\r\nServer: {SERVER}\r\nCompactor-Incarnation: {cell.incarnation}\r\n{persistent}"
            "Content-Length: 0\r\n\r\n"
        ).encode()

    def ended(self, cell: Cell, reason: str) -> None:
        """A process here has ended: tell who watched it, here and elsewhere."""
        node = self._node
        for linker, pid in self.links.ended(cell):
            node.tell(linker, pid, reason)
        watchers, cell.watchers = cell.watchers, None
        for (connection, watcher), (nonce, _) in (watchers or {}).items():
            connection.watchers.pop((cell, watcher), None)
            if not node.stopping:  # then the connection's end tells it all at once
                self._notify(cell.pid, watcher, nonce, reason)

    def _notify(self, dead: PID, watcher: PID, nonce: bytes, reason: str) -> None:
        """Tell a linker elsewhere. It may be lost, so nobody is told when it is."""
        node = self._node
        again = partial(self._notify, dead, watcher, nonce, reason)
        address = node.names.resolve(watcher, again, lambda why: None) if watcher.port else None
        if address is not None and not node.is_own(address):
            lane = node.peer(address).lane(dead)
            head = encode_head(dead, watcher, EXITED)
            Refresh(dead, watcher, EXITED, head, lane, nonce + b" " + reason.encode(), lambda answer: None).send()

    def _sweep(self) -> None:
        """Forget remote linkers that have not refreshed for too long."""
        node = self._node
        now = node.loop.time()
        self._sweeper = None
        for connection in node.connections:
            for cell, watcher in list(connection.watchers):
                entry = cell.watchers.get((connection, watcher)) if cell.watchers else None
                if entry is None or entry[1] < now:
                    _unwatch(connection, cell, watcher)
        if any(connection.watchers for connection in node.connections):
            self._sweeper = node.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def connection_closed(self, connection: Inbound) -> None:
        """The linkers that a connection brought go with it."""
        for cell, watcher in list(connection.watchers):
            _unwatch(connection, cell, watcher)

    def close(self) -> None:
        """The context stops."""
        for watch in self._watches.values():
            watch.timer.cancel()
        self._watches.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()


def _unwatch(connection: Inbound, cell: Cell, watcher: PID) -> None:
    connection.watchers.pop((cell, watcher), None)
    if cell.watchers is not None:
        cell.watchers.pop((connection, watcher), None)
