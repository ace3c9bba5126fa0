"""Just enough of RFC 6455 for a client that sends short text messages."""

from __future__ import annotations

import base64
import os

from harness.http1 import Connection, Headers

TEXT, CLOSE = 1, 8


def upgrade_headers(host: str) -> list[tuple[str, str]]:
    """The headers of an upgrade request."""
    return [
        ("Host", host),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
    ]


def say(connection: Connection, text: str) -> str:
    """Send a text message of up to 125 bytes on an upgraded connection, and the message that comes back."""
    payload, mask = text.encode(), os.urandom(4)
    assert len(payload) < 126
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    connection.send(bytes([0x80 | TEXT, 0x80 | len(payload)]) + mask + masked)
    opcode, length = connection.read_exactly(2)
    assert opcode == 0x80 | TEXT
    return connection.read_exactly(length & 0x7F).decode()


def upgrade(connection: Connection, host: str, path: str, headers: Headers = ()) -> int:
    """Ask for a WebSocket; the status of the answer, 101 where it is open."""
    return connection.request("GET", path, [*upgrade_headers(host), *headers]).status
