"""tapio-py: two actor systems with a link; `offer` one way, and `ask`."""

from __future__ import annotations

import asyncio
import itertools
import time

from common import Arrivals, Run, bodies_of, percentiles
from tapio import ActorSystem, Behavior, Behaviors, Message, register_message
from tapio.actor import ActorRef
from tapio.remote.address import format_ref
from tapio.settings import RemoteSettings, TapioSettings


@register_message("bench.Item")
class Item(Message):
    body: bytes


@register_message("bench.Pong")
class Pong(Message):
    body: bytes


@register_message("bench.Ping")
class Ping(Message):
    body: bytes
    reply_to: ActorRef[Pong]


def _system(name: str) -> ActorSystem:
    return ActorSystem(name, TapioSettings(remote=RemoteSettings(bind_port=0)))


async def _sink(run: Run) -> None:
    arrivals = Arrivals(run.number, bodies_of(run.size))

    async def on_item(message: Item) -> Behavior[Item]:
        arrivals.take(message.body)
        return Behaviors.same()

    async with _system("sink") as system:
        to = system.spawn(Behaviors.receive_message(on_item), name="sink")
        run.ready(format_ref(system.address, to.path))
        await asyncio.to_thread(arrivals.done.wait)
        arrivals.report(run)
        await asyncio.to_thread(run.wait_for_end)


async def _source(run: Run) -> None:
    async with _system("source") as system:
        to = await system.resolve(run.address, expect=Item)
        items = [Item(body=body) for body in bodies_of(run.size)]
        await asyncio.to_thread(run.wait_for_go)
        began = time.perf_counter()
        for item in itertools.islice(itertools.cycle(items), run.number):
            # Not `tell`, which drops what the buffer of the link does not take.
            await to.offer(item)
        await asyncio.to_thread(run.wait_for_end)
        run.report(run.number, time.perf_counter() - began, ok=True)


async def _echo(run: Run) -> None:
    async def on_ping(message: Ping) -> Behavior[Ping]:
        message.reply_to.tell(Pong(body=message.body))
        return Behaviors.same()

    async with _system("echo") as system:
        to = system.spawn(Behaviors.receive_message(on_ping), name="echo")
        run.ready(format_ref(system.address, to.path))
        await asyncio.to_thread(run.wait_for_end)
        run.report(0, 0.0, ok=True)


async def _caller(run: Run) -> None:
    bodies = bodies_of(run.size)
    latencies: list[float] = []
    wrong = 0
    numbers = iter(range(run.number))

    async def asks(to: ActorRef[Ping]) -> None:
        nonlocal wrong
        for number in numbers:
            body = bodies[number % len(bodies)]
            asked = time.perf_counter()
            answer = await to.ask(lambda reply_to, body=body: Ping(body=body, reply_to=reply_to), expect=Pong)
            latencies.append(time.perf_counter() - asked)
            wrong += answer.body != body

    async with _system("caller") as system:
        to = await system.resolve(run.address, expect=Ping)
        await asyncio.to_thread(run.wait_for_go)
        began = time.perf_counter()
        await asyncio.gather(*[asks(to) for _ in range(int(run.options.get("in_flight", 1)))])
        ok = wrong == 0 and len(latencies) == run.number
        run.report(len(latencies), time.perf_counter() - began, ok, **percentiles(latencies))
        await asyncio.to_thread(run.wait_for_end)


def sink(run: Run) -> None:
    """Receive `number` messages and check them."""
    asyncio.run(_sink(run))


def source(run: Run) -> None:
    """Send `number` messages."""
    asyncio.run(_source(run))


def echo(run: Run) -> None:
    """Answer each question with its own bytes."""
    asyncio.run(_echo(run))


def caller(run: Run) -> None:
    """Ask `number` questions, `in_flight` at a time."""
    asyncio.run(_caller(run))


if __name__ == "__main__":
    Run().play({"sink": sink, "source": source, "echo": echo, "caller": caller})
