"""Committed changes reach the log once each, in order, whatever dies in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from foregate.core.clock import utc_now
from foregate.core.records import open_record
from foregate.database.elections import Seat
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import enqueue
from foregate.database.records_schema import outbox
from foregate.database.sqlite import SqliteDatabase
from foregate.edge.publisher import Publisher
from foregate.eventlog.model import EDGE_CONFIG, LogRecord
from foregate.eventlog.sql import SqlLog

MAC_KEY = bytes(32)


class State:
    """What the control plane's tables would say: values by key; a key in `broken` cannot be compiled."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self.broken: set[str] = set()

    def compile_record(self, _: Connection, key: str) -> dict[str, Any] | None:
        if key in self.broken:
            raise ValueError("damaged row")
        return self.values.get(key)


def account(domain: str) -> dict[str, Any]:
    return {"auth_domain": domain, "deny_unmatched_requests": True, "exempted_hosts": []}


class Plane:
    """A publisher over two databases, and what it told its followers."""

    def __init__(self, records: AsyncDatabase, telemetry: AsyncDatabase) -> None:
        self.records, self.telemetry, self.state = records, telemetry, State()
        self.notified: list[int] = []
        # One that restarts goes on as it was, for these tests: who holds the seat is another suite's.
        self.seat = Seat("publisher", telemetry.database)
        assert self.seat.try_lock()
        with telemetry.database.write() as connection:
            assert self.seat.stand(connection)
        self.publisher = self.restarted()

    def restarted(self) -> Publisher:
        self.publisher = Publisher(
            self.records,
            self.telemetry,
            event_log=SqlLog,
            compile_record=self.state.compile_record,
            mac_key=MAC_KEY,
            notify=lambda lines, _after: self.notified.extend(seq for seq, _ in lines),
            seat=self.seat,
        )
        return self.publisher

    async def change(self, *keys: str) -> int:
        """Commit outbox rows; the last seq."""
        return await self.records.write(lambda c: [enqueue(c, key, utc_now()) for key in keys][-1])

    async def publish(self) -> None:
        while await self.publisher.publish_once():
            pass

    async def log(self) -> list[LogRecord]:
        return await self.telemetry.read(lambda c: SqlLog(c).read(EDGE_CONFIG, 0))

    async def unpublished(self) -> list[str]:
        await self.publisher._marked()
        query = select(outbox.c.record_key).where(outbox.c.published_at.is_(None)).order_by(outbox.c.seq)
        return [key for (key,) in await self.records.read(lambda c: c.execute(query).all())]


async def test_a_change_reaches_the_log_sealed_under_its_seq(records: AsyncDatabase, telemetry: AsyncDatabase) -> None:
    plane = Plane(records, telemetry)
    plane.state.values["account/a"] = account("auth.example.com")
    seq = await plane.change("account/a")
    await plane.publish()

    [entry] = await plane.log()
    record = open_record(MAC_KEY, json.loads(entry.value))
    assert (record.key, record.seq, entry.offset) == ("account/a", seq, seq)
    assert record.value == plane.state.values["account/a"]
    assert plane.notified == [seq]
    assert await plane.unpublished() == []


async def test_many_changes_of_one_key_are_one_record_of_the_newest_state(
    records: AsyncDatabase, telemetry: AsyncDatabase
) -> None:
    plane = Plane(records, telemetry)
    await plane.change("account/a", "token/x", "account/a")
    plane.state.values["account/a"] = account("second.example.com")
    await plane.publish()

    assert [(entry.key, entry.offset) for entry in await plane.log()] == [("token/x", 2), ("account/a", 3)]
    assert await plane.unpublished() == []


async def test_a_key_without_state_becomes_a_tombstone(records: AsyncDatabase, telemetry: AsyncDatabase) -> None:
    plane = Plane(records, telemetry)
    await plane.change("token/x")
    await plane.publish()

    [entry] = await plane.log()
    assert entry.is_tombstone
    assert open_record(MAC_KEY, json.loads(entry.value)).value is None


async def test_a_crash_between_log_and_mark_loses_and_doubles_nothing(
    records: AsyncDatabase, telemetry: AsyncDatabase
) -> None:
    plane = Plane(records, telemetry)
    plane.state.values["account/a"] = account("auth.example.com")
    await plane.change("account/a")
    await plane.publish()
    await plane.unpublished()
    # As if the process had died before the mark, and the state had changed before the next start.
    await records.write(lambda c: c.execute(update(outbox).values(published_at=None)))
    plane.state.values["account/a"] = account("other.example.com")

    await plane.restarted().recover()
    await plane.publish()

    [entry] = await plane.log()
    record = open_record(MAC_KEY, json.loads(entry.value))
    assert record.value == account("other.example.com")
    assert record.seq > 1, "the same seq never stands for two contents"
    assert await plane.unpublished() == []


