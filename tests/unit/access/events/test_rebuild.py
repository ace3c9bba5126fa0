"""Views that are made anew from the log are what the consumers made of it, and nothing counts twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import DatabaseError

from event_lines import ACCOUNT, APP, NOON_MICROS, Telemetry, batch, client, later, line
from foregate.access.events import rebuild
from foregate.access.events.rebuild import rebuild_counts, rebuild_index, rebuild_last_seen
from foregate.database.engine import Database
from foregate.database.sqlite import SqliteDatabase
from foregate.database.telemetry_schema import LAST_SEEN_WRITER, REBUILD, RETENTION
from foregate.eventlog.model import LOGIN_EVENTS
from foregate.eventlog.sql import SqlLog

MINUTE = NOON_MICROS // 60_000_000
COUNTS = "SELECT minute, account_id, app_id, reason, events FROM rollups ORDER BY minute"
INDEX = "SELECT * FROM event_blocks ORDER BY first_offset"
MALFORMED = 'SELECT * FROM malformed_lines ORDER BY "offset", first_byte'
NUMBERS = "SELECT * FROM worker_numbers"


@pytest.fixture
def rebuilding(telemetry: Telemetry) -> Iterator[Database]:
    database = SqliteDatabase(telemetry.path, REBUILD)
    yield database
    database.close()


def take(telemetry: Telemetry, minute: int, *, number: int) -> None:
    """A batch of two events and one malformed line in a minute after noon, taken in at its end."""
    lines = line(number, second=60 * minute) + line(number + 1, second=60 * minute + 1) + b'{"n":1}\n'
    telemetry.take(batch(lines, worker=f"w{number}"), now=later(60 * minute + 59))
    telemetry.consume()


@pytest.mark.parametrize("query", [COUNTS, INDEX, MALFORMED, NUMBERS], ids=["counts", "index", "malformed", "numbers"])
def test_views_of_a_whole_log_are_as_before(telemetry: Telemetry, rebuilding: Database, query: str) -> None:
    for minute in range(5):
        take(telemetry, minute, number=10 * minute)
    before = telemetry.rows(query)
    for _ in range(2):
        rebuild_index(rebuilding)
        rebuild_counts(rebuilding)
        assert sorted(telemetry.rows(query)) == sorted(before)


def test_views_that_were_lost_come_back(telemetry: Telemetry, rebuilding: Database) -> None:
    for minute in range(3):
        take(telemetry, minute, number=10 * minute)
    before = [telemetry.rows(query) for query in (COUNTS, MALFORMED)]
    with rebuilding.write() as connection:
        for table in ("rollups", "event_blocks", "malformed_lines"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    assert rebuild_index(rebuilding).batches == rebuild_counts(rebuilding).batches == 3
    assert [telemetry.rows(query) for query in (COUNTS, MALFORMED)] == before
    assert telemetry.rows("SELECT min(first_offset), max(last_offset), sum(events) FROM event_blocks") == [(1, 3, 6)]


def test_wrong_counts_are_put_right(telemetry: Telemetry, rebuilding: Database) -> None:
    take(telemetry, 0, number=0)
    with rebuilding.write() as connection:
        connection.exec_driver_sql("UPDATE rollups SET events = 1000")
    rebuild_counts(rebuilding)
    assert telemetry.rows(COUNTS) == [(MINUTE, ACCOUNT, APP, "service_auth", 2)]


def test_counts_of_what_the_log_has_lost_stay(telemetry: Telemetry, rebuilding: Database) -> None:
    for minute in range(4):
        take(telemetry, minute, number=10 * minute)
    before = telemetry.rows(COUNTS)
    trim(telemetry, 2)
    rebuilt = rebuild_counts(rebuilding)
    assert (rebuilt.batches, rebuilt.since) == (2, NOON_MICROS + 179_000_000)
    assert telemetry.rows(COUNTS) == before


def test_empty_log_takes_nothing_away(telemetry: Telemetry, rebuilding: Database) -> None:
    take(telemetry, 0, number=0)
    before = telemetry.rows(COUNTS)
    trim(telemetry, 1)
    assert rebuild_counts(rebuilding).batches == 0
    assert telemetry.rows(COUNTS) == before


def test_last_seen_comes_back_and_never_goes_back(telemetry: Telemetry) -> None:
    telemetry.take(batch(line(0, second=5, client_id=client(1)) + line(1, second=6, client_id=client(2))), now=later(9))
    with telemetry.jobs[0].database.write() as connection:
        connection.exec_driver_sql(f"INSERT INTO last_seen VALUES ('{client(2)}', {NOON_MICROS + 8_000_000}, 'edge-1')")
        connection.exec_driver_sql(
            "INSERT INTO consumer_offsets VALUES ('last-seen', 'login-events', 1, 0, 0, 1)"
        )  # as if it had been taken
    database = SqliteDatabase(telemetry.path, LAST_SEEN_WRITER)
    assert rebuild_last_seen(database).batches == 1
    database.close()
    assert telemetry.last_seen() == {client(1): 5.0, client(2): 8.0}


def test_what_the_worker_takes_meanwhile_counts_once(
    telemetry: Telemetry, rebuilding: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "_LAST_RECORDS", 0)
    take(telemetry, 0, number=0)
    taken_beside = iter(range(1, 4))

    def beside(going: rebuild._Going, database: Database) -> int:
        if (minute := next(taken_beside, None)) is not None:
            take(telemetry, minute, number=10 * minute)
        return left(going, database)

    left: Callable[[rebuild._Going, Database], int] = rebuild._Going.left
    monkeypatch.setattr(rebuild._Going, "left", beside)
    rebuild_counts(rebuilding)
    assert [row[4] for row in telemetry.rows(COUNTS)] == [2, 2, 2, 2]
    take(telemetry, 4, number=40)
    assert [row[4] for row in telemetry.rows(COUNTS)] == [2, 2, 2, 2, 2]


def test_what_the_consumer_has_not_taken_yet_is_left_to_it(telemetry: Telemetry, rebuilding: Database) -> None:
    take(telemetry, 0, number=0)
    telemetry.take(batch(line(5, second=60), worker="late"), now=later(61))
    assert rebuild_counts(rebuilding).batches == 1
    telemetry.consume()
    assert [row[4] for row in telemetry.rows(COUNTS)] == [2, 1]


def test_rebuilding_can_write_nothing_else(rebuilding: Database) -> None:
    for statement in (
        "DELETE FROM log_records",
        "DELETE FROM consumer_offsets",
        "INSERT INTO last_seen VALUES ('', 1, '')",
    ):
        with pytest.raises(DatabaseError, match="not authorized"), rebuilding.write() as connection:
            connection.exec_driver_sql(statement)


def trim(telemetry: Telemetry, batches: int) -> None:
    database = SqliteDatabase(telemetry.path, RETENTION)
    with database.write() as connection:
        SqlLog(connection).trim(LOGIN_EVENTS, max_bytes=0, before=0, limit=batches)
    database.close()
