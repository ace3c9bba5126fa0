"""Who is told what: records about one edge go to that edge alone, and an expelled one is told of nothing more."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from foregate.core.records import seal
from foregate.database.engine import AsyncDatabase
from foregate.edge.feed_lines import Heartbeat, Passed, RecordLine, SnapshotBegin, SnapshotEnd, parse_line
from foregate.edge.feed_stream import FeedStream
from foregate.edge.followers import Followers, Reader
from foregate.edge.snapshots import Snapshot, Snapshots
from foregate.edge.wire import EdgeValue
from foregate.eventlog.model import EDGE_CONFIG, Bounds, Entry
from foregate.eventlog.sql import SqlLog
from foregate.services.web import serve

MINE = EdgeValue("mine", "", False, b"sealed").to_wire()
GONE = EdgeValue("mine", "", True, b"").to_wire()


class Plane:
    """A log and those who follow it."""

    def __init__(self, telemetry: AsyncDatabase, folder: Path, *, tail_records: int = 100) -> None:
        self.telemetry = telemetry
        self.reads = 0
        self.followers = Followers(
            telemetry, self._log, mac_key=bytes(32), folder=folder, heartbeat_seconds=0.2, tail_records=tail_records
        )
        self.seqs = itertools.count(1)

    def _log(self, connection: Any) -> SqlLog:
        self.reads += 1
        return SqlLog(connection)

    async def put(self, *records: tuple[str, dict[str, Any] | None]) -> None:
        lines = []
        for key, value in records:
            seq = next(self.seqs)
            lines.append((seq, key, orjson.dumps(seal(bytes(32), key, seq, value).to_wire())))
        entries = [Entry(key, seq, line) for seq, key, line in lines]
        await self.telemetry.write(lambda c: SqlLog(c).put(EDGE_CONFIG, entries, 0))
        self.followers.publish([(seq, line) for seq, _, line in lines])

    async def lines(self, reader: Reader, after: int, until: int) -> list[str]:
        """What the reader is told up to seq `until`, in short; the heartbeats between left out."""
        found: list[str] = []
        rest = b""
        async with asyncio.timeout(5), aclosing(self.followers.follow(after, reader)) as stream:
            async for chunk in stream:
                *whole, rest = (rest + chunk).split(b"\n")
                for text in whole:
                    line = parse_line(text)
                    found += [word] if (word := in_short(line)) else []
                    if reached(line) >= until and "begin" not in found[-1]:
                        return found
        return [*found, "end"]


def in_short(line: object) -> str:
    match line:
        case RecordLine(wire):
            return str(wire["key"])
        case Passed(seq):
            return f"passed {seq}"
        case SnapshotBegin(seq):
            return f"begin {seq}"
        case SnapshotEnd(seq, records):
            return f"end {seq} of {records}"
        case _:
            return ""


def reached(line: object) -> int:
    match line:
        case RecordLine(wire):
            return int(str(wire["seq"]))
        case Passed(seq) | SnapshotEnd(seq) | Heartbeat(seq):
            return seq
        case _:
            return 0


@pytest.fixture
async def plane(telemetry: AsyncDatabase, tmp_path: Path) -> Plane:
    made = Plane(telemetry, tmp_path)
    await made.put(("token/0", None))
    await made.followers.start()
    return made


RECORDS = [("token/a", None), ("edge/mine", MINE), ("token/b", None), ("edge/other", MINE)]


@pytest.mark.parametrize("tail_records", [1, 100], ids=["from the log", "from memory"])
@pytest.mark.parametrize(
    ("reader", "told"),
    [
        (Reader("mine", 2), ["token/a", "edge/mine", "token/b", "passed 5"]),
        (Reader("other", 2), ["token/a", "token/b", "edge/other"]),
        (Reader("third", 2), ["token/a", "token/b", "passed 5"]),
    ],
    ids=["its own", "the last", "neither"],
)
async def test_record_about_an_edge_goes_to_that_edge_alone(
    telemetry: AsyncDatabase, tmp_path: Path, tail_records: int, reader: Reader, told: list[str]
) -> None:
    plane = Plane(telemetry, tmp_path, tail_records=tail_records)
    await plane.put(("token/0", None))
    await plane.followers.start()
    await plane.put(*RECORDS)
    assert await plane.lines(reader, 1, 5) == told


async def test_reader_of_version_1_is_told_of_no_seq_that_it_was_not_sent(plane: Plane) -> None:
    """It would take it for a gap, and connect again and again."""
    await plane.put(*RECORDS)
    seqs: list[int] = []
    async with asyncio.timeout(5), aclosing(plane.followers.follow(1, Reader("mine"))) as stream:
        async for chunk in stream:
            lines = [parse_line(text) for text in chunk.splitlines()]
            seqs += [reached(line) for line in lines]
            assert not any(isinstance(line, Passed) for line in lines)
            if len(seqs) > 5:
                break
    assert seqs == [1, 2, 4, 4, 4, 4], "two records, and heartbeats"


async def test_expelled_edge_is_told_so_and_nothing_after_it(plane: Plane) -> None:
    others = asyncio.create_task(plane.lines(Reader("other", 2), 1, 4))
    told = asyncio.create_task(plane.lines(Reader("mine", 2), 1, 99))
    await asyncio.sleep(0)
    await plane.put(("token/a", None))
    await plane.put(("edge/mine", GONE))
    await plane.put(("token/b", None))
    assert await told == ["token/a", "edge/mine", "end"]
    assert (await others)[-1] == "token/b"
    assert await plane.lines(Reader("mine", 2), 1, 99) == ["token/a", "edge/mine", "end"], "nor when it comes again"


async def test_record_that_is_not_the_control_planes_expels_nobody(plane: Plane) -> None:
    forged = seal(b"x" * 32, "edge/mine", 2, GONE)
    plane.followers.publish([(2, orjson.dumps(forged.to_wire()))])
    next(plane.seqs)
    await plane.put(("token/a", None))
    assert await plane.lines(Reader("mine", 2), 1, 3) == ["edge/mine", "token/a"]


async def test_edge_that_is_expelled_by_a_call_is_cut_off_before_its_record_is_published(plane: Plane) -> None:
    told = asyncio.create_task(plane.lines(Reader("mine", 2), 1, 99))
    await asyncio.sleep(0.05)
    plane.followers.expel("mine")
    assert await told == ["end"]


async def test_one_snapshot_serves_all_who_need_one(plane: Plane, tmp_path: Path) -> None:
    await plane.put(*((f"token/{number}", None) for number in range(1, 5_000)), ("edge/mine", MINE))
    await plane.lines(Reader("first", 2), 0, 5_001)
    reads = plane.reads
    found = await asyncio.gather(*(plane.lines(Reader(f"edge-{number}", 2), 0, 5_001) for number in range(20)))
    assert plane.reads - reads <= 1, "the extent of the log, once"
    for lines in found:
        assert (lines[0], lines[-1], len(lines)) == ("begin 5001", "end 5001 of 5000", 5_002)
    assert not [name for name in os.listdir(tmp_path) if not name.startswith("telemetry.db")], "it has no name"


async def test_edge_hears_that_somebody_is_there_while_a_snapshot_is_made(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million records take longer to read than an edge waits for a line."""
    made = asyncio.Event()
    make = Snapshots._make

    async def make_late(self: Snapshots, bounds: Bounds) -> Snapshot:
        await made.wait()
        return await make(self, bounds)

    monkeypatch.setattr(Snapshots, "_make", make_late)
    async with asyncio.timeout(5), aclosing(plane.followers.follow(0, Reader("mine", 2))) as stream:
        lines = [parse_line((await anext(stream)).rstrip()) for _ in range(3)]
        assert [reached(line) for line in lines] == [0, 0, 0]
        made.set()
        while not isinstance(parse_line((await anext(stream)).rstrip()), SnapshotBegin):
            pass


