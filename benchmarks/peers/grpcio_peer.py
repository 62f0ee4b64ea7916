"""grpcio, bytes without protobuf: a stream one way, and calls on its asyncio side."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from common import Arrivals, Run, bodies_of, percentiles


def _serve_method(name: str, handler: grpc.RpcMethodHandler) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler("bench", {name: handler})


def sink(run: Run) -> None:
    """Receive one stream of `number` messages and check them."""
    arrivals = Arrivals(run.number, bodies_of(run.size))

    def items(stream: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        for body in stream:
            arrivals.take(body)
        return b""

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([_serve_method("items", grpc.stream_unary_rpc_method_handler(items))])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    run.ready(f"127.0.0.1:{port}")
    arrivals.done.wait()
    arrivals.report(run)
    run.wait_for_end()
    server.stop(0)


def source(run: Run) -> None:
    """Send one stream of `number` messages."""
    bodies = itertools.islice(itertools.cycle(bodies_of(run.size)), run.number)
    with grpc.insecure_channel(run.address) as channel:
        grpc.channel_ready_future(channel).result(10)
        run.wait_for_go()
        began = time.perf_counter()
        channel.stream_unary("/bench/items")(bodies)
        run.wait_for_end()
        run.report(run.number, time.perf_counter() - began, ok=True)


async def _echo(run: Run) -> None:
    async def ping(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return body

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([_serve_method("ping", grpc.unary_unary_rpc_method_handler(ping))])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    run.ready(f"127.0.0.1:{port}")
    await asyncio.to_thread(run.wait_for_end)
    run.report(0, 0.0, ok=True)
    await server.stop(0)


async def _caller(run: Run) -> None:
    bodies = bodies_of(run.size)
    latencies: list[float] = []
    wrong = 0
    numbers = iter(range(run.number))

    async def calls(ping: grpc.aio.UnaryUnaryMultiCallable) -> None:
        nonlocal wrong
        for number in numbers:
            body = bodies[number % len(bodies)]
            asked = time.perf_counter()
            answer = await ping(body)
            latencies.append(time.perf_counter() - asked)
            wrong += answer != body

    async with grpc.aio.insecure_channel(run.address) as channel:
        await channel.channel_ready()
        await asyncio.to_thread(run.wait_for_go)
        began = time.perf_counter()
        ping = channel.unary_unary("/bench/ping")
        await asyncio.gather(*[calls(ping) for _ in range(int(run.options.get("in_flight", 1)))])
        ok = wrong == 0 and len(latencies) == run.number
        run.report(len(latencies), time.perf_counter() - began, ok, **percentiles(latencies))
        await asyncio.to_thread(run.wait_for_end)


def echo(run: Run) -> None:
    """Answer each call with its own bytes."""
    asyncio.run(_echo(run))


def caller(run: Run) -> None:
    """Make `number` calls, `in_flight` at a time."""
    asyncio.run(_caller(run))


if __name__ == "__main__":
    Run().play({"sink": sink, "source": source, "echo": echo, "caller": caller})
