"""The control plane's side of an edge's conversation: `/edge/v1/` secrets, feed, events, reports.

Who an edge is, a gate says (`edge/feed_gates.py`): by its edge key or by its certificate, never by a service or API
token, as what repairs the tokens must not depend on them. What is done with events and reports is injected; nothing
here reads a database.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.edge.feed_gates import Gate
from foregate.edge.feed_stream import FeedStream
from foregate.edge.followers import Followers, Reader

# One batch is at most 4 MB of lines; packing makes the worst of them a few kilobytes longer.
MAX_EVENTS_BYTES = 4_194_304
MAX_REPORT_BYTES = 262_144
_WORKER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Whole lines of one worker's spool file from byte `offset` on, compressed with zlib. `is_final`: the file ends."""

    edge_id: str
    worker: str
    offset: int
    is_final: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class FeedParts:
    """What the endpoints call. `ingest` gives the byte at which the next batch of that worker should start, and may be
    called again with the same batch; `take_report` gets the edge's id and its report."""

    followers: Followers
    gate: Gate
    ingest: Callable[[EventBatch], Awaitable[int]]
    take_report: Callable[[str, dict[str, Any]], Awaitable[None]]


def feed_router(parts: FeedParts) -> APIRouter:
    """The routes. They raise ForegateError; the application's handlers turn that into answers."""
    router = APIRouter(prefix="/edge/v1", include_in_schema=False)

    @router.get("/secrets")
    async def secrets(request: Request) -> dict[str, str]:
        caller = await parts.gate.admit(request)
        return {"sealed": base64.b64encode(caller.sealed_secrets()).decode()}

    @router.get("/feed", response_class=FeedStream)
    async def feed(
        request: Request,
        after: Annotated[int, Query(ge=0, le=_MAX_OFFSET)] = 0,
        version: Annotated[int, Query(ge=1)] = 1,
    ) -> FeedStream:
        caller = await parts.gate.admit(request)
        return FeedStream(parts.followers.follow(after, Reader(caller.edge_id, version)), caller.edge_id)

    @router.post("/events")
    async def events(
        request: Request,
        worker: str,
        offset: Annotated[int, Query(ge=0, le=_MAX_OFFSET)],
        final: Annotated[int, Query(ge=0, le=1)] = 0,
    ) -> dict[str, int]:
        caller = await parts.gate.admit(request)
        if not _WORKER.fullmatch(worker):
            raise invalid("worker must be 1 to 64 letters, digits, hyphens or underscores.")
        body = await read_body(request, MAX_EVENTS_BYTES)
        next_offset = await parts.ingest(EventBatch(caller.edge_id, worker, offset, bool(final), body))
        return {"next_offset": next_offset}

    @router.post("/reports")
    async def reports(request: Request) -> Response:
        caller = await parts.gate.admit(request)
        await parts.take_report(caller.edge_id, parse_report(await read_body(request, MAX_REPORT_BYTES)))
        return Response(status_code=200)

    return router


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. ForegateError(TOO_LARGE) beyond `most` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ForegateError(ErrorCode.TOO_LARGE, f"The body must not be over {most} bytes.")
    return bytes(body)


def parse_report(body: bytes) -> dict[str, Any]:
    """An edge's report. ForegateError(INVALID_INPUT) for what is none."""
    try:
        report = orjson.loads(body)
    except ValueError:
        raise invalid("The report must be JSON.") from None
    applied = report.get("applied_seq") if isinstance(report, dict) else None
    if not isinstance(applied, int) or isinstance(applied, bool) or not 0 <= applied <= _MAX_OFFSET:
        raise invalid("The report must be an object with a whole number applied_seq.")
    return dict(report)
