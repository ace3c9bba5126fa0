"""Load on the real edge: clients on kept connections, each answer kept by its ray.

A client sends the requests of one `Caller` again and again. An answer is only ever counted when it came whole; a
connection that breaks is counted as an error and made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.http1 import encode
from harness.things import Token


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a host, a token or none, and a name for what is expected of it."""

    kind: str
    host: str
    token: Token | None

    @property
    def request(self) -> bytes:
        """The request's bytes."""
        return encode(
            "GET",
            f"/load/{self.kind.replace(' ', '-')}",
            [("Host", self.host), *(self.token.headers if self.token else [])],
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One whole answer. Times are of the monotonic clock; `wall` is Unix time at its end."""

    kind: str
    status: int
    ray: str
    begun_at: float
    ended_at: float
    wall: float


@dataclass(slots=True)
class Load:
    """What has happened so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    pause_seconds: float = 0.0

    def statuses(self, kind: str, since: float = 0.0) -> set[int]:
        """The statuses of that kind of caller, of requests begun after `since`."""
        return {found.status for found in list(self.outcomes) if found.kind == kind and found.begun_at > since}


@contextmanager
def running_load(
    port: int, callers: Sequence[Caller], *, connections: int, pause_seconds: float, seed: int
) -> Iterator[Load]:
    """Clients in a thread of their own until the end of the block. All requests that were sent are waited for."""
    load = Load(callers=list(callers), pause_seconds=pause_seconds)
    ended = threading.Event()

    async def run() -> None:
        clients = [_client(port, load, random.Random(seed + number), ended) for number in range(connections)]
        await asyncio.gather(*clients)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="load", daemon=True)
    thread.start()
    try:
        yield load
    finally:
        ended.set()
        thread.join(30)
        assert not thread.is_alive()


async def _client(port: int, load: Load, chance: random.Random, ended: threading.Event) -> None:
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    while not ended.is_set():
        try:
            if writer is None or reader is None:
                reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 5)
            caller = chance.choice(load.callers)
            outcome, closes = await asyncio.wait_for(_exchange(reader, writer, caller), 15)
            load.outcomes.append(outcome)
            if closes:
                writer.close()
                writer = None
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
            load.errors.append(time.monotonic())
            if writer is not None:
                writer.close()
            writer = None
            await asyncio.sleep(0.02)
        if load.pause_seconds:
            await asyncio.sleep(load.pause_seconds)
    if writer is not None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller) -> tuple[Outcome, bool]:
    begun_at = time.monotonic()
    writer.write(caller.request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    await reader.readexactly(int(headers.get("content-length", 0)))
    status = int(head.split(" ", 2)[1])
    ended_at = time.monotonic()
    outcome = Outcome(caller.kind, status, headers.get("cf-ray", ""), begun_at, ended_at, time.time())
    return outcome, headers.get("connection") == "close"
