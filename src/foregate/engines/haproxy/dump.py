"""Reads a whole map out of a running worker, over connections of its own so that a worker's session does not wait.

Source: HAProxy management guide, 9.3, `show map`: one line per entry, `<address> <key> <value>`. asyncio.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from foregate.engines.haproxy.control import ControlError, TokenMap

_CHUNK_BYTES = 1 << 18
# HAProxy answers between requests; a stalled one is given up.
_TIMEOUT_SECONDS = 10.0


async def dump_map(socket: Path, which: TokenMap) -> AsyncIterator[list[tuple[str, str]]]:
    """(key, value) of all entries, in parts. Raises ControlError, also in the middle.

    What changes meanwhile may be seen or not.
    """
    listed = b"".join([part async for part in _ask(socket, "show map")])
    found = re.search(rf"^([0-9]+) \(\S*{which.replace('.', '[.]')}\)".encode(), listed, re.MULTILINE)
    if found is None:
        raise ControlError(f"the worker has no {which}")
    rest = b""
    async for part in _ask(socket, f"show map #{found[1].decode()}"):
        *lines, rest = (rest + part).split(b"\n")
        entries = (line.decode("ascii", "replace").split(" ", 2) for line in lines)
        yield [(entry[1], entry[2]) for entry in entries if len(entry) == 3]


async def _ask(socket: Path, command: str) -> AsyncIterator[bytes]:
    """One command's answer; HAProxy closes after it."""
    try:
        async with _connected(socket) as (reader, writer):
            writer.write(command.encode() + b"\n")
            while True:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    part = await reader.read(_CHUNK_BYTES)
                if not part:
                    return
                yield part
    except OSError as error:
        raise ControlError(f"the worker's socket failed: {type(error).__name__}") from error


@asynccontextmanager
async def _connected(socket: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=_CHUNK_BYTES)
    try:
        yield reader, writer
    finally:
        writer.close()
