"""`Context`: a listening address, an event loop in a thread, and the processes on it; its life from start to stop.

    NEW --start--> RUNNING --stop--> STOPPING --> STOPPED

What a running context does is in `_node`; here is what users call, from any thread, and the thread itself.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from _thread import get_ident
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

from ._node import Node, turns
from ._timer import Timer
from .errors import ContextError, ContextStopped, DifferentContext, InvalidMethod, InvalidProcess, SocketError
from .messages import DeadLetter
from .pid import PID, format_address
from .process import Process
from .settings import listen
from .wire.decoder import DEFAULT_BODY_LIMIT

__all__ = ["Context", "DeadLetter", "Timer"]

log = logging.getLogger("compactor")

NEW, RUNNING, STOPPING, STOPPED = "new", "running", "stopping", "stopped"

SPAWN_SECONDS = 60.0
"""How long a spawn from another thread waits for `initialize`."""
_EXIT_SECONDS = 1.0
_LOST_LOOP = "lost its event loop, which ended before stop()"
_STOP_MARGIN_SECONDS = 5.0


class Context:
    """One listening address with one event loop, and the processes bound to it. Any thread may call it.

    Args:
        delegate: the id of the process that serves HTTP requests for no known process.
        loop: an asyncio loop to use. A running one is joined (no thread is made), an idle one is run in the thread.
        ip: the address to listen on; else `LIBPROCESS_IP`, else all interfaces.
        port: the port; else `LIBPROCESS_PORT`, else any free one.
        advertise_ip, advertise_port: what goes into PIDs, when others reach this host by another address; else
            `LIBPROCESS_ADVERTISE_IP` and `LIBPROCESS_ADVERTISE_PORT`.
        grace: seconds that `stop` gives handlers to end and bytes to leave.
        link_silence: seconds without an answer after which a linked peer counts as gone.
        idle_seconds: how long a connection that no link needs stays open unused.
        body_limit: the largest body that is received, in bytes.

    Raises:
        Context.Error: a bad argument or variable; the message names it.
        Context.SocketError: the address cannot be had.
    """

    Error: ClassVar = ContextError
    SocketError: ClassVar = SocketError
    InvalidProcess: ClassVar = InvalidProcess
    InvalidMethod: ClassVar = InvalidMethod

    _singleton: ClassVar[Context | None] = None
    _singleton_arguments: ClassVar[tuple[str, dict[str, Any]]] = ("", {})
    _singleton_lock: ClassVar = threading.RLock()

    def __init__(
        self,
        delegate: str = "",
        loop: asyncio.AbstractEventLoop | None = None,
        ip: str | None = None,
        port: int | None = None,
        *,
        advertise_ip: str | None = None,
        advertise_port: int | None = None,
        grace: float = 5.0,
        link_silence: float = 45.0,
        idle_seconds: float = 60.0,
        body_limit: int = DEFAULT_BODY_LIMIT,
    ) -> None:
        _check_seconds("grace", grace, least=0.0)
        _check_seconds("link_silence", link_silence, least=0.001)
        _check_seconds("idle_seconds", idle_seconds, least=0.001)
        self.delegate = delegate
        self.grace = grace
        self.link_silence = link_silence
        self.idle_seconds = idle_seconds
        self.body_limit = body_limit
        listening = listen(ip, port, advertise_ip, advertise_port)
        self._sock = listening.sock
        self._unbind = weakref.finalize(self, listening.sock.close)  # for a context that is never started
        self._bound = listening.bound
        self._advice = listening.advice
        self._advice_level = logging.WARNING if listening.alone else logging.INFO
        self.ip, self.port = listening.advertised
        self.name = f"CompactorContext({format_address(listening.advertised)})"
        self.daemon = True
        self._given_loop = loop
        self._lock = threading.RLock()
        self._state = NEW
        self._ended = threading.Event()
        self._gone = "has been stopped"
        self._waits: set[threading.Event] = set()
        self._node: Node | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._listen_task: asyncio.Task[None] | None = None
        self._stop_task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Context {format_address((self.ip, self.port))} {self._state}>"

    def __str__(self) -> str:
        return f"Context({format_address((self.ip, self.port))})"

    def __contains__(self, pid: object) -> bool:
        node = self._node
        return node is not None and isinstance(pid, PID) and pid.id in node.cells and node.is_own(pid.address)

    # --- life ---------------------------------------------------------------------------------------------------------

    @classmethod
    def singleton(cls, delegate: str = "", **kw: Any) -> Context:
        """Return the global context, made and started at first use, and again after it was stopped.

        Raises:
            Context.Error: it runs with other arguments.
        """
        with cls._singleton_lock:
            current = cls._singleton
            if current is None or current._state in (STOPPING, STOPPED):
                current = cls._singleton = cls(delegate=delegate, **kw)
                cls._singleton_arguments = (delegate, kw)
            elif (delegate or kw) and (delegate, kw) != cls._singleton_arguments:
                raise DifferentContext(
                    f"the global context runs already, with delegate={cls._singleton_arguments[0]!r} and "
                    f"{cls._singleton_arguments[1]!r}; asked for delegate={delegate!r} and {kw!r}: "
                    "stop it first, or make a Context of your own"
                )
            current.start()
            return current

    def start(self) -> None:
        """Begin to serve. Spawning does it too; once is enough, and more does no harm.

        Raises:
            ContextStopped: it was stopped: a context lives once.
        """
        with self._lock:
            if self._state in (STOPPING, STOPPED):
                raise ContextStopped(f"{self} has been stopped and cannot be started again: make a new one")
            if self._state == RUNNING:
                return
            self._begin()
            self._state = RUNNING
        _running.add(self)
        if self._advice:
            log.log(self._advice_level, "%s: %s", self, self._advice)

    def _begin(self) -> None:
        loop = self._given_loop
        self._unbind.detach()
        if loop is not None and loop.is_running():
            self._node = node = Node(self, loop, self._bound, (self.ip, self.port), interruptible=True)
            if _running_loop() is loop:
                self._open(node)
                self._listen_task = loop.create_task(self._listen(node))
            else:
                opened = threading.Event()

                def begin() -> None:
                    self._open(node)
                    self._listen_task = loop.create_task(self._listen(node))
                    opened.set()

                loop.call_soon_threadsafe(begin)
                opened.wait()
            return
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self.name, daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._disown("could not start")
            raise ContextError(f"{self} could not start: {self._failure}") from self._failure

    def _open(self, node: Node) -> None:
        node.thread = get_ident()

    async def _listen(self, node: Node) -> None:
        from ._aio.inbound import Inbound

        self._server = await node.loop.create_server(lambda: Inbound(node), sock=self._sock, backlog=4096)

    def _run(self, ready: threading.Event) -> None:
        """The context's thread."""
        loop = self._given_loop or asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            self._node = node = Node(self, loop, self._bound, (self.ip, self.port), interruptible=False)
            self._open(node)
            loop.run_until_complete(self._listen(node))
        except BaseException as error:
            self._failure = error
            ready.set()
            return
        ready.set()
        try:
            while self._stop_task is None or not self._stop_task.done():
                try:
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:
                    # A task that raised it has told whoever waits for it; for the others the context goes on.
                    log.debug("%s: %r came out of a handler", self, error)
        finally:
            self._finish_loop(loop)
            self._stopped()

    def _finish_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            if self._given_loop is None:
                loop.close()

    def _stopped(self) -> None:
        self._state = STOPPED
        _running.discard(self)
        for event in list(self._waits):
            event.set()
        self._ended.set()

    def stop(self, grace: float | None = None) -> None:
        """End all processes, let what was sent leave, close everything and free the port.

        From another thread it returns when that is done; on the context's own thread it begins it and returns at once.
        More than once is once.

        Args:
            grace: seconds that handlers and unsent bytes get at most; the context's own when left out.
        """
        grace = self.grace if grace is None else grace
        if self._state == RUNNING and self._thread is None and self._stop_lost_loop(grace):
            return
        with self._lock:
            if self._state == NEW:
                self._unbind()
                self._stopped()
            node = self._node
            if self._state == STOPPED and node is None:
                return
            assert node is not None
            if self._state == RUNNING:
                self._state = STOPPING
                log.info("stopping %s", self)
                if get_ident() == node.thread:
                    self._begin_stop(grace)
                else:
                    node.portal.submit(self._begin_stop, grace)
        if get_ident() == node.thread:
            return
        if not self._ended.wait(grace + _STOP_MARGIN_SECONDS):
            busy = node.scheduler.current
            where = f": a handler of {busy.pid} does not return" if busy is not None else ""
            log.error("%s did not stop within %.1f s%s", self, grace + _STOP_MARGIN_SECONDS, where)
        elif self._thread is not None:
            self._thread.join(_STOP_MARGIN_SECONDS)

    def _stop_lost_loop(self, grace: float) -> bool:
        """Stop on a loop of the user's that does not run any more; True when it was so."""
        node = self._node
        assert node is not None
        if node.loop.is_running():
            return False
        self._state = STOPPING
        if not node.loop.is_closed() and _running_loop() is None:
            node.thread = get_ident()
            node.loop.run_until_complete(self._shut_down(node, grace))
        else:
            log.error("%s %s: nothing more of it leaves", self, _LOST_LOOP)
            self._disown(_LOST_LOOP)
        return True

    def _disown(self, why: str) -> None:
        """Nobody will run this context any more: free what can be freed without a loop, and end all waits."""
        node = self._node
        self._gone = why
        self._sock.close()
        if node is not None:
            node.disown(why)
        self._stopped()

    def _begin_stop(self, grace: float) -> None:
        node = self._node
        assert node is not None
        node.stopping = True
        if self._stop_task is None:
            self._stop_task = node.loop.create_task(self._shut_down(node, grace))

    async def _shut_down(self, node: Node, grace: float) -> None:
        try:
            if self._listen_task is not None:
                await self._listen_task
            assert self._server is not None
            # Accept no more, let what is being accepted become a connection, and only then close: asyncio loses the
            # socket of a connection that is made while its server closes.
            node.loop.remove_reader(self._sock.fileno())
            await turns(3)
            self._server.close()
            await node.shut_down(grace)
        except Exception:  # whatever it is, the thread has to end
            log.exception("%s did not shut down in order", self)
        finally:
            node.thread = -1
            if self._thread is not None:
                node.loop.stop()
            else:
                self._stopped()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the context has been stopped, or for `timeout` seconds.

        Raises:
            RuntimeError: on the context's own thread, which would wait for itself.
        """
        node = self._node
        if node is not None and node.on_loop():
            raise RuntimeError("join() on the context's own thread would wait for itself")
        self._ended.wait(timeout)

    def is_alive(self) -> bool:
        """Whether it has been started and not yet stopped."""
        return self._state in (RUNNING, STOPPING)

    async def __aenter__(self) -> Self:
        if self._given_loop is None:
            self._given_loop = asyncio.get_running_loop()
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._stop_task is not None:
            await self._stop_task

    # --- processes ----------------------------------------------------------------------------------------------------

    def _started(self) -> Node:
        if self._state == NEW:
            self.start()
        node = self._node
        if self._state == RUNNING and node is not None and node.loop.is_closed():
            self._disown(_LOST_LOOP)
        if self._state == STOPPED or node is None:
            raise ContextStopped(f"{self} {self._gone}: make a new one")
        return node

    @property
    def pid(self) -> PID:
        """The PID of the only process spawned on this context.

        Raises:
            Context.Error: there is none, or more than one.
        """
        cells = list(self._node.cells.values()) if self._node is not None else []
        if len(cells) != 1:
            found = ", ".join(sorted(cell.pid.id for cell in cells)) or "none"
            raise ContextError(
                f"Context.pid is the PID of the only process on {self}, and it has {found}; "
                "use the PID that spawn returned, or the process's own"
            )
        return cells[0].pid

    def spawn(self, process: Process) -> PID:
        """Bind a process to this context and run its `initialize`.

        From another thread it returns when `initialize` has run. On the context's own thread a plain `initialize` has
        run too; an `async` one goes on after it.

        Returns:
            The PID of the process.

        Raises:
            Context.InvalidProcess: the id is taken, or the process cannot be bound.
            ContextStopped: the context was stopped.
            Exception: what `initialize` raised; then nothing of the process stays behind.
        """
        if not isinstance(process, Process):
            raise TypeError(f"a Process is spawned, not {process!r}")
        node = self._started()
        if get_ident() == node.thread:
            return node.spawn_here(process)
        result: list[tuple[PID | None, BaseException | None]] = []

        def begin(done: Callable[[], None]) -> None:
            def finished(pid: PID | None, error: BaseException | None) -> None:
                result.append((pid, error))
                done()

            node.spawn_for(process, finished)

        id_ = process._compactor_id
        if not self._wait_for(node, begin, SPAWN_SECONDS):
            busy = node.scheduler.current
            where = f"; a handler of {busy.pid} does not return" if busy is not None else ""
            raise ContextError(f"waited {SPAWN_SECONDS:g} s for the initialize of {id_!r}{where}")
        if not result:
            raise ContextStopped(f"{self} was stopped before {id_!r} was initialized")
        pid, error = result[0]
        if error is not None:
            raise error
        assert pid is not None
        return pid

    def _wait_for(self, node: Node, begin: Callable[[Callable[[], None]], None], timeout: float | None) -> bool:
        """Have `begin(done)` run on the context's thread and wait for `done`; the context's end ends the wait too.

        False when the time was over first.
        """
        event = threading.Event()
        self._waits.add(event)
        try:
            node.portal.submit(begin, event.set)
            return event.wait(timeout)
        finally:
            self._waits.discard(event)

    def wait(self, pid: PID, timeout: float | None = None) -> bool:
        """Wait until a local process has ended; True when it has, False when the time is over first.

        Raises:
            RuntimeError: on the context's own thread, which would wait for itself.
        """
        node = self._node
        if node is None or self._state == STOPPED:
            return True
        if node.on_loop():
            raise RuntimeError("wait() on the context's own thread would wait for itself: link instead")
        return self._wait_for(node, lambda done: node.when_ended(pid, done), timeout)

    def terminate(self, pid: PID, inject: bool = True) -> None:
        """End a local process after the event it handles; with `inject=False` after all that is queued for it now.

        Returns at once. A PID without a process is no error: it has ended already.
        """
        node = self._started()
        if pid in self:
            node.terminate(node.cells[pid.id], inject)

    # --- what processes do, from outside ------------------------------------------------------------------------------

    def send(
        self, from_pid: PID, to_pid: PID, method: str, body: bytes | bytearray | memoryview | None = None
    ) -> None:
        """Send a message from a local process to another, here or elsewhere. Returns at once.

        Raises:
            Context.InvalidProcess: `from_pid` is no process of this context.
            TypeError, ValueError: as `Process.send`.
        """
        node = self._started()
        node.local_cell(from_pid)
        node.send(from_pid, to_pid, method, body)

    def link(self, pid: PID, to: PID, reconnect: bool = False) -> None:
        """Have `exited(to)` called on the local process `pid` when `to` is gone. Returns at once.

        Raises:
            Context.InvalidProcess: `pid` is no process of this context.
        """
        node = self._started()
        node.link(node.local_cell(pid), to, reconnect)

    def dispatch(self, pid: PID, method: str, *args: Any) -> None:
        """Call a method of a local process, as an event in its mailbox. Returns at once.

        Raises:
            Context.InvalidProcess, Context.InvalidMethod: there is no such process, or it has no such method.
        """
        node = self._started()
        node.call(node.queue_call, *node.event_for(pid, method, args))

    def delay(self, amount: float, pid: PID, method: str, *args: Any) -> Timer:
        """Dispatch after `amount` seconds. Checked now as `dispatch`; dropped if the process is gone when it is due.

        Returns:
            A timer, which can be cancelled.
        """
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < 1e9:
            raise ValueError(f"a delay is a number of seconds, 0 or more, not {amount!r}")
        node = self._started()
        cell, event = node.event_for(pid, method, args)
        timer = Timer(node)
        node.call(timer.start, amount, lambda: node.queue_call(cell, event))
        return timer

    def connect_per_sender(self, peer: PID) -> None:
        """Give each sender a connection of its own to the address of `peer`.

        mesos-go needs that, and is recognised by its answers; this is for saying so before the first one.
        """
        node = self._started()
        node.call(node.set_per_sender, peer)

    # --- what happened ------------------------------------------------------------------------------------------------

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The newest messages that were not delivered (or are not known to be), the newest last; at most 1,000."""
        return list(self._node.dead_letters) if self._node is not None else []

    def statistics(self) -> dict[str, int]:
        """Return counters of all that happened; dead letters also by reason, as `dead_letters: <reason>`.

        Messages sent and received are those that crossed a socket, the `__link__` of links included.
        """
        return self._node.statistics() if self._node is not None else {}


def _check_seconds(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
        raise ContextError(f"{name}={value!r}: expected a number of seconds, at least {least:g}")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_running: weakref.WeakSet[Context] = weakref.WeakSet()


def _stop_all() -> None:
    """The program ends: what was sent last still leaves."""
    for context in list(_running):
        if context._thread is not None:
            context.stop(_EXIT_SECONDS)


atexit.register(_stop_all)


def _forked() -> None:
    """A forked child has no thread of the parent's: its copies of the contexts are dead, and say so."""
    for context in list(_running):
        context._disown(f"belongs to the OS process {os.getppid()}, and this one was forked from it")


os.register_at_fork(after_in_child=_forked)
