"""Web servers on loopback that answer as no server should, each in a way of its own."""

import contextlib
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from patience import PATIENCE_S

# Between two bytes of a server that drips: well within what one read may take.
DRIP_S = 0.05
# Unpacked; packed it is a thousandth of that.
BOMB_BYTES = 256 * 2**20

Talk = Callable[[socket.socket, threading.Event], None]


def _head(*more: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", "Content-Type: application/json", *more, "", "")).encode()


def _drip(connection: socket.socket, over: threading.Event, what: bytes = b"x") -> None:
    while not over.wait(DRIP_S):
        connection.sendall(what)


def dripping_header(connection: socket.socket, over: threading.Event) -> None:
    """Begin an answer and never come to its body."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(connection, over)


def dripping_body(connection: socket.socket, over: threading.Event) -> None:
    """Promise a body and send it byte by byte."""
    connection.sendall(_head("Content-Length: 1000000"))
    _drip(connection, over, b" ")


def dripping_chunks(connection: socket.socket, over: threading.Event) -> None:
    """Send a chunk of one byte again and again."""
    connection.sendall(_head("Transfer-Encoding: chunked"))
    _drip(connection, over, b"1\r\n \r\n")


def silent(_connection: socket.socket, over: threading.Event) -> None:
    """Take the connection, and say nothing: also not to a TLS handshake."""
    over.wait()


def continuing(connection: socket.socket, over: threading.Event) -> None:
    """Announce an answer without end."""
    while not over.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def endless_chunks(connection: socket.socket, over: threading.Event) -> None:
    """Send as fast as it is read."""
    connection.sendall(_head("Transfer-Encoding: chunked"))
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    while not over.is_set():
        connection.sendall(chunk)


def endless_body(connection: socket.socket, over: threading.Event) -> None:
    """Send a body that ends with the connection, which does not."""
    connection.sendall(_head())
    while not over.is_set():
        connection.sendall(b" " * 65536)


def endless_chunk_size(connection: socket.socket, over: threading.Event) -> None:
    """Write the size of a chunk with digits without end."""
    connection.sendall(_head("Transfer-Encoding: chunked"))
    while not over.is_set():
        connection.sendall(b"0" * 65536)


def endless_headers(connection: socket.socket, over: threading.Event) -> None:
    """Send headers and nothing else."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.is_set():
        connection.sendall((b"X-More: " + b"y" * 60_000 + b"\r\n") * 2)


def gzip_bomb(connection: socket.socket, _over: threading.Event) -> None:
    """Send little that unpacks to much."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(b'{"data": "')
    for _ in range(BOMB_BYTES // 2**20):
        packed += packer.compress(b" " * 2**20)
    packed += packer.compress(b'"}') + packer.flush()
    connection.sendall(_head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed)


def bomb_in_redirect(connection: socket.socket, _over: threading.Event) -> None:
    """Redirect, with a body that unpacks to much."""
    packed = gzip.compress(b" " * (32 * 2**20), 9)
    head = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % len(packed) + packed)


def redirecting(connection: socket.socket, _over: threading.Event) -> None:
    """Redirect to itself."""
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def saying(body: bytes) -> Talk:
    """Return what answers every request with this."""

    def talk(connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(_head(f"Content-Length: {len(body)}", "Connection: close") + body)

    return talk


def vector(*values: Any, **labels: Any) -> bytes:
    """Return an answer of Prometheus with these values."""
    result = [{"metric": labels, "value": [1.0, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@contextlib.contextmanager
def serving(talk: Talk, *, reads: bool = True) -> Iterator[str]:
    """Serve on loopback, each connection in a thread of its own; yield HOST:PORT.

    With `reads` a request is read before it is answered.
    """
    over = threading.Event()
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def answer(connection: socket.socket) -> None:
        # Whoever has heard enough goes away in the middle.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_S)
            while reads and not over.is_set():
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    request += piece
                talk(connection, over)
            if not reads:
                talk(connection, over)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=answer, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            # A client may keep it for later.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join(timeout=15)
