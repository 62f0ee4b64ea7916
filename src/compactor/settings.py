"""Where a context listens and what it calls itself: arguments, `LIBPROCESS_*` variables, and the socket.

The only reader of the environment. An argument wins over its variable; an empty variable counts as unset.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass

from .errors import ContextError, SocketError
from .pid import PID, format_address

_BACKLOG = 4096
_WILDCARDS = ("0.0.0.0", "::")
# An address of the documentation range (RFC 5737): a datagram socket that "connects" to it sends nothing, and has then
# the local address from which the host would reach others.
_ELSEWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}


@dataclass(frozen=True, slots=True)
class Listening:
    """A bound socket and the names it has.

    Attributes:
        bound: the (ip, port) the socket is bound to.
        advertised: the (ip, port) that goes into PIDs.
        advice: what to tell the user once about a guessed address, or "".
        alone: no address was found by which others could reach it.
    """

    sock: socket.socket
    bound: tuple[str, int]
    advertised: tuple[str, int]
    advice: str
    alone: bool


def _pick(argument: object, name: str, variable: str) -> tuple[object, str]:
    """Return the value and how the user calls its source."""
    if argument is not None:
        return argument, f"{name}={argument!r}"
    value = os.environ.get(variable, "").strip()
    return (value or None), f"{variable}={value!r} in the environment"


def _ip(value: object, source: str) -> str:
    if not isinstance(value, str):
        raise ContextError(f"{source}: expected an IP address or host name as a str")
    text = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        return PID(text, 0, "").ip
    except ValueError as error:
        raise ContextError(f"{source}: {error}; give an IP address of this host, or leave it out for all") from None


def _port(value: object, source: str, lowest: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= 65535:
        raise ContextError(f"{source}: a port is a number from {lowest} to 65535")
    return value


def _resolve(host: str, source: str) -> tuple[socket.AddressFamily, str]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            family, _, _, _, name = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise SocketError(f"{source}: the name has no address ({error}); give one of this host") from error
        return family, str(name[0])
    return (socket.AF_INET6 if address.version == 6 else socket.AF_INET), host


def _own_address(family: socket.AddressFamily) -> str | None:
    """Return an address by which others can reach this host, or None when there is none."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(_ELSEWHERE[family])
            found = str(sock.getsockname()[0])
        except OSError:
            found = ""
    candidates = [found] if found else []
    with contextlib.suppress(OSError):
        candidates += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None, family)]
    for candidate in candidates:
        address = ipaddress.ip_address(candidate)
        if not (address.is_loopback or address.is_unspecified or address.is_link_local):
            return candidate
    return None


def is_own(ip: str) -> bool:
    """Whether an IP address belongs to this host: only such a one can be bound."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((ip, 0))
    except OSError:
        return False
    return True


def listen(
    ip: str | None = None, port: int | None = None, advertise_ip: str | None = None, advertise_port: int | None = None
) -> Listening:
    """Bind the listening socket of a context and find what to call it.

    Raises:
        ContextError: an argument or a variable has a bad value; the message names it and the remedy.
        SocketError: the address cannot be had; likewise.
    """
    ip_value, ip_source = _pick(ip, "ip", "LIBPROCESS_IP")
    port_value, port_source = _pick(port, "port", "LIBPROCESS_PORT")
    host = "0.0.0.0" if ip_value is None else _ip(ip_value, ip_source)
    number = 0 if port_value is None else _port(port_value, port_source, 0)
    shown_ip, shown_ip_source = _pick(advertise_ip, "advertise_ip", "LIBPROCESS_ADVERTISE_IP")
    shown_port, shown_port_source = _pick(advertise_port, "advertise_port", "LIBPROCESS_ADVERTISE_PORT")
    to_show = None if shown_ip is None else _ip(shown_ip, shown_ip_source)
    port_to_show = None if shown_port is None else _port(shown_port, shown_port_source, 1)

    family, bind_ip = _resolve(host, ip_source)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bind_ip != "::"))
        sock.bind((bind_ip, number))
        # Listening from the first moment, so that of two contexts on one port the second is told at once.
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        where = format_address((bind_ip, number))
        if not is_own(bind_ip):
            raise SocketError(
                f"cannot listen on {where}: {bind_ip} is no address of this host; change {ip_source}, "
                "and use advertise_ip or LIBPROCESS_ADVERTISE_IP for an address that others know it by"
            ) from error
        raise SocketError(
            f"cannot listen on {where}: {os.strerror(error.errno or 0).lower()}; choose another port "
            f"({port_source if number else 'port or LIBPROCESS_PORT'}), or 0 for any free one"
        ) from error
    bound = (str(sock.getsockname()[0]), int(sock.getsockname()[1]))
    advice, alone = "", False
    if to_show is None:
        to_show = bound[0]
        if bound[0] in _WILDCARDS:
            found = _own_address(family)
            to_show = found or ("::1" if family == socket.AF_INET6 else "127.0.0.1")
            alone = found is None
            reach = "others reach it there" if found else "only this host reaches it there: no other address was found"
            known_as = format_address((to_show, port_to_show or bound[1]))
            advice = (
                f"listening on all interfaces, known as {known_as}; {reach}. "
                "Set LIBPROCESS_ADVERTISE_IP or advertise_ip to be known by another address, LIBPROCESS_IP or ip to "
                "listen on one only"
            )
    return Listening(sock, bound, (to_show, port_to_show or bound[1]), advice, alone)


def is_wildcard(ip: str) -> bool:
    """Whether an address stands for all interfaces."""
    return ip in _WILDCARDS
