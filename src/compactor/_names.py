"""Host names in PIDs: looked up without blocking the loop, and without letting a message overtake another."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from ._aio.sockets import reason_of
from .pid import PID

log = logging.getLogger("compactor")

Address = tuple[str, int]

_FRESH_SECONDS: Final = 30.0


class _Waiting:
    """What waits for a name to be looked up, in order."""

    __slots__ = ("calls", "name", "port")

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.calls: list[tuple[str, Callable[[], None], Callable[[str], None]]] = []


def name_in(pid: PID) -> str | None:
    """Return the host name of a PID, None when it has an IP address."""
    ip = pid.ip
    return None if ":" in ip or ip.replace(".", "").isdigit() else ip


class Names:
    """The names of one context. Touched only by the context thread.

    Args:
        ipv6: which kind of address is taken when a name has both; the context listens on one of that kind.
        changed: called when what a name means may have changed, so that remembered routes are asked for again.
    """

    __slots__ = ("_changed", "_family", "_found", "_loop", "_tasks", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, ipv6: bool, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._changed = changed
        self._found: dict[str, tuple[str, float]] = {}
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def at_once(self, to: PID) -> Address | None:
        """Return the address of a PID that needs no looking up and need not wait, else None: then `resolve` it."""
        return to.address if not self._waiting and to.ip[-1].isdigit() and name_in(to) is None else None

    def resolve(self, to: PID, again: Callable[[], None], failed: Callable[[str], None]) -> Address | None:
        """Return the address of a PID with its name resolved, or None: then `again` or `failed` is called later.

        What goes to another name or number while one with the same port is being looked up waits behind it: they may
        be the same process, and a message must not overtake an earlier one.
        """
        ip, port = to.address
        for waiting in self._waiting:
            if waiting.port == port:
                waiting.calls.append((ip, again, failed))
                return None
        if name_in(to) is None:
            return to.address
        entry = self._found.get(ip)
        if entry is not None and self._loop.time() < entry[1]:
            return entry[0], port
        self._changed()
        waiting = _Waiting(ip, port)
        waiting.calls.append((ip, again, failed))
        self._waiting.append(waiting)
        task = self._loop.create_task(self._look_up(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    @property
    def busy(self) -> bool:
        """Whether anything waits for a name."""
        return bool(self._waiting)

    def close(self, reason: str) -> None:
        """Give up what waits."""
        for task in self._tasks:
            task.cancel()
        waiting, self._waiting = self._waiting, []
        for calls in waiting:
            for _, _, failed in calls.calls:
                failed(reason)

    def known(self, pid: PID) -> Address | None:
        """Return the address of a PID as far as it is known now."""
        if name_in(pid) is None:
            return pid.address
        entry = self._found.get(pid.ip)
        return None if entry is None else (entry[0], pid.port)

    def forget(self, ip: str) -> None:
        """An address was lost: the names that led there may lead elsewhere now."""
        for name in [name for name, (found, _) in self._found.items() if found == ip]:
            del self._found[name]
            self._changed()

    async def _look_up(self, waiting: _Waiting) -> None:
        reason = ""
        try:
            found = await self._loop.getaddrinfo(waiting.name, waiting.port, type=socket.SOCK_STREAM)
            entry = next((entry for entry in found if entry[0] == self._family), found[0])
            self._found[waiting.name] = (str(entry[4][0]), self._loop.time() + _FRESH_SECONDS)
        except (OSError, UnicodeError) as error:
            reason = f"name not resolved: {reason_of(error)}"
        self._waiting.remove(waiting)
        for host, again, failed in waiting.calls:
            try:
                if reason and host == waiting.name:
                    failed(reason)
                else:
                    again()  # what only waited its turn may have to be looked up itself
            except Exception:  # the others have nothing to do with it
                log.exception("what waited for the name %r raised", waiting.name)
