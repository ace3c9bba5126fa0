"""`python -m bench.follower_crowd FILE`: many followers of one feed in one process, as light as they can be.

Prints `{"connected": n}` once all follow, then `{"seq": n, "at": unix}` whenever the last of them has got a record.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from foregate.edge.feed_authority import SERVER_NAME
from foregate.edge.feed_tls import client_context

# So many handshakes at once: more would only wait for one another.
_AT_ONCE = 64
_SEQ = re.compile(rb'"seq":([0-9]+)')


class Follower(asyncio.Protocol):
    """Counts the records that it is sent."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self.follows = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        head = f"GET /edge/v1/feed?after={self._crowd.after}&version=2 HTTP/1.1\r\nHost: {SERVER_NAME}\r\n\r\n"
        transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        if b'"heartbeat"' in data and not self.follows.done():
            self.follows.set_result(None)
        for seq in _SEQ.findall(data):
            self._crowd.got(int(seq))

    def connection_lost(self, error: Exception | None) -> None:
        print(f"a follower was cut off: {error}", file=sys.stderr)


class Crowd:
    """All followers."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._got: Counter[int] = Counter()
        self.after = 1

    def got(self, seq: int) -> None:
        self._got[seq] += 1
        if self._got[seq] == self._size:
            print(json.dumps({"seq": seq, "at": time.time()}), flush=True)


async def main(settings: dict[str, Any]) -> None:
    host, _, port = settings["url"].removeprefix("https://").partition(":")
    contexts = [
        client_context(settings["authority"], f"{settings['tls_key']}{certificate}".encode())
        for certificate in settings["certificates"]
    ]
    crowd, loop, gate = Crowd(settings["followers"]), asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)

    async def connect(number: int) -> None:
        async with gate:
            context = contexts[number % len(contexts)]
            _, follower = await loop.create_connection(
                lambda: Follower(crowd), host, int(port), ssl=context, server_hostname=SERVER_NAME
            )
            await follower.follows

    await asyncio.gather(*(connect(number) for number in range(settings["followers"])))
    print(json.dumps({"connected": settings["followers"]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text())))
