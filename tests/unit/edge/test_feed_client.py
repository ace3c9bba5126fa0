"""The feed client against control planes that misbehave, each over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from foregate.edge.feed_client import FeedBroken, FeedClient
from foregate.edge.feed_lines import SnapshotEnd

Until = Callable[[Callable[[], bool]], Awaitable[None]]
Script = Callable[["Connection"], Awaitable[None]]


def record(seq: int) -> bytes:
    return json.dumps({"key": f"token/{seq}", "seq": seq}).encode() + b"\n"


def heartbeat(seq: int) -> bytes:
    return json.dumps({"heartbeat": seq, "at": 0}).encode() + b"\n"


class Connection:
    """One request for the feed, answered by hand."""

    def __init__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        self.after = int(head.split(b"after=")[1].split(b"&")[0])
        self.head = head
        self._writer = writer

    async def send(self, *lines: bytes) -> None:
        """The answer's head first, then the lines; the connection stays open."""
        self._writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n" + b"".join(lines))
        await self._writer.drain()

    async def raw(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def stay(self) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def control_plane(*scripts: Script) -> AsyncIterator[tuple[str, list[Connection]]]:
    """A server whose n-th connection follows the n-th script; the last script repeats."""
    connections: list[Connection] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(await reader.readuntil(b"\r\n\r\n"), writer)
        connections.append(connection)
        try:
            await scripts[min(len(connections), len(scripts)) - 1](connection)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    finally:
        server.close()


class Edge:
    """Keeps what it is given; its cursor is the highest seq of an honest record."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.batches = 0
        self.snapshots: list[str] = []
        self.caught_up_to = -1
        self.passed_by: list[int] = []

    def cursor(self) -> int:
        return max(self.seqs, default=0)

    async def take(self, records: list[dict[str, object]]) -> None:
        self.batches += 1
        self.seqs += [seq for r in records if isinstance(seq := r["seq"], int) and "forged" not in r]

    async def begin_snapshot(self) -> None:
        self.snapshots.append("begin")

    async def end_snapshot(self, end: SnapshotEnd) -> None:
        self.snapshots.append(f"end {end.seq} {end.records}")

    async def passed(self, seq: int) -> None:
        self.passed_by.append(seq)

    async def caught_up(self, seq: int) -> None:
        self.caught_up_to = seq


@asynccontextmanager
async def following(
    url: str, edge: Edge, prepare: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[FeedClient]:
    async def nothing() -> None:
        return None

    async with httpx.AsyncClient(base_url=url, headers={"Authorization": "Edge e:k"}) as http:
        client = FeedClient(http, edge, prepare or nothing, stall_seconds=0.3, longest_pause_seconds=0.1)
        running = asyncio.create_task(client.run())
        try:
            yield client
            assert not running.done(), "the client ended"
        finally:
            running.cancel()


async def test_records_and_snapshots_are_handed_on_in_order(until: Until) -> None:
    async def script(connection: Connection) -> None:
        begin, end = b'{"snapshot_begin": 2}\n', b'{"snapshot_end": 2, "records": 2}\n'
        await connection.send(begin, record(1), record(2), end, record(3), heartbeat(3))
        await connection.stay()

    edge = Edge()
    async with control_plane(script) as (url, connections), following(url, edge) as client:
        await until(lambda: edge.caught_up_to == 3)
        assert client.status.state == "following"
        assert client.status.reason == ""
    assert edge.seqs == [1, 2, 3]
    assert edge.snapshots == ["begin", "end 2 2"]
    assert connections[0].after == 0
    assert b"Authorization: Edge e:k" in connections[0].head


async def test_lines_cut_anywhere_are_put_together(until: Until) -> None:
    async def script(connection: Connection) -> None:
        await connection.send()
        for byte in record(1) + record(2) + heartbeat(2):
            await connection.raw(bytes([byte]))
        await connection.stay()

    edge = Edge()
    async with control_plane(script) as (url, _), following(url, edge):
        await until(lambda: edge.caught_up_to == 2)
    assert edge.seqs == [1, 2]


async def test_a_burst_is_one_batch(until: Until) -> None:
    async def script(connection: Connection) -> None:
        await connection.send(*(record(seq) for seq in range(1, 1001)), heartbeat(1000))
        await connection.stay()

    edge = Edge()
    async with control_plane(script) as (url, _), following(url, edge):
        await until(lambda: edge.caught_up_to == 1000)
    assert edge.seqs == list(range(1, 1001))
    assert edge.batches < 20


async def _end(connection: Connection) -> None:
    await connection.send(record(1))


async def _stall(connection: Connection) -> None:
    await connection.send(record(1))
    await connection.stay()


async def _trickle(connection: Connection) -> None:
    await connection.send(record(1))
    while True:
        await connection.raw(b"x")
        await asyncio.sleep(0.05)


async def _not_json(connection: Connection) -> None:
    await connection.send(record(1), b"{{{\n", record(2))
    await connection.stay()


async def _not_http(connection: Connection) -> None:
    await connection.raw(b"SSH-2.0-OpenSSH\r\n")


async def _refuses(connection: Connection) -> None:
    await connection.raw(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")


async def _loses_a_record(connection: Connection) -> None:
    await connection.send(record(1), heartbeat(7))
    await connection.stay()


FAULTS: dict[str, tuple[Script, str]] = {
    "ends the stream": (_end, "ended the stream"),
    "stalls": (_stall, "stalled"),
    "trickles without a line": (_trickle, "stalled"),
    "sends garbage": (_not_json, "garbage: not JSON"),
    "speaks no HTTP": (_not_http, "RemoteProtocolError"),
    "refuses the key": (_refuses, "answered 401"),
    "loses a record": (_loses_a_record, "gap"),
}


@pytest.mark.parametrize(("script", "reason"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_faulty_control_plane_is_left_and_tried_again(script: Script, reason: str, until: Until) -> None:
    async def sound(connection: Connection) -> None:
        await connection.send(record(8), heartbeat(8))
        await connection.stay()

    edge = Edge()
    reasons: set[str] = set()
    async with control_plane(script, sound) as (url, connections), following(url, edge) as client:
        await until(lambda: bool(reasons.add(client.status.reason)) or edge.caught_up_to == 8)
        assert connections[1].after == max(edge.seqs[:-1], default=0), "it goes on from what it has"
    assert any(reason in seen for seen in reasons)
    assert edge.seqs[-1] == 8


async def test_a_refused_connection_is_tried_again(until: Until) -> None:
    edge = Edge()
    async with control_plane(_end) as (url, _):
        pass
    async with following(url, edge) as client:
        await until(lambda: "ConnectError" in client.status.reason)


async def test_garbage_that_stays_is_passed_over_in_the_end(until: Until) -> None:
    async def script(connection: Connection) -> None:
        await connection.send(b"{{{\n", record(9), heartbeat(9))
        await connection.stay()

    edge = Edge()
    async with control_plane(script) as (url, connections), following(url, edge) as client:
        await until(lambda: edge.caught_up_to == 9)
        assert "garbage" in client.status.reason
    assert len(connections) == 4


async def test_a_record_of_no_worth_at_the_end_is_no_gap(until: Until) -> None:
    async def script(connection: Connection) -> None:
        await connection.send(record(1), b'{"key": "token/2", "seq": 2, "forged": 1}\n', heartbeat(2))
        await connection.stay()

    edge = Edge()
    async with control_plane(script) as (url, connections), following(url, edge):
        await until(lambda: edge.caught_up_to == 2)
    assert len(connections) == 1


async def test_a_control_plane_that_went_back_is_noted_and_followed(until: Until) -> None:
    async def first(connection: Connection) -> None:
        await connection.send(record(50))

    async def older(connection: Connection) -> None:
        await connection.send(heartbeat(3), record(3))
        await connection.stay()

    edge = Edge()
    async with control_plane(first, older) as (url, _), following(url, edge) as client:
        await until(lambda: edge.caught_up_to == 3)
        assert client.status.reason == "went back: the control plane is at 3, this edge at 50"
        assert client.status.state == "following"


async def test_a_failed_preparation_is_tried_again(until: Until) -> None:
    tries: list[str] = []

    async def prepare() -> None:
        tries.append("")
        if len(tries) < 3:
            raise FeedBroken("no secrets yet")

    edge = Edge()
    async with control_plane(_stall) as (url, _), following(url, edge, prepare):
        await until(lambda: edge.seqs == [1])
    assert len(tries) == 3
