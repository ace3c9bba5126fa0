"""The demo's origin: a small HTTP service that answers with what reached it, and sends WebSocket messages back.

It stands for a user's own service, so it knows nothing of Foregate but the port it was given in the home. It is not
part of the edge, but like the edge it outlives a killed supervisor: the next one starts its successor, which shares
the port and then ends this one, so that no request finds nobody.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

from foregate.core.masterkey import write_private
from foregate.services.holder import Held, hold
from foregate.services.home import Home, open_home
from foregate.services.ports import draw_port
from foregate.services.process import lock_path
from foregate.services.settings import Settings
from foregate.services.web import serve

_HOST = "127.0.0.1"
_BODY_SHOWN_BYTES = 4096
_ASSERTION = "cf-access-jwt-assertion"
_LOCK_ASKED_EVERY_SECONDS = 0.05
# Of Linux's headers, asm-generic/socket.h and linux/bpf_common.h; Python names neither.
_SO_ATTACH_REUSEPORT_CBPF = 51
_BPF_RETURN = 0x06
# Many turns of the loop, each of which accepts all that waits.
_ACCEPT_SECONDS = 0.1


async def run(settings: Settings, told: asyncio.Event) -> None:
    """Answer on the demo's port until told to end. The port in the home is kept if it can be, else replaced."""
    home = open_home(settings.home)
    listener = _listen(home)
    ending = asyncio.Event()
    serving = asyncio.create_task(serve(answer, listener, ending))
    async with _only_one(home):
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        _leave_new_connections(listener)
        # What was connected before is still to be accepted: closing the socket would reset it.
        await asyncio.sleep(_ACCEPT_SECONDS)
        ending.set()
        await serving


def read_port(home: Home) -> int | None:
    """The port the echo service last listened on, on 127.0.0.1; None before it ever did."""
    try:
        return int((home.demo / "port").read_text())
    except (FileNotFoundError, ValueError):
        return None


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "websocket":
        await _echo_messages(receive, send)
    elif scope["type"] == "http":
        await _echo_request(scope, receive, send)


async def _echo_request(scope: Any, receive: Any, send: Any) -> None:
    body = await _read_body(receive)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    content = {
        "method": scope["method"],
        "path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "headers": {name: _shown(name, value) for name, value in headers},
        "identity": _claims(dict(headers).get(_ASSERTION)),
        "body": body.decode("utf-8", "replace"),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))],
        }
    )
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})


async def _read_body(receive: Any) -> bytes:
    """The first bytes of the body; the rest is read and dropped."""
    body, is_more = b"", True
    while is_more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body = (body + message.get("body", b""))[:_BODY_SHOWN_BYTES]
        is_more = message.get("more_body", False)
    return body


def _shown(name: str, value: str) -> str:
    """An assertion is a credential: without its signature it can be shown."""
    if name == _ASSERTION:
        return value.rpartition(".")[0] + ".(signature)"
    return "(not shown)" if name == "cookie" and "CF_Authorization" in value else value


def _claims(assertion: str | None) -> Any:
    """What the assertion says, not verified: a real origin verifies it (docs/how-to)."""
    parts = (assertion or "").split(".")
    if len(parts) != 3:
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None


async def _echo_messages(receive: Any, send: Any) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message.get("bytes") or b""})


def _listen(home: Home) -> socket.socket:
    """The recorded port, which a predecessor of this home may still share; another if a stranger has it."""
    recorded = read_port(home)
    try:
        listener = _bind(recorded or draw_port(_HOST))
    except OSError:
        listener = _bind(draw_port(_HOST))
    port = listener.getsockname()[1]
    if port != recorded:
        write_private(home.demo / "port", b"%d\n" % port)
    return listener


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((_HOST, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _leave_new_connections(listener: socket.socket) -> None:
    """Have the kernel give new connections to the second of the sockets that share the port, which is the successor's.
    Without one there is no second, and all stays as it is (socket(7), SO_ATTACH_REUSEPORT_CBPF)."""
    instruction = ctypes.create_string_buffer(struct.pack("@HBBI", _BPF_RETURN, 0, 0, 1))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    with suppress(OSError):  # a kernel without it: a connection or two may be reset
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


@asynccontextmanager
async def _only_one(home: Home) -> AsyncIterator[None]:
    """Hold the lock of the echo service, after ending the predecessor that has it."""
    with ExitStack() as stack:
        asked_to_end = 0
        while True:
            try:
                stack.enter_context(hold(lock_path(home, "echo")))
                break
            except Held as held:
                if held.holder.pid and held.holder.pid != asked_to_end:
                    asked_to_end = held.holder.pid
                    os.kill(asked_to_end, signal.SIGTERM)
                await asyncio.sleep(_LOCK_ASKED_EVERY_SECONDS)
        yield
