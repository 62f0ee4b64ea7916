"""Sends as the C++ library does an unlinked burst: all at once, reading no answer, closing behind the last byte.

Arguments: port, number of messages.
"""

import socket
import sys

port, number = map(int, sys.argv[1:])
HEAD = (
    b"POST /recorder/note HTTP/1.1\r\nUser-Agent: libprocess/burst@127.0.0.1:9\r\n"
    b"Libprocess-From: burst@127.0.0.1:9\r\nConnection: Keep-Alive\r\nHost: 127.0.0.1:%d\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
) % port

bodies = [b"%d" % count for count in range(number)]
with socket.create_connection(("127.0.0.1", port)) as connection:
    for body in bodies:
        connection.sendall(b"%b%x\r\n%b\r\n0\r\n\r\n" % (HEAD, len(body), body))
