"""A TCP proxy that carries a request to the server whole, waits for the answer, and loses it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class LosingProxy:
    """One connection for each request. The first `lost` answers are thrown away with their connections."""

    def __init__(self, upstream_port: int, lost: int) -> None:
        self._upstream_port = upstream_port
        self._lost = lost
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/client/v4"

    def serve(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                with client:
                    self._carry(client)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _carry(self, client: socket.socket) -> None:
        request = _read_message(client)
        if not request:
            return
        self.requests.append(request)
        with socket.create_connection(("127.0.0.1", self._upstream_port)) as server:
            server.sendall(request)
            answer = _read_message(server)
        if len(self.requests) > self._lost:
            client.sendall(answer.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))


@contextmanager
def losing_proxy(upstream_port: int, lost: int) -> Iterator[LosingProxy]:
    """Run one for the length of the block."""
    proxy = LosingProxy(upstream_port, lost)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(10)


def _read_message(source: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = source.recv(65536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    missing = (int(lengths[0]) if lengths else 0) - len(body)
    while missing > 0:
        chunk = source.recv(65536)
        if not chunk:
            break
        data += chunk
        missing -= len(chunk)
    return data
