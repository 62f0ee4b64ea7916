"""Ordinary HTTP requests: which process and which of its routes answers, and the event that its mailbox gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._runtime.cell import Cell, Event
from .http.exchange import Exchange, plain_response
from .http.routes import allow, split_target
from .wire.encoder import decode_id

if TYPE_CHECKING:
    from ._node import Node
    from .http.tornado import TornadoBridge


class HttpEvent(Event):
    """A request for a route of the process. An asynchronous route does not hold the mailbox."""

    __slots__ = ("_exchange", "_function", "_serving", "what")

    def __init__(self, serving: Serving, exchange: Exchange, function: Callable[..., Any]) -> None:
        self._serving = serving
        self._exchange = exchange
        self._function = function
        self.what = f"{exchange.head.method} {exchange.head.path}"

    def run(self, cell: Cell) -> None:
        """Start the route, unless the client has gone away meanwhile."""
        if self._exchange.lost:
            return
        process, function = cell.process, self._function

        def failed(error: BaseException | None) -> None:
            if error is not None:
                cell.host.handler_raised(cell, self.what, None, error)

        run = self._serving.bridge.start(self._exchange, lambda handler: function(process, handler), failed)
        cell.host.step(run, failed)

    def dropped(self, cell: Cell, reason: str) -> None:
        """The process ended first."""
        super().dropped(cell, reason)
        _respond(self._exchange, 503, f"{cell.pid.id} has ended: {reason}\n")


class Serving:
    """Finds who answers a request. Touched only by the context thread."""

    __slots__ = ("_bridge", "_delegate", "_node")

    def __init__(self, node: Node, delegate: str) -> None:
        self._node = node
        self._delegate = delegate
        self._bridge: TornadoBridge | None = None

    @property
    def bridge(self) -> TornadoBridge:
        """What runs routes; made when first asked for, because tornado is slow to import."""
        if self._bridge is None:
            from .http.tornado import TornadoBridge

            self._bridge = TornadoBridge()
        return self._bridge

    def serve(self, exchange: Exchange) -> None:
        """Queue a request for its route, or answer that there is none.

        `/<id>/...` goes to the process of that id, anything else to the delegate, if there is one.
        """
        head = exchange.head
        segment, rest = split_target(head.path)
        cell = self._process(segment)
        if cell is None and self._delegate:
            cell = self._node.cells.get(self._delegate)
            rest = head.path
        if cell is None:
            _respond(exchange, 404, f"no process serves {head.path}\n")
            return
        found = cell.tables.routes.find(rest)
        if found is None:
            _respond(exchange, 404, f"{cell.pid.id} has no route for {head.path}\n")
            return
        function, methods = found
        if head.method in methods:
            cell.put((HttpEvent(self, exchange, function), None))
        else:
            allowed = allow(methods)
            _respond(exchange, 405, f"{head.path} takes {allowed}\n", [("Allow", allowed)])

    def _process(self, segment: str) -> Cell | None:
        try:
            return self._node.cells.get(decode_id(segment))
        except ValueError:
            return None


def _respond(exchange: Exchange, status: int, text: str, headers: list[tuple[str, str]] | None = None) -> None:
    exchange.write(plain_response(exchange.head, status, text, headers or []))
    exchange.finish(not exchange.head.persistent)
