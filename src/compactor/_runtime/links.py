"""Who watches whom: the links of a context's processes, local and remote.

The tables only decide: each operation returns what is to be told or sent, and the caller does it afterwards, so that
user code never runs while a table is being walked. A link is told exactly once and is then gone. What is promised, and
the extension by which the death of a remote process is seen, is in docs/protocol.md.
"""

from __future__ import annotations

from ..pid import PID
from .cell import Cell

Address = tuple[str, int]


class Link:
    """One process watches one remote process.

    Attributes:
        cell: the linker.
        pid: the linkee as the linker named it, which is what `exited` gets.
        address: the linkee's address with names resolved.
        nonce: the secret that a notice of death has to know.
        incarnation: which life of the linkee was seen, None before the first answer.
    """

    __slots__ = ("address", "alive", "cell", "incarnation", "nonce", "pid")

    def __init__(self, cell: Cell, pid: PID, address: Address, nonce: str) -> None:
        self.cell = cell
        self.pid = pid
        self.address = address
        self.nonce = nonce
        self.incarnation: str | None = None
        self.alive = True


class Links:
    """All links of one context. Touched only by the context thread."""

    __slots__ = ("_by_nonce", "_local", "_of", "_remote")

    def __init__(self) -> None:
        self._local: dict[Cell, dict[tuple[Cell, PID], None]] = {}
        self._remote: dict[Address, dict[tuple[Cell, PID], Link]] = {}
        self._by_nonce: dict[str, Link] = {}
        self._of: dict[Cell, set[tuple[Address | Cell, PID]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def local(self, linker: Cell, target: Cell, pid: PID) -> None:
        """Let `linker` watch a process of the same context; linking twice is linking once."""
        self._local.setdefault(target, {})[linker, pid] = None
        self._of.setdefault(linker, set()).add((target, pid))

    def remote(self, linker: Cell, pid: PID, address: Address, nonce: str) -> Link | None:
        """Let `linker` watch a process elsewhere; None when it does already."""
        links = self._remote.setdefault(address, {})
        if (linker, pid) in links:
            return None
        link = links[linker, pid] = Link(linker, pid, address, nonce)
        self._by_nonce[nonce] = link
        self._of.setdefault(linker, set()).add((address, pid))
        return link

    def find(self, linker: Cell, pid: PID, address: Address) -> Link:
        """Return a link there is."""
        return self._remote[address][linker, pid]

    def at(self, address: Address) -> list[Link]:
        """Return the links to an address."""
        return list(self._remote.get(address, {}).values())

    def has(self, address: Address) -> bool:
        """Whether any link needs a connection to this address."""
        return address in self._remote

    def broken(self, address: Address) -> list[Link]:
        """The address is lost: take all links to it."""
        links = list(self._remote.pop(address, {}).values())
        for link in links:
            self._forget(link)
        return links

    def take(self, link: Link) -> bool:
        """Take one link, because its linkee is gone; False when it was taken before."""
        if not link.alive:
            return False
        links = self._remote[link.address]
        del links[link.cell, link.pid]
        if not links:
            del self._remote[link.address]
        self._forget(link)
        return True

    def by_nonce(self, linker: Cell, nonce: str) -> Link | None:
        """Return the link that a notice of death speaks of, if there is one."""
        link = self._by_nonce.get(nonce)
        return link if link is not None and link.cell is linker else None

    def ended(self, cell: Cell) -> list[tuple[Cell, PID]]:
        """A local process has ended: drop what it watched; return who watched it, and under which PID."""
        for target, pid in self._of.pop(cell, ()):
            if isinstance(target, Cell):
                watchers = self._local.get(target)
                if watchers is not None:
                    watchers.pop((cell, pid), None)
                    if not watchers:
                        del self._local[target]
            else:
                link = self._remote.get(target, {}).get((cell, pid))
                if link is not None:
                    self.take(link)
        told = list(self._local.pop(cell, {}))
        for linker, pid in told:
            self._drop_of(linker, (cell, pid))
        return told

    def _forget(self, link: Link) -> None:
        link.alive = False
        del self._by_nonce[link.nonce]
        self._drop_of(link.cell, (link.address, link.pid))

    def _drop_of(self, linker: Cell, key: tuple[Address | Cell, PID]) -> None:
        of = self._of.get(linker)
        if of is not None:
            of.discard(key)
            if not of:
                del self._of[linker]
