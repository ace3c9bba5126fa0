"""Running consumers: offset and result together, one failing consumer stops no other, poison is set aside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from event_lines import NOON
from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.migrate import upgrade
from foregate.database.rights import Rights, TableRights
from foregate.database.sqlite import SqliteDatabase
from foregate.database.telemetry_schema import metadata
from foregate.eventlog import runner as running
from foregate.eventlog.consumer import Job
from foregate.eventlog.model import LogRecord
from foregate.eventlog.runner import READ_RECORDS, Runner, run
from foregate.eventlog.sql import SqlLog
from harness.waiting import until

TOPIC = "things"
# Values are kept as "client ids" of last_seen: a table with a result that a test can read.
KEEP = text("INSERT INTO last_seen (client_id, seen_at, edge_id) VALUES (:value, :offset, :name)")


class Refused(Exception):
    """A record that a consumer cannot take. Its text quotes the record, which must not get into the database."""


@dataclass
class Keeper:
    """Keeps the values of all records, once each. `refuses` fails on adding, `breaks` on storing."""

    name: str = "keeper"
    refuses: set[bytes] = field(default_factory=set)
    breaks: Callable[[list[LogRecord]], None] = lambda _: None
    topic: str = TOPIC

    def begin(self) -> list[LogRecord]:
        return []

    def add(self, gathered: list[LogRecord], record: LogRecord) -> None:
        if record.value in self.refuses:
            raise Refused(record.value)
        gathered.append(record)

    def finish(self, gathered: list[LogRecord]) -> list[LogRecord]:
        return gathered

    def store(self, connection: Connection, finished: list[LogRecord]) -> None:
        for record in finished:
            row = {"value": f"{self.name}:{record.value.decode()}", "offset": record.offset, "name": self.name}
            connection.execute(KEEP, row)
        self.breaks(finished)


def everything() -> Rights:
    """All of the database: these tests are about the runner."""
    return Rights(
        "test",
        {
            name: TableRights(may_insert=True, may_delete=True, updatable=frozenset(table.columns.keys()))
            for name, table in metadata.tables.items()
        },
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    upgrade(tmp_path / "telemetry.db", "telemetry")
    opened = SqliteDatabase(tmp_path / "telemetry.db", everything())
    yield opened
    opened.close()


def fill(database: SqliteDatabase, *values: bytes) -> None:
    with database.write() as connection:
        for value in values:
            SqlLog(connection).append(TOPIC, "k", value, 1)


def runner_of(database: SqliteDatabase, *consumers: Keeper) -> Runner:
    return Runner([Job(consumer, database) for consumer in consumers], lambda: NOON)


def finish(runner: Runner, *, rounds: int = 400) -> None:
    """Rounds until nothing moves for as long as the longest back-off."""
    idle = 0
    for _ in range(rounds):
        idle = 0 if runner.round().moved else idle + 1
        if idle > 130:
            return


def kept(database: SqliteDatabase, name: str = "keeper") -> list[str]:
    with database.read() as connection:
        found = connection.exec_driver_sql(f"SELECT client_id FROM last_seen WHERE edge_id = '{name}' ORDER BY seen_at")
        return [row[0].removeprefix(f"{name}:") for row in found]


def offsets(database: SqliteDatabase) -> dict[str, tuple[int, int, int]]:
    with database.read() as connection:
        found = connection.exec_driver_sql('SELECT consumer, "offset", skipped, set_aside FROM consumer_offsets')
        return {row[0]: (row[1], row[2], row[3]) for row in found}


def test_records_are_consumed_once_and_the_offset_goes_with_them(database: SqliteDatabase) -> None:
    fill(database, b"a", b"b")
    finish(runner_of(database, Keeper()))
    fill(database, b"c")
    finish(runner_of(database, Keeper()))
    assert kept(database) == ["a", "b", "c"]
    assert offsets(database) == {"keeper": (3, 0, 0)}


def test_many_records_are_consumed_in_several_reads(database: SqliteDatabase) -> None:
    fill(database, *(b"%d" % number for number in range(READ_RECORDS + 5)))
    finish(runner_of(database, Keeper()))
    assert len(kept(database)) == READ_RECORDS + 5


def test_crash_between_result_and_offset_leaves_neither(database: SqliteDatabase) -> None:
    fill(database, b"a", b"b")

    def crash(_: list[LogRecord]) -> None:
        raise KeyboardInterrupt  # as abrupt as a process can end and still be watched

    with pytest.raises(KeyboardInterrupt):
        runner_of(database, Keeper(breaks=crash)).round()
    assert (kept(database), offsets(database)) == ([], {})
    finish(runner_of(database, Keeper()))
    assert kept(database) == ["a", "b"]


def test_failing_consumer_stops_no_other(database: SqliteDatabase) -> None:
    fill(database, b"a")

    def fail(_: list[LogRecord]) -> None:
        raise RuntimeError

    runner = runner_of(database, Keeper("bad", breaks=fail), Keeper("good"))
    assert runner.round().moved
    assert (kept(database, "good"), kept(database, "bad")) == (["a"], [])


def test_consumer_that_recovers_catches_up(database: SqliteDatabase) -> None:
    fill(database, b"a", b"b")
    failures = iter([RuntimeError, RuntimeError])

    def fail_twice(_: list[LogRecord]) -> None:
        for failure in failures:
            raise failure

    finish(runner_of(database, Keeper(breaks=fail_twice)))
    assert kept(database) == ["a", "b"]
    assert offsets(database) == {"keeper": (2, 0, 0)}


def test_record_that_cannot_be_added_is_set_aside_and_its_content_not_told(database: SqliteDatabase) -> None:
    fill(database, b"a", b"poison", b"b")
    finish(runner_of(database, Keeper(refuses={b"poison"}), Keeper("other")))
    assert (kept(database), kept(database, "other")) == (["a", "b"], ["a", "poison", "b"])
    assert offsets(database) == {"keeper": (3, 0, 1), "other": (3, 0, 0)}
    with database.read() as connection:
        rows = connection.exec_driver_sql('SELECT consumer, topic, "offset", reason FROM poison_records').all()
    assert [tuple(row) for row in rows] == [("keeper", TOPIC, 2, "Refused")]


def test_record_that_cannot_be_stored_is_found_among_others_and_set_aside(database: SqliteDatabase) -> None:
    fill(database, b"a", b"poison", b"b")

    def fail_on_poison(records: list[LogRecord]) -> None:
        if any(record.value == b"poison" for record in records):
            raise RuntimeError

    finish(runner_of(database, Keeper(breaks=fail_on_poison)))
    assert kept(database) == ["a", "b"]
    assert offsets(database) == {"keeper": (3, 0, 1)}


def test_outage_of_the_database_sets_no_record_aside(database: SqliteDatabase) -> None:
    fill(database, b"a")
    outages = iter([ForegateError(ErrorCode.UNAVAILABLE, "The disk is full.")] * 8)

    def outage(_: list[LogRecord]) -> None:
        for failure in outages:
            raise failure

    finish(runner_of(database, Keeper(breaks=outage)))
    assert (kept(database), offsets(database)) == (["a"], {"keeper": (1, 0, 0)})


def test_schema_that_does_not_fit_sets_no_record_aside(database: SqliteDatabase) -> None:
    fill(database, b"a")
    statements = iter(["SELECT missing FROM last_seen"] * 6)

    def outdated(_: list[LogRecord]) -> None:
        for statement in statements:
            with database.read() as connection:
                connection.exec_driver_sql(statement)

    finish(runner_of(database, Keeper(breaks=outdated)))
    assert (kept(database), offsets(database)) == (["a"], {"keeper": (1, 0, 0)})


def test_records_trimmed_before_they_were_read_are_counted(database: SqliteDatabase) -> None:
    fill(database, b"a", b"b", b"c")
    with database.write() as connection:
        SqlLog(connection).trim(TOPIC, max_bytes=0, before=0, limit=2)
    finish(runner_of(database, Keeper()))
    assert (kept(database), offsets(database)) == (["c"], {"keeper": (3, 2, 0)})


def test_record_counts_once_even_if_two_workers_run_the_same_consumer(database: SqliteDatabase) -> None:
    first, second = runner_of(database, Keeper()), runner_of(database, Keeper())
    for number in range(6):
        fill(database, b"%d" % number)
        for runner in (first, second) if number % 2 else (second, first):
            runner.round()
    finish(first)
    assert kept(database) == [str(number) for number in range(6)]
    assert offsets(database) == {"keeper": (6, 0, 0)}


def test_offset_in_the_database_cannot_go_back(database: SqliteDatabase) -> None:
    fill(database, b"a")
    finish(runner_of(database, Keeper()))
    with database.write() as connection, pytest.raises(Exception, match="never goes back"):
        connection.exec_driver_sql('UPDATE consumer_offsets SET "offset" = 0')


class Chores:
    """A chore that has more to do a few times, and then fails."""

    name = "chores"

    def __init__(self) -> None:
        self.steps = 0

    def step(self) -> bool:
        self.steps += 1
        if self.steps == 3:
            raise ForegateError(ErrorCode.UNAVAILABLE, "The disk is full.")
        return self.steps < 3


def test_run_takes_what_comes_does_chores_and_ends_when_told(database: SqliteDatabase) -> None:
    stop, chores = threading.Event(), Chores()
    jobs = [Job(Keeper(), database)]
    thread = threading.Thread(target=run, args=(jobs, [chores], stop, lambda: NOON))
    thread.start()
    try:
        fill(database, b"a")
        until(lambda: kept(database) == ["a"], 5, "the first record is consumed")
        fill(database, b"b")
        until(lambda: kept(database) == ["a", "b"], 5, "a later record is consumed")
        until(lambda: chores.steps == 3, 5, "the chore went on while it had more to do")
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_chores_go_on_when_a_clock_that_was_ahead_is_put_right(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_CHORE_EVERY_SECONDS", 0.01)
    times = iter([NOON + timedelta(hours=1)] * 2)
    stop, chores = threading.Event(), Chores()
    chores.steps = 3
    thread = threading.Thread(target=run, args=([], [chores], stop, lambda: next(times, NOON)))
    thread.start()
    try:
        until(lambda: chores.steps > 6, 5, "the chore is done again and again")
    finally:
        stop.set()
        thread.join(5)


def test_run_tries_again_after_an_outage_without_anything_new(database: SqliteDatabase) -> None:
    fill(database, b"a")
    outages = iter([ForegateError(ErrorCode.UNAVAILABLE, "The disk is full.")])

    def outage(_: list[LogRecord]) -> None:
        for failure in outages:
            raise failure

    stop = threading.Event()
    thread = threading.Thread(target=run, args=([Job(Keeper(breaks=outage), database)], [], stop, lambda: NOON))
    thread.start()
    try:
        until(lambda: kept(database) == ["a"], 5, "the record is consumed all the same")
    finally:
        stop.set()
        thread.join(5)


def test_run_goes_on_after_the_log_could_not_be_read(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([ForegateError(ErrorCode.UNAVAILABLE, "The disk is gone.")])
    whole = Runner.round

    def failing(self: Runner) -> running.Turn:
        for failure in failures:
            raise failure
        return whole(self)

    monkeypatch.setattr(Runner, "round", failing)
    stop = threading.Event()
    thread = threading.Thread(target=run, args=([Job(Keeper(), database)], [], stop, lambda: NOON))
    thread.start()
    fill(database, b"a")
    try:
        until(lambda: kept(database) == ["a"], 5, "the record is consumed all the same")
    finally:
        stop.set()
        thread.join(5)