async def test_a_key_that_cannot_be_compiled_does_not_stop_the_others_and_is_retried(
    records: AsyncDatabase, telemetry: AsyncDatabase
) -> None:
    plane = Plane(records, telemetry)
    plane.state.broken.add("account/a")
    plane.state.values["account/a"] = account("auth.example.com")
    await plane.change("account/a")
    await plane.change("token/x")
    await plane.publish()
    assert [entry.key for entry in await plane.log()] == ["token/x"]
    assert plane.publisher.failed == {"account/a": "ValueError: damaged row"}

    plane.state.broken.clear()
    await plane.publisher.retry_late()
    await plane.publish()
    assert [entry.key for entry in await plane.log()] == ["token/x", "account/a"]
    assert plane.publisher.failed == {}
    assert await plane.unpublished() == []


async def test_a_value_that_an_edge_would_refuse_is_never_sent(
    records: AsyncDatabase, telemetry: AsyncDatabase
) -> None:
    plane = Plane(records, telemetry)
    secret = {"version": 1, "digest": "", "pepper": 1, "expires_at": None}
    value = {"token_id": "t", "account_id": "a" * 32, "enabled": True, "expires_at": None, "secrets": [secret]}
    plane.state.values["token/x"] = value
    await plane.change("token/x")
    await plane.publish()
    assert await plane.log() == []
    assert "digest" in plane.publisher.failed["token/x"]


async def test_a_lost_log_is_filled_again_from_the_outbox(
    records: AsyncDatabase, telemetry: AsyncDatabase, tmp_path: Path
) -> None:
    plane = Plane(records, telemetry)
    plane.state.values["account/a"] = account("auth.example.com")
    await plane.change("account/a", "token/x", "account/a")
    await plane.publish()
    before = await plane.log()
    with SqliteDatabase(tmp_path / "telemetry.db", None).write() as connection:
        connection.exec_driver_sql("DELETE FROM log_records")
        connection.exec_driver_sql("DELETE FROM log_topics")

    await plane.restarted().recover()
    await plane.publish()
    after = await plane.log()
    assert [(entry.key, entry.offset, entry.value) for entry in after] == [
        (entry.key, entry.offset, entry.value) for entry in before
    ]


async def test_records_older_than_the_log_go_on_above_it(records: AsyncDatabase, telemetry: AsyncDatabase) -> None:
    plane = Plane(records, telemetry)
    for _ in range(5):
        await plane.change("token/x")
    await plane.publish()
    await plane.unpublished()
    await records.write(lambda c: c.exec_driver_sql("DELETE FROM outbox WHERE seq > 2"))
    await records.write(lambda c: c.exec_driver_sql("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'outbox'"))

    await plane.restarted().recover()
    assert await plane.change("token/x") == 7
    await plane.publish()
    assert [(entry.key, entry.offset) for entry in await plane.log()] == [("token/x", 7)]


async def test_what_older_records_do_not_remember_is_taken_back_from_the_edges(
    records: AsyncDatabase, telemetry: AsyncDatabase
) -> None:
    plane = Plane(records, telemetry)
    plane.state.values = {"account/kept": account("kept.test"), "account/changed": account("old.test")}
    await plane.change("account/kept", "account/changed")
    await plane.publish()
    await plane.unpublished()
    # After the copy was made: one is changed, one is new. Then the copy is put back.
    plane.state.values |= {"account/changed": account("new.test"), "account/new": account("new.test")}
    await plane.change("account/changed", "account/new")
    await plane.publish()
    await plane.unpublished()
    await records.write(lambda c: c.exec_driver_sql("DELETE FROM outbox WHERE seq > 2"))
    await records.write(lambda c: c.exec_driver_sql("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'outbox'"))
    plane.state.values = {"account/kept": account("kept.test"), "account/changed": account("old.test")}

    await plane.restarted().recover()
    await plane.publish()
    found = {entry.key: (entry.offset, entry.is_tombstone, entry.value) for entry in await plane.log()}
    assert found["account/kept"][0] == 1
    assert found["account/changed"][0] > 4
    assert b"old.test" in found["account/changed"][2]
    assert found["account/new"][0] > 4
    assert found["account/new"][1] is True
    assert await plane.unpublished() == []


async def test_run_publishes_what_it_is_woken_for(
    records: AsyncDatabase, telemetry: AsyncDatabase, until: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    plane = Plane(records, telemetry)
    running = asyncio.create_task(plane.publisher.run())
    for index in range(20):
        seq = await plane.change(f"token/{index}")
        plane.publisher.wake()
    await until(lambda: plane.notified[-1:] == [seq])
    running.cancel()
    assert plane.notified == list(range(1, 21))
