"""Runs a route function with a live tornado `RequestHandler`, on our own connection.

Tornado makes the request object and the handler; `_Connection` stands where its HTTP/1 connection would be and decides
how the response is framed (RFC 9112, 6): a length where one is known, else chunks for an HTTP/1.1 client, else the end
of the connection. No IOLoop, IOStream or HTTPServer takes part.

A response that cannot be completed is cut off by closing the connection, never ended as if it were whole.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, NoReturn, cast

from tornado import gen
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPOutputError,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from ..wire import grammar
from .exchange import SERVER, Exchange, connection_option, has_body, plain_response, response_head

_log = logging.getLogger("compactor.http")

_JOINED_UP_TO: Final = 65536
"""Bytes of one response part that are joined into one write; more is not copied again for that."""


class _Peer:
    """What tornado reads from a connection about the other end."""

    __slots__ = ("protocol", "remote_ip")

    def __init__(self, remote_ip: str) -> None:
        self.remote_ip = remote_ip
        self.protocol = "http"


class _Connection(HTTPConnection):
    """The connection as tornado sees it: frames one response. Touched only by the context thread."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.context = _Peer(exchange.remote_ip)
        self.started = False  # the head was written
        self.ended = False  # the exchange was finished
        # How the response is framed; set with its head.
        self._close = True
        self._chunked = False
        self._dropping = False  # it answers a HEAD
        self._remaining: int | None = None  # bytes promised and not yet written; None: no promise

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Have `callback` called when the client goes away before the end of the response."""
        self.exchange.on_lost(callback)

    def detach(self) -> NoReturn:
        """Refuse: messages and other requests travel on the same connection."""
        raise RuntimeError("a route cannot take over the connection (no websockets): it carries messages as well")

    def write_headers(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> asyncio.Future[None]:
        """Write the head, framed as version, method and status demand, and the first part of the body.

        Raises:
            ValueError: a header or the reason holds what no head may hold; nothing was written.
            HTTPOutputError: the part is longer than the promised length; nothing was written.
        """
        line, head = cast("ResponseStartLine", start_line), self.exchange.head
        length = headers.get("Content-Length")
        if length is not None and not grammar.LENGTH.fullmatch(length):
            raise ValueError(f"the header Content-Length cannot be {length!r}: use a number of bytes")
        self._dropping = head.method == "HEAD"
        if not has_body(line.code):
            self._remaining = 0
        else:
            self._remaining = None if length is None or self._dropping else int(length)
        open_ended = length is None and has_body(line.code) and not self._dropping
        self._chunked = open_ended and head.minor > 0
        self._close = (
            not head.persistent
            or (open_ended and not self._chunked)
            or "close" in re.split(r"[\s,]+", headers.get("Connection", "").lower())
            # The client goes on waiting for the answer proper.
            or line.code < 200
        )
        # Framing is ours alone: what a handler says of it could only contradict what is sent. RFC 9110, 8.6 forbids a
        # length with 1xx and 204; a 304 may have that of the page it spares.
        ours = {"Connection", "Transfer-Encoding"}
        if not has_body(line.code) and line.code != 304:
            ours.add("Content-Length")
        fields = [(name, value) for name, value in headers.get_all() if name not in ours]
        if self._chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        option = connection_option(head, self._close)
        if option is not None:
            fields.append(("Connection", option))
        encoded = response_head(line.code, line.reason, fields)
        body = self._frame(chunk or b"")
        self.started = True
        return self._send(encoded, *body)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Write the next part of the body; the future is done when it has left, or fails with `StreamClosedError`.

        Raises:
            HTTPOutputError: it is longer than what was promised; the response is cut off.
        """
        if self.ended:
            return self._sent()
        if not self.started:
            raise HTTPOutputError("the headers of a response must be written before its body")
        try:
            body = self._frame(chunk)
        except HTTPOutputError:
            self.abort()
            raise
        return self._send(*body)

    def finish(self) -> None:
        """End the response.

        Raises:
            HTTPOutputError: it is shorter than what was promised; it is cut off.
        """
        if self.ended:
            return
        if not self.started:
            raise HTTPOutputError("the headers of a response must be written before its end")
        if self._remaining and not self.exchange.lost:
            self.abort()
            raise HTTPOutputError(f"the response ends {self._remaining} bytes short of its Content-Length")
        if self._chunked:
            self.exchange.write(b"0\r\n\r\n")
        self._end(self._close or bool(self._remaining))

    def abort(self) -> None:
        """End a response that is not complete: with 500 when nothing of it was written, else by cutting it off."""
        if not self.ended:
            if not self.started:
                self.exchange.write(plain_response(self.exchange.head, 500, "500 Internal Server Error\n", close=True))
            self._end(close=True)

    def _end(self, close: bool) -> None:
        self.ended = True
        self.exchange.finish(close)

    def _frame(self, chunk: bytes) -> tuple[bytes, ...]:
        if self._dropping or not chunk:
            return ()
        if self._remaining is not None:
            if len(chunk) > self._remaining:
                excess = len(chunk) - self._remaining
                raise HTTPOutputError(f"the response is {excess} bytes longer than its status or Content-Length allows")
            self._remaining -= len(chunk)
        return (b"%x\r\n" % len(chunk), chunk, b"\r\n") if self._chunked else (chunk,)

    def _send(self, *parts: bytes) -> asyncio.Future[None]:
        if sum(map(len, parts)) <= _JOINED_UP_TO:
            parts = (b"".join(parts),)
        for part in parts:
            if part:
                self.exchange.write(part)
        return self._sent()

    def _sent(self) -> asyncio.Future[None]:
        if self.ended or self.exchange.lost:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(StreamClosedError())
        else:
            future = self.exchange.drained()
        # Few routes await it; asyncio would complain of each failure that nobody looked at.
        if future.done():
            _look_at(future)
        else:
            future.add_done_callback(_look_at)
        return future


