"""The feed's endpoints in a real uvicorn, followed by the real client."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from foregate.core.errors import ForegateError
from foregate.core.records import seal
from foregate.database.engine import AsyncDatabase
from foregate.edge.feed import MAX_EVENTS_BYTES, EventBatch, FeedParts, feed_router
from foregate.edge.feed_client import FeedClient
from foregate.edge.feed_gates import KeyGate
from foregate.edge.feed_lines import SnapshotEnd
from foregate.edge.followers import Followers
from foregate.edge.secrets import EdgeSecrets, open_secrets
from foregate.eventlog.model import EDGE_CONFIG, Entry
from foregate.eventlog.sql import SqlLog

Until = Callable[[Callable[[], bool]], Awaitable[None]]
SECRETS = EdgeSecrets({1: os.urandom(32)}, os.urandom(32), os.urandom(32))
HEADER = "Edge edge-1:fgek_key"


class Plane:
    """A control plane that stores what edges send it."""

    def __init__(self, telemetry: AsyncDatabase, tail_records: int) -> None:
        self.telemetry = telemetry
        self.followers = Followers(
            telemetry, SqlLog, mac_key=bytes(32), heartbeat_seconds=0.2, tail_records=tail_records
        )
        self.batches: list[EventBatch] = []
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    async def authenticate(self, header: str) -> str | None:
        return "edge-1" if header == HEADER else None

    async def ingest(self, batch: EventBatch) -> int:
        self.batches.append(batch)
        return batch.offset + len(batch.body)

    async def take_report(self, edge_id: str, report: dict[str, Any]) -> None:
        self.reports.append((edge_id, report))

    async def log(self, *seqs: int) -> list[tuple[int, bytes]]:
        """Put records into the log; key n % 7, so that older ones are compacted away."""
        lines = [(seq, orjson.dumps(seal(bytes(32), f"token/{seq % 7}", seq, None).to_wire())) for seq in seqs]
        entries = [Entry(f"token/{seq % 7}", seq, line) for seq, line in lines]
        await self.telemetry.write(lambda c: SqlLog(c).put(EDGE_CONFIG, entries, 0))
        return lines

    async def publish(self, *seqs: int) -> None:
        self.followers.publish(await self.log(*seqs))


@asynccontextmanager
async def running(plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    gate = KeyGate(plane.authenticate, lambda: SECRETS)
    parts = FeedParts(plane.followers, gate, plane.ingest, plane.take_report)
    app.include_router(feed_router(parts))

    @app.exception_handler(ForegateError)
    async def refuse(_: Request, error: ForegateError) -> JSONResponse:
        return JSONResponse({"code": error.code}, status_code=400)

    await plane.followers.start()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(5):
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    plane.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=plane.url, headers={"Authorization": HEADER}) as http:
        yield http
    plane.followers.close()
    server.should_exit = True
    async with asyncio.timeout(5):
        await serving


class Edge:
    def __init__(self, cursor: int = 0) -> None:
        self.seqs = [cursor]
        self.ends: list[SnapshotEnd] = []

    def cursor(self) -> int:
        return max(self.seqs)

    async def take(self, records: list[dict[str, object]]) -> None:
        self.seqs += [int(str(r["seq"])) for r in records]

    async def begin_snapshot(self) -> None:
        return None

    async def end_snapshot(self, end: SnapshotEnd) -> None:
        self.ends.append(end)

    async def passed(self, seq: int) -> None:
        self.seqs.append(seq)

    async def caught_up(self, seq: int) -> None:
        return None


@asynccontextmanager
async def following(http: httpx.AsyncClient, edge: Edge) -> AsyncIterator[FeedClient]:
    async def nothing() -> None:
        return None

    client = FeedClient(http, edge, nothing, stall_seconds=2)
    task = asyncio.create_task(client.run())
    yield client
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_new_edge_gets_a_snapshot_and_then_every_change(telemetry: AsyncDatabase, until: Until) -> None:
    plane, edge = Plane(telemetry, 100), Edge()
    await plane.log(*range(1, 11))
    async with running(plane) as http, following(http, edge):
        await until(lambda: bool(edge.ends))
        assert edge.seqs == [0, 4, 5, 6, 7, 8, 9, 10], "each key once, the newest"
        assert edge.ends == [SnapshotEnd(10, 7)]
        await plane.publish(11, 12)
        await plane.publish(13)
        await until(lambda: edge.seqs[-3:] == [11, 12, 13])


@pytest.mark.parametrize("tail_records", [2, 100], ids=["from the log", "from memory"])
async def test_an_edge_that_was_away_gets_what_it_missed(
    telemetry: AsyncDatabase, until: Until, tail_records: int
) -> None:
    plane, edge = Plane(telemetry, tail_records), Edge(5)
    async with running(plane) as http:
        for seq in range(1, 13):
            await plane.publish(seq)
        async with following(http, edge):
            await until(lambda: edge.cursor() == 12)
            await plane.publish(13)
            await until(lambda: edge.cursor() == 13)
    assert edge.seqs == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert edge.ends == []


async def test_an_edge_older_than_the_tombstones_gets_a_snapshot(telemetry: AsyncDatabase, until: Until) -> None:
    plane, edge = Plane(telemetry, 100), Edge(2)
    await telemetry.write(lambda c: SqlLog(c).put(EDGE_CONFIG, [Entry("a", 3, b"{}", True), Entry("b", 4, b"{}")], 0))
    await plane.log(5)
    await telemetry.write(lambda c: SqlLog(c).drop_tombstones(EDGE_CONFIG, before=1))
    async with running(plane) as http, following(http, edge):
        await until(lambda: edge.ends == [SnapshotEnd(5, 2)])


async def test_many_followers_all_get_everything_in_order(telemetry: AsyncDatabase, until: Until) -> None:
    plane, edges = Plane(telemetry, 8), [Edge() for _ in range(10)]
    async with running(plane) as http:
        tasks = [following(http, edge) for edge in edges]
        for task in tasks:
            await task.__aenter__()
        for seq in range(1, 101):
            await plane.publish(seq)
        await until(lambda: all(edge.cursor() == 100 for edge in edges))
        for task in tasks:
            await task.__aexit__(None, None, None)
    for edge in edges:
        assert edge.seqs == sorted(edge.seqs)
        assert set(range(94, 101)) <= set(edge.seqs)


async def test_the_secrets_open_under_the_edge_key_alone(telemetry: AsyncDatabase) -> None:
    async with running(Plane(telemetry, 8)) as http:
        sealed = base64.b64decode((await http.get("/edge/v1/secrets")).json()["sealed"])
    assert open_secrets(sealed, "edge-1", "fgek_key") == SECRETS
    assert SECRETS.record_mac_key not in sealed


@pytest.mark.parametrize("header", ["", "Edge edge-1:wrong", "Bearer fgek_key"])
async def test_without_the_edge_key_nothing_is_served(telemetry: AsyncDatabase, header: str) -> None:
    async with running(plane := Plane(telemetry, 8)), httpx.AsyncClient(base_url=plane.url) as http:
        headers = {"Authorization": header}
        answers = [
            await http.get("/edge/v1/secrets", headers=headers),
            await http.get("/edge/v1/feed", headers=headers),
            await http.post("/edge/v1/events?worker=w&offset=0", headers=headers),
            await http.post("/edge/v1/reports", headers=headers),
        ]
    assert [answer.json()["code"] for answer in answers] == ["unauthenticated"] * 4


async def test_events_and_reports_are_handed_on(telemetry: AsyncDatabase) -> None:
    async with running(plane := Plane(telemetry, 8)) as http:
        answer = await http.post("/edge/v1/events?worker=w-1&offset=7&final=1", content=b"abc")
        await http.post("/edge/v1/reports", json={"applied_seq": 4, "refused": []})
    assert answer.json() == {"next_offset": 10}
    assert plane.batches == [EventBatch("edge-1", "w-1", 7, True, b"abc")]
    assert plane.reports == [("edge-1", {"applied_seq": 4, "refused": []})]


BAD_REQUESTS = {
    "worker with a slash": ("/edge/v1/events?worker=../x&offset=0", b""),
    "negative offset": ("/edge/v1/events?worker=w&offset=-1", b""),
    "batch too large": ("/edge/v1/events?worker=w&offset=0", bytes(MAX_EVENTS_BYTES + 1)),
    "report is not JSON": ("/edge/v1/reports", b"{"),
    "report without seq": ("/edge/v1/reports", b"{}"),
    "report of a list": ("/edge/v1/reports", b"[]"),
}


@pytest.mark.parametrize(("path", "body"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_malformed_input_is_refused(telemetry: AsyncDatabase, path: str, body: bytes) -> None:
    async with running(plane := Plane(telemetry, 8)) as http:
        answer = await http.post(path, content=body)
    assert answer.status_code in (400, 422)
    assert plane.batches == []
    assert plane.reports == []
