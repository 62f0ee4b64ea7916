"""xoscar: actors in the main OS process of two pools; `tell` one way, and awaited calls."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time

import xoscar
from common import Arrivals, Run, bodies_of, percentiles


class Sink(xoscar.Actor):
    def __init__(self) -> None:
        super().__init__()
        self.arrivals = _arrivals

    async def item(self, body: bytes) -> None:
        self.arrivals.take(body)


class Echo(xoscar.Actor):
    async def ping(self, body: bytes) -> bytes:
        return body


_arrivals = Arrivals(0, [b""])


async def _make_pool():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pool = await xoscar.create_actor_pool(f"127.0.0.1:{port}", n_process=0)
    await pool.start()
    return pool


async def _sink(run: Run) -> None:
    global _arrivals  # the pool makes the actor
    _arrivals = arrivals = Arrivals(run.number, bodies_of(run.size))
    pool = await _make_pool()
    await xoscar.create_actor(Sink, uid="sink", address=pool.external_address)
    run.ready(pool.external_address)
    await asyncio.to_thread(arrivals.done.wait)
    arrivals.report(run)
    await asyncio.to_thread(run.wait_for_end)
    await pool.stop()


async def _source(run: Run) -> None:
    pool = await _make_pool()
    to = await xoscar.actor_ref("sink", address=run.address)
    await asyncio.to_thread(run.wait_for_go)
    began = time.perf_counter()
    for body in itertools.islice(itertools.cycle(bodies_of(run.size)), run.number):
        await to.item.tell(body)
    await asyncio.to_thread(run.wait_for_end)
    run.report(run.number, time.perf_counter() - began, ok=True)
    await pool.stop()


async def _echo(run: Run) -> None:
    pool = await _make_pool()
    await xoscar.create_actor(Echo, uid="echo", address=pool.external_address)
    run.ready(pool.external_address)
    await asyncio.to_thread(run.wait_for_end)
    run.report(0, 0.0, ok=True)
    await pool.stop()


async def _caller(run: Run) -> None:
    pool = await _make_pool()
    to = await xoscar.actor_ref("echo", address=run.address)
    bodies = bodies_of(run.size)
    latencies: list[float] = []
    wrong = 0
    numbers = iter(range(run.number))

    async def calls() -> None:
        nonlocal wrong
        for number in numbers:
            body = bodies[number % len(bodies)]
            asked = time.perf_counter()
            answer = await to.ping(body)
            latencies.append(time.perf_counter() - asked)
            wrong += answer != body

    await asyncio.to_thread(run.wait_for_go)
    began = time.perf_counter()
    await asyncio.gather(*[calls() for _ in range(int(run.options.get("in_flight", 1)))])
    ok = wrong == 0 and len(latencies) == run.number
    run.report(len(latencies), time.perf_counter() - began, ok, **percentiles(latencies))
    await asyncio.to_thread(run.wait_for_end)
    await pool.stop()


def sink(run: Run) -> None:
    """Receive `number` messages and check them."""
    asyncio.run(_sink(run))


def source(run: Run) -> None:
    """Tell `number` messages, one behind the other, for order."""
    asyncio.run(_source(run))


def echo(run: Run) -> None:
    """Answer each call with its own bytes."""
    asyncio.run(_echo(run))


def caller(run: Run) -> None:
    """Make `number` calls, `in_flight` at a time."""
    asyncio.run(_caller(run))


if __name__ == "__main__":
    Run().play({"sink": sink, "source": source, "echo": echo, "caller": caller})
