"""How fast events become "last seen", rollups and the index: one core, all consumers, SQL included.

`python -m bench.fold` prints rows; `measure(...)` gives them to the whole bench. The log is filled first, as an edge
would fill it; then the consumers take it in from the start, and their process's own clock is read.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.report import Row, table
from foregate.access.events.batch import parse_batch
from foregate.access.events.consumers import event_jobs
from foregate.access.events.ingest import take_in
from foregate.core.clock import utc_now
from foregate.database.migrate import upgrade
from foregate.database.sqlite import SqliteDatabase
from foregate.database.stores import SqliteStore
from foregate.database.telemetry_schema import INGEST
from foregate.eventlog.packing import pack
from foregate.eventlog.runner import Runner

# What an agent sends at once at full load: 4 MB.
_BATCH_EVENTS = 10_000
ACCOUNT = "0123456789abcdef0123456789abcdef"
APP = "6b1f1a52-58f1-4d5e-9a2e-0c8f3f1d2a77"
POLICY = "0f8fad5b-d9cb-469f-a165-70867728950e"


def measure(events: int = 1_200_000) -> list[Row]:
    """Fold `events` with one token repeating, and with many in random turn: the more of them, the more of "last seen"
    lies outside of the processor's caches, and the more rows are written for as many events."""
    return [
        _row("fold, one token", tokens=1, events=events),
        _row("fold, 10,000 tokens in random turn", tokens=10_000, events=events),
        _row("fold, 100,000 tokens in random turn", tokens=100_000, events=events),
    ]


def _row(name: str, *, tokens: int, events: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "telemetry.db"
        upgrade(path, "telemetry")
        ingest_seconds = _fill(path, tokens, events)
        runner = Runner(event_jobs(SqliteStore(path, "telemetry")), utc_now)
        wall, started = time.perf_counter(), time.process_time()
        while runner.round().moved:
            pass
        used, wall = time.process_time() - started, time.perf_counter() - wall
    note = (
        f"{events:,} events, CPU time; {events / wall:,.0f}/s by the wall; taking in {events / ingest_seconds:,.0f}/s"
    )
    return Row(name, events / used, 500_000, "events/s", at_most=False, note=note)


def _fill(path: Path, tokens: int, events: int) -> float:
    database = SqliteDatabase(path, INGEST)
    used, start = 0.0, 0
    for lines in _batches(tokens, events):
        packed = pack(lines)
        before = time.process_time()
        batch = parse_batch("edge-1", "w1", start, False, packed)
        with database.write() as connection:
            take_in(connection, batch, datetime.now(UTC))
        used += time.process_time() - before
        start = batch.end
    database.close()
    return used


def _batches(tokens: int, events: int) -> Iterator[bytes]:
    source = random.Random(7)
    ids = [f"{source.getrandbits(128):032x}.access" for _ in range(tokens)]
    second = int(time.time()) - events // 45_000 - 1
    for first in range(0, events, _BATCH_EVENTS):
        yield "".join(
            f'{{"n":{n},"t":{second + n // 45_000}.{n // 45 % 1000:03d},"ray":"{source.getrandbits(64):016x}",'
            f'"acct":"{ACCOUNT}","app":"{APP}","id":"{source.choice(ids)}","pol":"{POLICY}","why":"service_auth",'
            f'"host":"echo.localhost","ip":"127.0.0.1","m":"GET","path":"/api/v1/items/{n}","st":200,"c":{n},"end":"--"}}\n'
            for n in range(first, min(first + _BATCH_EVENTS, events))
        ).encode()


if __name__ == "__main__":
    print(table(measure()))
