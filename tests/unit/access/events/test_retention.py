"""Retention: events go by size and age, the oldest first, and what points at them goes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from event_lines import NOON, Telemetry, batch, client, later, line
from foregate.access.events.reports import take_report
from foregate.access.events.retention import RECEIPTS_KEPT, ROLLUPS_KEPT, TOMBSTONES_KEPT, Limits, Retention
from foregate.database.sqlite import SqliteDatabase
from foregate.database.telemetry_schema import RETENTION
from foregate.eventlog.model import EDGE_CONFIG, LOGIN_EVENTS, Entry
from foregate.eventlog.sql import SqlLog

MUCH = 2**40
MONTH = timedelta(days=30)
Keep = Callable[..., None]


@pytest.fixture
def keep(telemetry: Telemetry) -> Iterator[Keep]:
    """Apply limits until nothing is left to drop."""
    database = SqliteDatabase(telemetry.path, RETENTION)

    def apply(max_bytes: int = MUCH, max_age: timedelta = MONTH, now: datetime = NOON) -> None:
        retention = Retention(database, Limits(max_bytes, max_age), lambda: now)
        while retention.step():
            pass

    yield apply
    database.close()


def offsets(telemetry: Telemetry) -> list[int]:
    with telemetry.ingest.read() as connection:
        return [record.offset for record in SqlLog(connection).read(LOGIN_EVENTS, 0)]


def fill(telemetry: Telemetry, count: int) -> None:
    start = 0
    for number in range(count):
        lines = line(number, client_id=client(number)) + b"{broken\n"
        telemetry.take(batch(lines, start=start), now=later(number * 3600))
        start += len(lines)
    telemetry.consume()


def test_within_the_limits_nothing_goes(telemetry: Telemetry, keep: Keep) -> None:
    fill(telemetry, 3)
    keep()
    assert offsets(telemetry) == [1, 2, 3]


def test_oldest_batches_go_when_there_are_too_many_bytes(telemetry: Telemetry, keep: Keep) -> None:
    fill(telemetry, 120)
    (size,) = telemetry.rows("SELECT size_bytes FROM log_topics WHERE topic = 'login-events'")[0]
    keep(max_bytes=int(str(size)) // 2)
    left = offsets(telemetry)
    assert left == list(range(left[0], 121))
    assert 55 <= len(left) <= 62


def test_batches_go_when_they_are_too_old(telemetry: Telemetry, keep: Keep) -> None:
    fill(telemetry, 5)
    keep(max_age=timedelta(hours=2), now=later(4 * 3600))
    assert offsets(telemetry) == [3, 4, 5]


def test_what_points_at_dropped_batches_goes_with_them(
    telemetry: Telemetry, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foregate.access.events.blocks.MOST_RECORDS", 2)
    fill(telemetry, 5)
    keep(max_age=timedelta(hours=2), now=later(4 * 3600))
    assert telemetry.rows("SELECT first_offset FROM event_blocks") == [(3,), (5,)]
    assert telemetry.rows('SELECT "offset" FROM malformed_lines') == [(3,), (4,), (5,)]


def test_last_seen_and_counts_outlive_the_events(telemetry: Telemetry, keep: Keep) -> None:
    fill(telemetry, 5)
    keep(max_bytes=0)
    assert offsets(telemetry) == []
    assert len(telemetry.last_seen()) == 5
    assert telemetry.rows("SELECT sum(events) FROM rollups") == [(5,)]
    assert telemetry.rows("SELECT next_byte > 0 FROM spool_positions") == [(1,)]


def test_batch_sent_again_after_it_was_dropped_is_still_a_repeat(telemetry: Telemetry, keep: Keep) -> None:
    fill(telemetry, 1)
    keep(max_bytes=0)
    assert telemetry.take(batch(line(0, client_id=client(0))))[0].taken == 0


def test_old_counts_and_receipts_go_and_the_newest_receipt_of_an_edge_stays(telemetry: Telemetry, keep: Keep) -> None:
    fill(telemetry, 1)
    for applied, edge in ((1, "a"), (2, "a"), (1, "b")):
        with telemetry.ingest.write() as connection:
            refused = [{"key": "token/x", "seq": applied, "reason": "bad"}]
            take_report(connection, edge, {"applied_seq": applied, "refused": refused}, NOON)
    keep(now=NOON + max(ROLLUPS_KEPT, RECEIPTS_KEPT) + timedelta(minutes=2))
    assert telemetry.rows("SELECT * FROM rollups") == []
    assert telemetry.rows("SELECT edge_id, applied_seq FROM edge_progress ORDER BY 1") == [("a", 2), ("b", 1)]
    assert telemetry.rows("SELECT * FROM edge_refusals") == []


def test_old_tombstones_go_and_what_lives_stays(telemetry: Telemetry, keep: Keep) -> None:
    with telemetry.ingest.write() as connection:
        entries = [Entry("token/a", 1, b"", is_tombstone=True), Entry("token/b", 2, b"b")]
        SqlLog(connection).put(EDGE_CONFIG, entries, 0)
    keep(now=NOON + TOMBSTONES_KEPT)
    with telemetry.ingest.read() as connection:
        assert [record.key for record in SqlLog(connection).read(EDGE_CONFIG, 0)] == ["token/b"]


def test_workers_that_ended_long_ago_are_forgotten_and_living_ones_are_not(telemetry: Telemetry, keep: Keep) -> None:
    telemetry.take(batch(line(), worker="ended", is_final=True), batch(line(), worker="living"))
    telemetry.consume()
    keep(now=NOON + timedelta(days=200))
    assert telemetry.rows("SELECT worker FROM spool_positions") == [("living",)]
    assert telemetry.rows("SELECT worker FROM worker_numbers") == [("living",)]


def test_step_is_small(telemetry: Telemetry) -> None:
    fill(telemetry, 120)
    database = SqliteDatabase(telemetry.path, RETENTION)
    retention = Retention(database, Limits(0, MONTH), lambda: NOON)
    assert retention.step()
    assert len(offsets(telemetry)) == 108
    database.close()
