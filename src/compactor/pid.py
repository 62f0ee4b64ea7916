"""The address of a process: `PID`, its text form and its rules.

A PID is written `id@host:port`. The rules are those of libprocess where a text is unambiguous, and an error where
libprocess would guess: exactly one `@`, a decimal port from 0 to 65535, an IPv4 literal, an IPv6 literal in brackets or
a host name, and an id of any printable text without white space and without `@`.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import weakref
from functools import lru_cache, total_ordering
from typing import NoReturn, final
from urllib.parse import quote

ID_SAFE = "!$&'()*,;=:-._~"
"""What stays as it is when an id becomes a path segment, beside letters and digits: no recorded peer encodes
parentheses, and `+` is encoded because libprocess reads a bare one as a space."""

_TEXT = re.compile(r"(?P<id>[^@]*)@(?P<host>\[[^\]]*\]|[^@:\[\]]*):(?P<port>[0-9]{1,5})")
_BAD_ID = re.compile(r"[\s@\x00-\x1f\x7f-\xa0\ud800-\udfff]")
_HOST_NAME = re.compile(r"(?!.*\.[0-9]+\.?$)(?![0-9]+$)[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")


@lru_cache(maxsize=4096)
def _check_host(host: str) -> str:
    if ":" in host:
        return ipaddress.IPv6Address(host).compressed
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        if _HOST_NAME.fullmatch(host) is None or ".." in host:
            raise ValueError("the host is neither an IP address nor a host name") from None
    return host


def check_id(id_: str) -> None:
    """Raise `ValueError` when `id_` cannot be the id of a process."""
    found = _BAD_ID.search(id_)
    if found is not None:
        raise ValueError(
            f"{id_!r} cannot be the id of a process: it holds {found.group()!r}; "
            "use printable text without white space and without '@'"
        )


@final
@total_ordering
class PID:
    """The address of a process: `id@ip:port`. Immutable, hashable, ordered by (ip, port, id).

    Equal PIDs are one object: construction returns the one that exists, so comparing and hashing is done by identity,
    at C speed. Any thread may use it.

    Args:
        ip: an IPv4 or IPv6 address (without brackets), or a host name, which is resolved when something is sent.
        port: 0 to 65535.
        id_: the name of the process; may be empty (libprocess posts without a sender as `@0.0.0.0:0`).

    Raises:
        ValueError: a part cannot be in a PID; the message names the part and what is wrong.
    """

    __slots__ = ("__weakref__", "_address", "_id", "_text")

    _address: tuple[str, int]
    _id: str
    _text: str

    def __new__(cls, ip: str, port: int, id_: str) -> PID:
        """Return the PID of these parts, making it when there is none yet."""
        # A bool is an int to Python, and True == 1 would find port 1.
        known = _interned.get((ip, port, id_)) if type(port) is int else None
        return known if known is not None else _make(ip, port, id_)

    @classmethod
    def from_string(cls, pid: str) -> PID:
        """Parse `id@ip:port`, `id@host:port` or `id@[ipv6]:port`.

        Raises:
            ValueError: the text is no PID; the message names it and what is wrong with it.
        """
        if isinstance(pid, PID):
            return pid
        if not isinstance(pid, str):
            raise ValueError(f"{pid!r} is no PID: expected a str like 'master@192.168.33.2:5050'")
        parts = _TEXT.fullmatch(pid)
        if parts is None:
            raise ValueError(f"{pid!r} is no PID: {_what_is_wrong(pid)}; expected id@ip:port")
        host = parts["host"]
        if host.startswith("["):
            host = host[1:-1]
            if ":" not in host:
                raise ValueError(f"{pid!r} is no PID: only an IPv6 address goes into brackets")
        try:
            return cls(host, int(parts["port"]), parts["id"])
        except ValueError as error:
            raise ValueError(f"{pid!r} is no PID: {error}") from None

    @property
    def ip(self) -> str:
        """The IP address, or the host name as given."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port."""
        return self._address[1]

    @property
    def id(self) -> str:
        """The name of the process on its context."""
        return self._id

    @property
    def address(self) -> tuple[str, int]:
        """The pair (ip, port)."""
        return self._address

    def as_url(self, endpoint: str | None = None) -> str:
        """Return the URL of this process, or of its route `endpoint` (with or without a leading slash)."""
        url = f"http://{format_address(self._address)}/{quote(self._id, safe=ID_SAFE)}"
        return url if endpoint is None else f"{url}/{endpoint.lstrip('/')}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"PID({self.ip}, {self.port}, {self._id})"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, PID):
            return NotImplemented
        return (self._address, self._id) < (other._address, other._id)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a PID is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a PID is immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[type[PID], tuple[str, int, str]]:
        return PID, (self.ip, self.port, self._id)

    def __copy__(self) -> PID:
        return self

    def __deepcopy__(self, memo: object) -> PID:
        return self


def local_pid(address: tuple[str, int], id_: str) -> PID:
    """Return the PID of an id at an address that is known to be right: the short way for one-time PIDs."""
    return _interned.get((*address, id_)) or _intern(address, id_)


def _intern(address: tuple[str, int], id_: str) -> PID:
    with _interning:
        found = _interned.get((*address, id_))
        if found is None:
            found = object.__new__(PID)
            _set_address(found, address)
            _set_id(found, id_)
            _set_text(found, f"{id_}@{format_address(address)}")
            _interned[(*address, id_)] = found
    return found


_interned: weakref.WeakValueDictionary[tuple[str, int, str], PID] = weakref.WeakValueDictionary()
_interning = threading.Lock()
# The slots themselves: `PID.__setattr__` refuses everybody.
_set_address, _set_id, _set_text = (vars(PID)[slot].__set__ for slot in ("_address", "_id", "_text"))


def _make(ip: str, port: int, id_: str) -> PID:
    if not isinstance(ip, str) or not isinstance(id_, str):
        raise ValueError(f"ip and id of a PID are str, not {ip!r} and {id_!r}")
    if type(port) is not int or not 0 <= port <= 65535:
        raise ValueError(f"the port of a PID is an int from 0 to 65535, not {port!r}")
    check_id(id_)
    try:
        host = _check_host(ip)
    except ValueError as error:
        raise ValueError(f"{ip!r} cannot be the ip of a PID: {error}") from None
    return _intern((host, port), id_)


def _what_is_wrong(text: str) -> str:
    if text.count("@") != 1:
        return f"it has {text.count('@')} times '@' where one is needed"
    rest = text.partition("@")[2]
    if ":" not in rest:
        return "it has no port"
    if rest.count(":") > 1 and not rest.startswith("["):
        return "an IPv6 address goes into brackets, as in id@[::1]:5050"
    if re.fullmatch(r"[0-9]{1,5}", rest.rpartition(":")[2]) is None:
        return "its port is not a number of 1 to 5 digits"
    return "its host is malformed"


def format_address(address: tuple[str, int]) -> str:
    """Return `ip:port`, with an IPv6 address in brackets."""
    ip, port = address
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


NOBODY = PID("0.0.0.0", 0, "")
"""The sender of a message that has none (`@0.0.0.0:0`)."""
