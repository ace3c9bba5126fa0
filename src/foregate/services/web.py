"""Serving an ASGI application on a socket that is bound already, until an event says to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from foregate.core.errors import ErrorCode, ForegateError

# Requests that are being answered have this long to finish.
_DRAIN_SECONDS = 5
_BACKLOG = 2048


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. ForegateError(UNAVAILABLE) names the `setting` where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        message = f"Cannot listen on {host} port {port} ({error.strerror}); free it or set {setting} to another port."
        raise ForegateError(ErrorCode.UNAVAILABLE, message) from error
    return listener


async def serve(
    app: Any, listener: socket.socket, told: asyncio.Event, *, before_drain: Callable[[], None] = lambda: None
) -> None:
    """Serve `app` on `listener` until `told`; then call `before_drain`, finish what is being answered, and return.

    `before_drain` ends what would never finish by itself, such as the streams of followers.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
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


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: its kind raises the signal again, which would end the process
    before its locks and files are cleared away."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
