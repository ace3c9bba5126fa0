"""Serving an ASGI application on a socket that listens already, until an event says to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from foregate.api.envelope import encode_failure
from foregate.api.errors import HEAD_TOO_LARGE, MALFORMED_HTTP, Problem

# Requests that are being answered have this long to finish.
_DRAIN_SECONDS = 5
# More than any client of the API sends in a request's first line and headers, little to hold for a stranger.
HEAD_LIMIT_BYTES = 64 * 1024
# What a refused caller still sends is read and dropped so long: to close at once would take the answer from it.
_LINGER_SECONDS = 2


async def serve(
    app: Any,
    listener: socket.socket,
    told: asyncio.Event,
    *,
    before_drain: Callable[[], None] = lambda: None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve `app` on `listener` until `told`; then call `before_drain`, finish what is being answered, and return.

    `before_drain` ends what would never finish by itself, such as the streams of followers. `tls`: speak TLS, and say
    in each request's scope by which certificate its client showed itself.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol if tls is None else _TlsProtocol,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        ws="websockets-sansio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        lifespan="off",
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    ending = asyncio.create_task(told.wait())
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    before_drain()
    server.should_exit = True
    await serving


class _Protocol(HttpToolsProtocol):
    """uvicorn's, which alone would hold a head, or the trailers of a body, of any length, from callers that nobody
    knows yet."""

    _has_progressed = False
    _held_bytes = 0
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection: whoever answers on it may have to end it at once (`foregate.abort`)."""
        super().connection_made(transport)
        self._extensions: dict[str, Any] = {"foregate.abort": transport.abort}

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._has_progressed = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body is there: the application bounds its length."""
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A whole request is there."""
        self._has_progressed = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Octets, in pieces of which one alone cannot go far over the limit."""
        if self._is_refused:
            return
        for start in range(0, len(data), HEAD_LIMIT_BYTES):
            piece = data if len(data) <= HEAD_LIMIT_BYTES else data[start : start + HEAD_LIMIT_BYTES]
            self._has_progressed = False
            super().data_received(piece)
            if self._is_refused or self.transport.is_closing():
                return
            self._held_bytes = 0 if self._has_progressed else self._held_bytes + len(piece)
            if self._held_bytes > HEAD_LIMIT_BYTES:
                self._refuse(HEAD_TOO_LARGE)
                return

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the envelope too."""
        self._refuse(MALFORMED_HTTP)

    def _refuse(self, problem: Problem) -> None:
        body = encode_failure(problem)
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-should-retry: false\r\nconnection: close\r\n\r\n"
        )
        self._is_refused = True
        self.transport.write(head.encode() + body)
        # RFC 9112 9.6, the last two paragraphs. TLS has no half of a connection to close.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


class _TlsProtocol(_Protocol):
    """Hands on the client's certificate, if it showed one that TLS took (ASGI specification, TLS extension)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection whose handshake is over."""
        super().connection_made(transport)
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        chain = [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)]
        self._extensions = {**self._extensions, "tls": {"client_cert_chain": chain}}


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: its kind raises the signal again, which would end the process
    before its locks and files are cleared away."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
