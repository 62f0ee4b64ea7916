"""The limit: a bare `asyncio.Protocol` on the bytes that compactor sends, with no more parsing than it takes."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import Callable

from common import BURST, Arrivals, Round, Run, bodies_of, new_loop

ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
WRITE_BYTES = 64 * 1024


def head(port: int, to: str, framing: str) -> bytes:
    """The head of a message, up to its length; chunked as the C++ library writes it."""
    if framing == "chunked":
        return (
            b"POST /%b HTTP/1.1\r\nUser-Agent: libprocess/source@127.0.0.1:9\r\n"
            b"Libprocess-From: source@127.0.0.1:9\r\nConnection: Keep-Alive\r\nHost: 127.0.0.1:%d\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        ) % (to.encode(), port)
    return (
        b"POST /%b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Keep-Alive\r\nUser-Agent: compactor/1.0.0\r\n"
        b"Libprocess-From: source@127.0.0.1:9\r\nContent-Length: "
    ) % (to.encode(), port)


def frame(start: bytes, body: bytes, framing: str) -> bytes:
    if framing == "chunked":
        return b"%b%x\r\n%b\r\n0\r\n\r\n" % (start, len(body), body) if body else start + b"0\r\n\r\n"
    return b"%b%d\r\n\r\n%b" % (start, len(body), body)


class Receiver(asyncio.Protocol):
    """Cuts the stream into bodies."""

    def __init__(self, take: Callable[[bytes], None], framing: str) -> None:
        self.take = take
        self.chunked = framing == "chunked"
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        at = count = 0
        total = len(data)
        take = self.take
        while True:
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                break
            if self.chunked:
                line = data.find(b"\r\n", end + 4)
                if line < 0:
                    break
                start = line + 2
                stop = start + int(data[end + 4 : line], 16)
                after = stop + 7
            else:
                start = end + 4
                stop = after = start + int(data[data.rfind(b" ", at, end) : end])
            if after > total:
                break
            take(data[start:stop])
            at = after
            count += 1
        self.rest = data[at:]
        if count:
            self.transport.write(ANSWER * count)


class Sender(asyncio.Protocol):
    """Writes while the transport takes more, and counts the answers."""

    def __init__(self) -> None:
        self.answered = 0
        self.open = asyncio.Event()
        self.open.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.answered += len(data)

    def pause_writing(self) -> None:
        self.open.clear()

    def resume_writing(self) -> None:
        self.open.set()


def sink(run: Run) -> None:
    """Receive `number` messages and check them."""
    arrivals = Arrivals(run.number, bodies_of(run.size))

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        framing = run.options.get("framing", "length")
        server = await loop.create_server(lambda: Receiver(arrivals.take, framing), "127.0.0.1", 0)
        run.ready(f"sink@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await loop.run_in_executor(None, arrivals.done.wait)
        arrivals.report(run)
        await loop.run_in_executor(None, run.wait_for_end)
        server.close()

    run_in(new_loop(run), serve())


def source(run: Run) -> None:
    """Send `number` messages, as many in a write as a turn of a loop would gather."""
    to, _, port = run.address.partition("@127.0.0.1:")
    framing = run.options.get("framing", "length")
    start = head(int(port), f"{to}/item", framing)
    bodies = itertools.cycle(bodies_of(run.size))

    async def send() -> None:
        loop = asyncio.get_running_loop()
        _, sender = await loop.create_connection(Sender, "127.0.0.1", int(port))
        await loop.run_in_executor(None, run.wait_for_go)
        began = time.perf_counter()
        left = run.number
        while left:
            burst = max(1, min(left, BURST, WRITE_BYTES // max(1, run.size)))
            sender.transport.write(b"".join([frame(start, next(bodies), framing) for _ in range(burst)]))
            left -= burst
            await sender.open.wait()
            await asyncio.sleep(0)
        await loop.run_in_executor(None, run.wait_for_end)
        # Not whether there were answers: a receiver may hold them back from a peer that it takes for the C++ library.
        run.report(run.number, time.perf_counter() - began, ok=not sender.transport.is_closing())
        sender.transport.close()

    run_in(new_loop(run), send())


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def echo(run: Run) -> None:
    """Send back whatever comes."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        run.ready(f"echo@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await loop.run_in_executor(None, run.wait_for_end)
        run.report(0, 0.0, ok=True)
        server.close()

    run_in(new_loop(run), serve())


class Caller(Receiver):
    """Sends the next message when one has come back."""

    def __init__(self, run: Run, start: bytes) -> None:
        super().__init__(self.came, "length")
        self.round = Round(run.number, bodies_of(run.size))
        self.start = start

    def call(self) -> None:
        body = self.round.next()
        if body is not None:
            self.transport.write(frame(self.start, body, "length"))

    def came(self, body: bytes) -> None:
        self.round.take(body)
        self.call()

    def data_received(self, data: bytes) -> None:
        # No answers here: an echo would send them back.
        end = data.find(b"\r\n\r\n")
        if self.rest or end < 0 or len(data) < end + 4 + len(self.round.bodies[0]):
            self.rest += data
            data = self.rest
            end = data.find(b"\r\n\r\n")
            if end < 0 or len(data) < end + 4 + len(self.round.bodies[0]):
                return
            self.rest = b""
        self.came(data[end + 4 :])


def caller(run: Run) -> None:
    """Make `number` round trips, one at a time."""
    port = int(run.address.rpartition(":")[2])

    async def call() -> None:
        loop = asyncio.get_running_loop()
        start = head(port, "echo/ping", "length")
        _, protocol = await loop.create_connection(lambda: Caller(run, start), "127.0.0.1", port)
        await loop.run_in_executor(None, run.wait_for_go)
        protocol.call()
        await loop.run_in_executor(None, protocol.round.done.wait)
        protocol.round.report(run)
        await loop.run_in_executor(None, run.wait_for_end)
        protocol.transport.close()

    run_in(new_loop(run), call())


def connections(run: Run) -> None:
    """Open `connections` connections, send one message on each, and keep them."""
    port = int(run.address.rpartition(":")[2])

    async def hold() -> None:
        loop = asyncio.get_running_loop()
        message = frame(head(port, "bystander/hello", "length"), b"hello", "length")
        senders = []
        for _ in range(int(run.options["connections"])):
            _, sender = await loop.create_connection(Sender, "127.0.0.1", port)
            sender.transport.write(message)
            senders.append(sender)
        while not all(sender.answered for sender in senders):
            await asyncio.sleep(0.01)
        await loop.run_in_executor(None, run.wait_for_go)
        await loop.run_in_executor(None, run.wait_for_end)
        run.report(len(senders), 0.0, ok=not any(sender.transport.is_closing() for sender in senders))
        for sender in senders:
            sender.transport.close()

    run_in(new_loop(run), hold())


def run_in(loop: asyncio.AbstractEventLoop, main) -> None:
    try:
        loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    Run().play({"sink": sink, "source": source, "echo": echo, "caller": caller, "connections": connections})
