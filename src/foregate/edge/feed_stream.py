"""The answer that never ends: sends a follower its lines as long as somebody reads them.

Two tasks a follower and no timer that polls: one sends, one waits for the connection's end. A follower that does not
read is given up, as what waits for it is held in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

# An edge that is up reads within milliseconds; one on a bad line gets a chunk through in this. Longer than a client
# waits for us (`feed_client.STALL_SECONDS`), so that whoever is merely slow is not cut off by both.
GIVE_UP_SECONDS = 60.0


class FeedStream(Response):
    """`lines` for the edge with this id."""

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncGenerator[bytes], edge_id: str, *, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]  # nobody knows it
        self._lines = lines
        self._edge_id = edge_id
        self._give_up_seconds = give_up_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI exchange, to the end of the lines or of the connection."""
        sending = asyncio.create_task(self._send(scope, send))
        watching = asyncio.create_task(_end_of(receive))
        try:
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, watching):
                task.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)
            with suppress(RuntimeError):  # it runs, where our own end came in the middle of a step
                await self._lines.aclose()
        if not sending.cancelled():
            sending.result()

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self._lines:
                async with asyncio.timeout(self._give_up_seconds):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            log.warning("follower_given_up", edge=self._edge_id, seconds=self._give_up_seconds)
            abort = scope.get("extensions", {}).get("foregate.abort")
            if abort is not None:
                abort()  # an orderly end would wait for what nobody reads
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _end_of(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
