"""What the tests share: waiting with a deadline, processes that record, HTTP and raw peers, programs of their own."""

import asyncio
import http.client
import http.server
import os
import pathlib
import queue
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import compactor
from compactor import PID, Process, install

DEADLINE = 20.0
"""Seconds after which a wait counts as failed: far more than any machine needs, and less than the limit of a test."""

TESTS = pathlib.Path(__file__).parent
PACKAGE_ROOT = pathlib.Path(compactor.__file__).parent.parent


def eventually(predicate, what="", timeout=DEADLINE):
    """Return the first true value of `predicate()`; fail when there is none within `timeout` seconds."""
    give_up = time.monotonic() + timeout
    pause = threading.Event()
    while not (value := predicate()):
        assert time.monotonic() < give_up, f"not true within {timeout} s: {what or predicate}"
        pause.wait(0.005)
    return value


def wait_for(event):
    """Wait for a `threading.Event`, and fail when it is not set in time."""
    assert event.wait(DEADLINE), "the event was not set in time"


def in_thread(function, *args):
    """Run `function` in a thread of its own; return a queue that gets ("returned", value) or ("raised", error)."""
    outcome = queue.SimpleQueue()

    def run():
        try:
            outcome.put(("returned", function(*args)))
        except BaseException as error:
            outcome.put(("raised", error))

    threading.Thread(target=run, daemon=True).start()
    return outcome


class Recorder(Process):
    """Queues the messages `note` and `fence`, and exits with their reasons, for a test to take."""

    def __init__(self, name="recorder"):
        super().__init__(name)
        self.seen = queue.SimpleQueue()
        self.exits = queue.SimpleQueue()

    @install("note")
    def note(self, from_pid, body):
        self.seen.put(("note", from_pid, body))

    @install("fence")
    def fence(self, from_pid, body):
        self.seen.put(("fence", from_pid, body))

    def exited(self, pid):
        self.exits.put((pid, self.exit_reason))

    def take(self):
        return self.seen.get(timeout=DEADLINE)

    def take_exit(self):
        return self.exits.get(timeout=DEADLINE)

    def take_until_fence(self):
        """Return the bodies of all notes before the next fence."""
        bodies = []
        while (message := self.take())[0] != "fence":
            bodies.append(message[2])
        return bodies


class Holder(Recorder):
    """A recorder that a message `hold` keeps busy until `release()`, so that what follows must queue."""

    def __init__(self, name="holder"):
        super().__init__(name)
        self.holding = threading.Event()
        self.gate = asyncio.Event()

    @install("hold")
    async def hold(self, from_pid, body):
        self.holding.set()
        await self.gate.wait()

    def hold_now(self, sender):
        sender.send(self.pid, "hold")
        wait_for(self.holding)

    def release(self, context):
        """Open the gate on the loop, after everything that this thread has asked of the context before."""
        opener = _Opener(self.gate)
        context.dispatch(context.spawn(opener), "open_gate")


class _Opener(Process):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def open_gate(self):
        self.gate.set()
        self.terminate()


class Response(NamedTuple):
    """What an HTTP server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def request(pid, path, method="GET", body=None, headers=()):
    """Send one HTTP request to the address of `pid` and return the `Response`."""
    connection = http.client.HTTPConnection(pid.ip, pid.port, timeout=DEADLINE)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def post(pid, name, body=b"", sender="someone@127.0.0.1:9"):
    """Send one libprocess message over a connection of its own and return the status of its answer."""
    headers = {"Libprocess-From": str(sender), "Connection": "Keep-Alive"}
    return request(pid, f"/{pid.id}/{name}", "POST", body, headers).status


class RawPeer:
    """A peer that is no compactor: it queues what is posted to it as (sender, path, body) and answers 202."""

    def __init__(self):
        received = queue.SimpleQueue()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = DEADLINE

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                received.put((PID.from_string(self.headers["Libprocess-From"]), self.path, body))

            def log_message(self, *args):
                pass

        self.received = received
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._thread.join(DEADLINE)
        self._server.server_close()

    def pid(self, id_):
        return PID("127.0.0.1", self._server.server_address[1], id_)

    def take(self):
        return self.received.get(timeout=DEADLINE)


def unused_port(ip="127.0.0.1"):
    """Return a port on which nothing listens."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        probe.bind((ip, 0))
        return probe.getsockname()[1]


def wait_until_port_is_free(port, ip="0.0.0.0"):
    """Wait until somebody else has let go of `port`."""

    def can_be_bound():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ip, port))
            except OSError:
                return False
            return True

    eventually(can_be_bound, f"port {port} is free", timeout=60.0)


def run_program(program, *arguments, env=(), timeout=DEADLINE, expect_silence=False):
    """Run a file (or, given a str, a program text) as an OS process of its own; return it when it has ended by itself.

    The test fails when it is still running after `timeout` seconds, when its exit status is not 0, or when silence is
    expected and it wrote to its standard error.
    """
    source = [str(program)] if isinstance(program, pathlib.Path) else ["-c", program]
    done = subprocess.run(
        [sys.executable, "-W", "error", *source, *arguments],
        env={**os.environ, "PYTHONPATH": f"{PACKAGE_ROOT}{os.pathsep}{TESTS}", **dict(env)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert not (expect_silence and done.stderr), done.stderr
    return done
