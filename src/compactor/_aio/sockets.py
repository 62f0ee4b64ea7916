"""Small things about sockets that inbound and outbound connections share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

_READ = 256 * 1024


def read_rest(transport: asyncio.BaseTransport) -> bytes:
    """Return what has arrived on a socket that is about to be closed, without waiting.

    When a write fails asyncio takes the reader away at once, and what the peer had sent before it closed would be
    lost with the descriptor.
    """
    sock: Any = transport.get_extra_info("socket")
    parts: list[bytes] = []
    with contextlib.suppress(OSError, ValueError):
        while part := os.read(sock.fileno(), _READ):
            parts.append(part)
    return b"".join(parts)


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel notice a peer whose host is gone: an extra, never what a link relies on."""
    sock: Any = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def close_descriptor(transport: asyncio.BaseTransport) -> None:
    """Close the socket of a transport whose loop will never do it."""
    sock: Any = transport.get_extra_info("socket")
    # What a transport shows is a wrapper that cannot be closed; behind it is the socket that the transport holds.
    with contextlib.suppress(OSError, AttributeError):
        sock._sock.close()


def reason_of(error: BaseException | None) -> str:
    """Return a short text for why a connection failed or ended."""
    if error is None:
        return "closed by the peer"
    if isinstance(error, TimeoutError) and not (isinstance(error, OSError) and error.errno):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "reset by the peer"
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()  # its numbers are none of the system's
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