async def test_snapshot_that_is_a_little_old_is_followed_on_from(plane: Plane) -> None:
    await plane.put(*((f"token/{number}", None) for number in range(1, 50)))
    await plane.lines(Reader("first", 2), 0, 50)
    await plane.put(("token/new", None), ("token/1", None))
    lines = await plane.lines(Reader("second", 2), 0, 52)
    assert (lines[0], lines[-3:]) == ("begin 50", ["end 50 of 50", "token/new", "token/1"])


async def test_snapshot_that_is_too_old_is_made_anew(plane: Plane) -> None:
    await plane.lines(Reader("first", 2), 0, 1)
    await plane.put(*((f"token/{number}", None) for number in range(1, 1_200)))
    await asyncio.sleep(0.5)  # the look at the log's extent holds so long
    assert (await plane.lines(Reader("second", 2), 0, 1_200))[0] == "begin 1200"


async def test_what_many_are_told_is_put_together_once(plane: Plane) -> None:
    streams = [plane.followers.follow(1, Reader(f"edge-{number}", 2)) for number in range(300)]
    for stream in streams:
        await anext(stream)
    waiting = [asyncio.create_task(_next_record(stream)) for stream in streams]
    await asyncio.sleep(0.05)
    reads = plane.reads
    await plane.put(("token/a", None))
    chunks = await asyncio.gather(*waiting)
    assert len({id(chunk) for chunk in chunks}) == 1
    assert plane.reads == reads
    for stream in streams:
        await stream.aclose()


async def _next_record(stream: AsyncIterator[bytes]) -> bytes:
    async for chunk in stream:
        if b'"key"' in chunk:
            return chunk
    raise AssertionError("the stream ended")


@asynccontextmanager
async def served(lines: Any, *, give_up_seconds: float) -> AsyncIterator[socket.socket]:
    """A connection to a real server that answers with these lines."""
    listener, told = socket.create_server(("127.0.0.1", 0)), asyncio.Event()
    answer = FeedStream(lines, "edge", give_up_seconds=give_up_seconds)
    serving = asyncio.create_task(serve(answer, listener, told))
    client = socket.create_connection(listener.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    yield client
    told.set()
    await serving  # within its drain, where the connection is still open
    client.close()


async def test_follower_that_never_reads_is_given_up_at_a_bound() -> None:
    ended, sent = asyncio.Event(), 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal sent
        try:
            while True:
                sent += 1 << 20
                yield bytes(1 << 20)
        finally:
            ended.set()

    async with asyncio.timeout(4), served(lines(), give_up_seconds=0.3):
        await ended.wait()
    assert sent < 64 << 20, "no more is held for it than the sockets take"


async def test_stream_of_a_follower_that_is_gone_ends() -> None:
    ended = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        try:
            yield b"first\n"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with served(lines(), give_up_seconds=60) as client, asyncio.timeout(10):
        await asyncio.get_running_loop().run_in_executor(None, client.recv, 4_096)
        client.close()
        await ended.wait()
