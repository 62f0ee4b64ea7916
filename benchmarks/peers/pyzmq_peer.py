"""pyzmq with its blocking sockets, its fastest way: PUSH to PULL, and DEALER to ROUTER."""

from __future__ import annotations

import itertools
import threading
import time

import zmq
from common import Arrivals, MixedArrivals, Round, Run, bodies_of, mixed_plan


def _socket(kind: int, address: str = "") -> zmq.Socket:
    made = zmq.Context.instance().socket(kind)
    # Nothing may be dropped and the sender need not wait: as our own `send`.
    made.set_hwm(0)
    made.linger = 0
    if address:
        made.connect(address)
    return made


def sink(run: Run) -> None:
    """Receive `number` messages and check them."""
    with _socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        arrivals = Arrivals(run.number, bodies_of(run.size))
        run.ready(f"tcp://127.0.0.1:{port}")
        receive, take = pull.recv, arrivals.take
        for _ in range(run.number):
            take(receive())
        arrivals.report(run)
        run.wait_for_end()


def source(run: Run) -> None:
    """Send `number` messages."""
    with _socket(zmq.PUSH, run.address) as push:
        bodies = itertools.islice(itertools.cycle(bodies_of(run.size)), run.number)
        run.wait_for_go()
        began = time.perf_counter()
        send = push.send
        for body in bodies:
            send(body)
        run.wait_for_end()
        run.report(run.number, time.perf_counter() - began, ok=True)


def mixed_sink(run: Run) -> None:
    """Receive the mix: the first four bytes say who to whom."""
    with _socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        arrivals = MixedArrivals(run.number)
        run.ready(f"tcp://127.0.0.1:{port}")
        streams = {b"%02d%02d" % pair: stream for pair, stream in arrivals.streams.items()}
        receive, take = pull.recv, arrivals.take
        for _ in range(run.number):
            message = receive()
            take(streams[message[:4]], message[4:])
        arrivals.report(run)
        run.wait_for_end()


def mixed_source(run: Run) -> None:
    """Send the mix of `mixed_plan`."""
    with _socket(zmq.PUSH, run.address) as push:
        plan = itertools.cycle([(b"%02d%02d" % (sender, to), body) for sender, to, body in mixed_plan()])
        run.wait_for_go()
        began = time.perf_counter()
        send = push.send
        for to, body in itertools.islice(plan, run.number):
            send(to + body)
        run.wait_for_end()
        run.report(run.number, time.perf_counter() - began, ok=True)


def echo(run: Run) -> None:
    """Send back whatever comes."""
    router = _socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    run.ready(f"tcp://127.0.0.1:{port}")

    def serve() -> None:
        while True:
            router.send_multipart(router.recv_multipart())

    threading.Thread(target=serve, daemon=True).start()
    run.wait_for_end()
    run.report(0, 0.0, ok=True)


def caller(run: Run) -> None:
    """Make `number` round trips, `in_flight` at a time."""
    with _socket(zmq.DEALER, run.address) as dealer:
        trips = Round(run.number, bodies_of(run.size))
        run.wait_for_go()
        send, receive = dealer.send, dealer.recv
        for _ in range(int(run.options.get("in_flight", 1))):
            if (body := trips.next()) is not None:
                send(body)
        for _ in range(run.number):
            trips.take(receive())
            if (body := trips.next()) is not None:
                send(body)
        trips.report(run)
        run.wait_for_end()


if __name__ == "__main__":
    Run().play(
        {
            "sink": sink,
            "source": source,
            "mixed_sink": mixed_sink,
            "mixed_source": mixed_source,
            "echo": echo,
            "caller": caller,
        }
    )
    # The echo's thread still holds its socket, for which the end of an interpreter would wait.
    import os

    os._exit(0)
