"""Builders of event lines and batches for tests, and a telemetry database to put them into."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from foregate.access.events.batch import SpoolBatch, parse_batch
from foregate.access.events.consumers import event_jobs
from foregate.access.events.ingest import Receipt, take_in
from foregate.core.clock import to_micros
from foregate.database.migrate import upgrade
from foregate.database.sqlite import SqliteDatabase
from foregate.database.stores import SqliteStore
from foregate.database.telemetry_schema import INGEST
from foregate.eventlog.runner import Runner

ACCOUNT = "a" * 32
APP = "0f8fad5b-d9cb-469f-a165-70867728950e"
POLICY = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
NOON = datetime(2026, 9, 25, 12, 0, tzinfo=UTC)
NOON_MICROS = to_micros(NOON)
FAILURE = b'tls_failure"n":4,"t":1790337600.000,"ray":"","acct":"","app":"","id":"","pol":"","why":"","host":"",\
"ip":"192.0.2.7","m":"","path":"","st":0,"c":1,"end":"PR"}\n'
NOTICE = b"Proxy edge stopped (cumulated conns: FE: 12, BE: 0).\n"


def later(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def client(number: int) -> str:
    """A client id."""
    return f"{number:032x}.access"


def line(
    number: int = 0,
    *,
    second: float = 0.0,
    client_id: str = client(1),
    reason: str = "service_auth",
    path: str = "/",
    app: str = APP,
    account: str = ACCOUNT,
    host: str = "echo.localhost",
    status: int = 200,
    count: int | None = None,
) -> bytes:
    """An event line as HAProxy writes it, `second` seconds after noon; host and path escaped as by `json(utf8s)`.

    `count`: the lines that the worker had written before; the same as `number` unless given.
    """
    at = NOON_MICROS + round(second * 1e6)
    time = f"{at // 1_000_000}.{at // 1000 % 1000:03d}"
    return (
        f'{{"n":{number},"t":{time},"ray":"{number:016x}","acct":"{account}","app":"{app}","id":"{client_id}",'
        f'"pol":"{POLICY}","why":"{reason}","host":{json.dumps(host)},"ip":"192.0.2.7","m":"GET",'
        f'"path":{json.dumps(path)},"st":{status},'
        f'"c":{number if count is None else count},"end":"--"}}\n'
    ).encode()


def batch(
    lines: bytes, *, start: int = 0, edge: str = "edge-1", worker: str = "w1", is_final: bool = False
) -> SpoolBatch:
    """A batch as it comes out of the body that an edge sends."""
    return parse_batch(edge, worker, start, is_final, zlib.compress(lines, 1))


class Telemetry:
    """A telemetry database with its consumers, as API process and worker have it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "telemetry.db"
        upgrade(self.path, "telemetry")
        self.ingest = SqliteDatabase(self.path, INGEST)
        self.jobs = event_jobs(SqliteStore(self.path, "telemetry"))
        self.runner = Runner(self.jobs, lambda: NOON)

    def take(self, *batches: SpoolBatch, now: datetime = NOON) -> list[Receipt]:
        """Take batches in, each in a transaction of its own."""
        receipts = []
        for one in batches:
            with self.ingest.write() as connection:
                receipts.append(take_in(connection, one, now))
        return receipts

    def consume(self) -> None:
        """Let the consumers take all that is there."""
        while self.runner.round().moved:
            pass

    def rows(self, query: str) -> Sequence[tuple[object, ...]]:
        """The rows of a query, in a read transaction."""
        with self.ingest.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def last_seen(self) -> dict[object, object]:
        """When each token was last seen, in seconds after noon."""
        return {
            client_id: (int(str(at)) - NOON_MICROS) / 1e6
            for client_id, at in self.rows("SELECT client_id, seen_at FROM last_seen")
        }

    def close(self) -> None:
        """Close every connection."""
        self.ingest.close()
        for job in self.jobs:
            job.database.close()
