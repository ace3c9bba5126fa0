"""An origin: an HTTP/1.1 server in a thread of the test that keeps what reached it, and counts it.

It answers 200 with the request as JSON. `X-Origin-Status` in the request chooses another status, `/slow/<seconds>`
delays, `/bytes/<n>` answers that many bytes. A WebSocket upgrade is accepted and its messages sent back.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


@dataclass(frozen=True, slots=True)
class Received:
    """One request as the origin got it. `target` is raw, names of `headers` in lower case, in their order."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of the header."""
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name: str) -> str | None:
        """The header's value; AssertionError if it came twice."""
        found = self.all(name)
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None


@dataclass(slots=True)
class Origin:
    """A running origin. `is_recording` False counts only, for load."""

    service: str
    is_recording: bool = True
    count: int = 0
    received: list[Received] = field(default_factory=list)
    rays: Counter[str] = field(default_factory=Counter)
    connections: set[Any] = field(default_factory=set, repr=False)

    def take(self, request: Received) -> None:
        """Called for every request that arrives."""
        self.count += 1
        self.rays[dict(request.headers).get("cf-ray", "")] += 1
        if self.is_recording:
            self.received.append(request)

    def marked(self, mark: str) -> list[Received]:
        """Requests whose target holds `mark`: what a test sent under a mark of its own."""
        return [request for request in self.received if mark in request.target]


@contextmanager
def running_origin(*, tls: ssl.SSLContext | None = None, unix: Path | None = None, port: int = 0) -> Iterator[Origin]:
    """An origin on a loopback port, free if none is named, or on a unix socket."""
    origin = Origin(service="")
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    servers: list[asyncio.Server] = []

    def stop() -> None:
        servers[0].close()
        for transport in list(origin.connections):
            transport.abort()
        loop.call_soon(loop.stop)

    async def serve() -> None:
        if unix is not None:
            server = await loop.create_unix_server(lambda: _Exchange(origin), str(unix))
            origin.service = f"unix:{unix}"
        else:
            server = await loop.create_server(lambda: _Exchange(origin), "127.0.0.1", port, ssl=tls, backlog=1024)
            bound = server.sockets[0].getsockname()[1]
            origin.service = f"{'https' if tls else 'http'}://127.0.0.1:{bound}"
        servers.append(server)
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, name="origin", daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield origin
    finally:
        loop.call_soon_threadsafe(stop)
        thread.join(5)
        loop.close()


class _Exchange(asyncio.Protocol):
    """One connection. Requests on it are answered in order."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._is_websocket = False
        self._frames = b""
        self._start()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._origin.connections.add(transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._origin.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._is_websocket:
            self._take_frames(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        request = self._received()
        self._start()
        if request.target.startswith("/slow/"):
            seconds = float(request.target.split("/")[2].partition("?")[0])
            asyncio.get_running_loop().call_later(seconds, self._answer, request)
        else:
            self._answer(request)

    def _start(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target, self._body = b"", b""
        self._headers: list[tuple[str, str]] = []

    def _received(self) -> Received:
        method = self._parser.get_method().decode("latin-1")
        request = Received(method, self._target.decode("latin-1"), tuple(self._headers), self._body)
        self._origin.take(request)
        return request

    def _answer(self, request: Received) -> None:
        if self._transport.is_closing():
            return
        status = request.header("x-origin-status") or "200"
        if request.target.startswith("/bytes/"):
            body = b"x" * int(request.target.split("/")[2].partition("?")[0])
        else:
            body = json.dumps({"target": request.target, "headers": request.headers}).encode()
        head = f"HTTP/1.1 {status} Chosen\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + (b"" if request.method == "HEAD" else body))

    def _upgrade(self) -> None:
        request = self._received()
        key = (request.header("sec-websocket-key") or "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID).digest()).decode()
        self._is_websocket = True
        self._transport.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )

    def _take_frames(self, data: bytes) -> None:
        """Short masked frames (RFC 6455 5.2) go back unmasked with the same opcode; a close ends the connection."""
        self._frames += data
        while len(self._frames) >= 6 and len(self._frames) >= (whole := 6 + (self._frames[1] & 0x7F)):
            frame, self._frames = self._frames[:whole], self._frames[whole:]
            mask, masked = frame[2:6], frame[6:]
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
            self._transport.write(bytes([frame[0], len(payload)]) + payload)
            if frame[0] & 0x0F == 8:
                self._transport.close()