def _look_at(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


class _RouteHandler(RequestHandler):
    """The handler that a route function is given; one per request."""

    def initialize(
        self,
        connection: _Connection,
        call: Callable[[RequestHandler], Any],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._route_connection = connection
        self._route_call = call
        self._route_error = on_error

    def set_default_headers(self) -> None:
        self.set_header("Server", SERVER)

    def _run(self) -> Awaitable[Any] | None:
        return _awaitable(self._route_call(self))

    get = head = post = put = delete = patch = options = _run

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Tell the context, which counts and logs it with the process's name; tornado would log it again."""
        if isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)
        elif isinstance(value, StreamClosedError) and self._route_connection.exchange.lost:
            _log.debug("%s went away before the end of %s", self.request.remote_ip, self.request.uri)
        elif value is not None:
            self._route_error(value)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer with an error page, or cut the response off when its head has left already."""
        if self._route_connection.started:
            # Before finish(), which would write the last chunk and make a broken page look whole.
            self._route_connection.abort()
            if not self._finished:
                self.finish()
            return
        # Tornado sets this before it writes, so also when our connection refused to.
        self._headers_written = False
        super().send_error(status_code, **kwargs)

    def tell_lost(self) -> None:
        """Call the hook, found now: a route function can only set it on this handler."""
        try:
            self.on_connection_close()
        except Exception as error:
            self._route_error(error)


def _awaitable(result: object) -> Awaitable[Any] | None:
    """Return what to await before the request is over, or None for a value that means nothing."""
    if isinstance(result, concurrent.futures.Future):
        return asyncio.wrap_future(result)
    if inspect.isawaitable(result):
        return result
    if isinstance(result, Generator):
        # Made by a generator behind a decorator or a lambda, so that nobody could see what it is.
        return gen.coroutine(lambda: result)()
    return None


def _log_request(handler: RequestHandler) -> None:
    request = handler.request
    _log.debug("%s %s %s -> %d", request.remote_ip, request.method, request.uri, handler.get_status())


class TornadoBridge:
    """Serves requests with tornado handlers; one per context. Touched only by the context thread."""

    def __init__(self) -> None:
        self._application = Application(log_function=_log_request)

    async def start(
        self,
        exchange: Exchange,
        call: Callable[[RequestHandler], Any],
        on_error: Callable[[BaseException], None],
    ) -> None:
        """Serve one request to its end. The first step of the coroutine runs `call`, all of it when it is plain.

        Whatever happens, the exchange is finished exactly once by the end; a client that goes away cancels nothing.

        Args:
            exchange: the request.
            call: the route function; what it returns is awaited when it is awaitable.
            on_error: called for what `call`, its awaitable or `on_connection_close` raised, except
                `tornado.web.HTTPError` and `Finish`, which are answers, and the failed write to a client that is gone.
        """
        connection = _Connection(exchange)
        try:
            request = _request(exchange, connection)
        except HTTPInputError as error:
            exchange.write(plain_response(exchange.head, 400, f"400 Bad Request: {error}\n", close=True))
            exchange.finish(close=True)
            return
        handler = _RouteHandler(self._application, request, connection=connection, call=call, on_error=on_error)
        # Instead of the bound method that the handler's constructor has just set: see tell_lost.
        connection.set_close_callback(handler.tell_lost)
        try:
            # Private, but the only way to run a request within one step: the public ways make a task of it, which
            # starts in a later turn of the loop. tests/http/test_tornado.py fails when a release changes it.
            await handler._execute([])
        finally:
            # Nobody else ends the response when the request was cancelled or its handler detached.
            connection.abort()


def _request(exchange: Exchange, connection: _Connection) -> HTTPServerRequest:
    head = exchange.head
    headers = HTTPHeaders()
    for name, value in head.headers:
        headers.add(name, value)
    return HTTPServerRequest(
        start_line=RequestStartLine(head.method, head.target, f"HTTP/1.{head.minor}"),
        headers=headers,
        body=exchange.body,
        connection=connection,
    )
