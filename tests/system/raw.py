"""Peers made of bare sockets, used from the test's own thread: `RawClient` and `RawServer`."""

import http.client
import re
import select
import socket
import struct
import termios
from fcntl import ioctl
from typing import NamedTuple

from helpers import DEADLINE, eventually

from compactor import PID


class _Unclosed:
    """What `http.client` may read one response from, without closing it for the next."""

    def __init__(self, file):
        self.readline, self.read, self.readinto = file.readline, file.read, file.readinto

    def makefile(self, mode):
        return self

    def flush(self):
        pass

    def close(self):
        pass


class Answer(NamedTuple):
    """One response: its status, headers (names in lower case) and content."""

    status: int
    headers: dict
    body: bytes


def read_answer(file, method="POST"):
    """Read one response with the parser of the standard library, which is not ours."""
    response = http.client.HTTPResponse(_Unclosed(file), method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


class Posted(NamedTuple):
    """One request: the bytes of its head, its target, and its content."""

    head: bytes
    path: str
    body: bytes

    @property
    def sender(self):
        return PID.from_string(re.search(rb"\r\nLibprocess-From: (.*?)\r\n", self.head)[1].decode())


def read_request(file):
    """Read one request whose body has a length, is one chunk, or is empty; None at the end of the stream."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        if not line:
            assert not head, f"the stream ends within {head!r}"
            return None
        head += line
    path = head.split(b" ")[1].decode()
    length = re.search(rb"(?i)\r\nContent-Length: ([0-9]+)\r\n", head)
    body = b""
    if length is not None:
        body = file.read(int(length[1]))
        assert len(body) == int(length[1])
    elif b"chunked" in head:
        body = file.read(int(file.readline(), 16))
        assert file.read(7) == b"\r\n0\r\n\r\n"
    return Posted(head, path, body)


class RawConnection:
    """One end of a TCP connection."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def send(self, data):
        self.sock.sendall(data)

    def close(self):
        self.file.close()
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def wait_until_arrived(self):
        """Wait until the peer's kernel has acknowledged everything that was sent."""

        def unsent():
            return struct.unpack("i", ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]

        eventually(lambda: unsent() == 0, "everything has arrived")

    def reset(self):
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def has_more(self, seconds=0.0):
        """Whether anything, be it the end, is there to be read within some seconds."""
        return bool(select.select([self.sock], [], [], seconds)[0])

    def at_end(self):
        """Wait for what comes next; True when it is the end, orderly or not."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def ended_in_order(self):
        """Wait for what comes next; True when it is an orderly end."""
        return self.file.read(1) == b""


class RawClient(RawConnection):
    """A connection to a context."""

    def __init__(self, context):
        super().__init__(socket.create_connection((context.ip, context.port), timeout=DEADLINE))

    def answer(self, method="POST"):
        return read_answer(self.file, method)

    def statuses(self, number):
        return [self.answer().status for _ in range(number)]


class RawServer:
    """A listening socket at which contexts connect; whether and how it answers is the test's to say.

    Args:
        listening: refuse connections until `listen()` when False.
    """

    def __init__(self, ip="127.0.0.1", listening=True, receive_buffer=None):
        self._listener = socket.socket()
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind((ip, 0))
        self.ip, self.port = self._listener.getsockname()
        self._connections = []
        if listening:
            self.listen()

    def listen(self):
        self._listener.listen(64)
        self._listener.settimeout(DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for connection in self._connections:
            connection.close()
        self._listener.close()

    def pid(self, id_, host=None):
        return PID(host or self.ip, self.port, id_)

    def accept(self):
        connection = PeerConnection(self._listener.accept()[0])
        self._connections.append(connection)
        return connection

    def is_called(self, seconds=0.0):
        """Whether a connection is waiting to be accepted, within some seconds."""
        return bool(select.select([self._listener], [], [], seconds)[0])


ACCEPTED = b"HTTP/1.1 202 Accepted\r\nDate: Mon, 23 Nov 2026 22:47:48 GMT\r\nContent-Length: 0\r\n\r\n"
"""What libprocess answers."""
GO_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
"""What mesos-go answers."""


class PeerConnection(RawConnection):
    """An accepted connection, on which a context posts."""

    def request(self):
        request = read_request(self.file)
        assert request is not None, "the connection ended"
        return request

    def requests(self, number):
        return [self.request() for _ in range(number)]

    def rest(self):
        """Return all requests up to the end of the stream."""
        requests = []
        while (request := read_request(self.file)) is not None:
            requests.append(request)
        return requests

    def accept_all(self, number):
        """Read and answer as libprocess does, one by one; return the requests."""
        requests = []
        for _ in range(number):
            requests.append(self.request())
            self.send(ACCEPTED)
        return requests


