"""HTTP/1.1 as bytes: a client that sends exactly what it is told, so that malformed requests can be sent too."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_SECONDS = 10

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `headers` as they came, names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The header's value; AssertionError if it came twice."""
        found = self.all(name)
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        """Every value of the header."""
        return [value for key, value in self.headers if key == name.lower()]

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Connection:
    """One connection, plain or TLS. `exchange` may be called again while it stays open."""

    def __init__(
        self,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        address: str = "127.0.0.1",
        source: str | None = None,
    ) -> None:
        raw = socket.create_connection(
            (address, port), timeout=TIMEOUT_SECONDS, source_address=(source, 0) if source else None
        )
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(raw, server_hostname=server_name) if tls else raw
        self._buffer = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def exchange(self, data: bytes, *, is_head: bool = False) -> Answer:
        """Send bytes and read one answer."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError):
            # A server may answer and close before it has read a request that it refuses.
            if not self._buffer and not self._readable():
                raise
        return self.read_answer(is_head=is_head)

    def request(self, method: str, target: str, headers: Headers, body: bytes = b"") -> Answer:
        """One request with exactly these headers, and Content-Length where there is a body."""
        return self.exchange(encode(method, target, headers, body), is_head=method == "HEAD")

    def read_answer(self, *, is_head: bool = False) -> Answer:
        """Read one answer. EOFError where the connection ends before its head is whole."""
        head = self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        pairs = (line.split(":", 1) for line in lines[1:] if line)
        headers = tuple((name.lower(), value.strip()) for name, value in pairs)
        if status // 100 == 1 and status != 101:
            return self.read_answer(is_head=is_head)
        return Answer(status, headers, b"" if is_head or status in (101, 204, 304) else self._body(dict(headers)))

    def read_exactly(self, count: int) -> bytes:
        """`count` bytes. EOFError where the connection ends first."""
        while len(self._buffer) < count:
            self._fill()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def is_closed(self) -> bool:
        """Whether the other side has closed, waiting for it as long as a read may take."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _readable(self) -> bool:
        try:
            self._fill()
        except (EOFError, OSError):
            return False
        return True

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        if "content-length" in headers:
            return self.read_exactly(int(headers["content-length"]))
        parts = [self._buffer]
        self._buffer = b""
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            parts.append(self.read_exactly(size))
            self.read_exactly(2)
        self._until(b"\r\n")
        return b"".join(parts)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _fill(self) -> None:
        part = self.socket.recv(65536)
        if not part:
            raise EOFError("the connection ended before a whole answer")
        self._buffer += part


def encode(method: str, target: str, headers: Headers, body: bytes = b"") -> bytes:
    """A request as bytes (latin-1)."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
