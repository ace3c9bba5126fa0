"""What every driver of the log keeps to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pytest

from foregate.database.engine import Database
from foregate.database.rights import Rights, TableRights
from foregate.database.telemetry_schema import metadata
from foregate.eventlog.kafka import KafkaLog
from foregate.eventlog.kafka_access import KafkaAccess
from foregate.eventlog.memory import MemoryLog
from foregate.eventlog.model import RECORD_OVERHEAD_BYTES, Bounds, Entry, EventLog, LogRecord
from foregate.eventlog.sql import SqlLog
from harness.kafka import Broker
from harness.postgresql import ENGINES, PostgresqlDatabase
from harness.stores import sqlite_stores

WHOLE_LOG = Rights(
    "the log",
    {
        "log_topics": TableRights(may_insert=True, updatable=frozenset(metadata.tables["log_topics"].columns.keys())),
        "log_records": TableRights(may_insert=True, may_delete=True),
    },
)
NEVER = 0


def now() -> int:
    return int(time.time() * 1e6)


@pytest.fixture(params=["memory", *ENGINES, "kafka"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    yield from opened(request)


@pytest.fixture(params=["memory", *ENGINES])
def tidy(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    """A log that is told what to drop, and counts its bytes. Kafka does it by itself: `test_kafka_log.py`."""
    yield from opened(request)


def opened(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    """A log with the kept topics a, b and unused and the compacted topic c."""
    match request.param:
        case "memory":
            yield MemoryLog()
        case "sqlite":
            yield from in_transaction(sqlite_stores(request.getfixturevalue("tmp_path")).telemetry.open(WHOLE_LOG))
        case "kafka":
            broker: Broker = request.getfixturevalue("kafka")
            # The times of these tests are long ago.
            kept = {name: {"retention.ms": "-1"} for name in ("a", "b", "unused")}
            broker.make_topics({**kept, "c": {"cleanup.policy": "compact"}})
            log = KafkaLog(KafkaAccess(broker.servers), compacted={"c"})
            yield log
            log.close()
        case _:
            made: PostgresqlDatabase = request.getfixturevalue("postgresql_database")
            made.renew()
            yield from in_transaction(made.open_as_owner("telemetry"))


def in_transaction(database: Database) -> Iterator[EventLog]:
    """The log in a database."""
    with database.write() as connection:
        yield SqlLog(connection)
    database.close()


def newest(records: Iterable[LogRecord]) -> list[LogRecord]:
    """What a reader of a compacted topic ends up with: the last record of each key, in the order of the log."""
    last = {record.key: record for record in records}
    return sorted(last.values(), key=lambda record: record.offset)


def test_append_gives_offsets_without_holes_for_each_topic(log: EventLog) -> None:
    assert [log.append(topic, "k", b"", 1) for topic in ("a", "a", "b", "a")] == [1, 2, 1, 3]


def test_read_gives_what_was_appended_in_order(log: EventLog) -> None:
    log.append("a", "k", b"one", 10_000)
    log.append("b", "k", b"other", 11_000)
    log.append("a", "m", b"two", 12_000)
    found = [(record.offset, record.key, record.value, record.at) for record in log.read("a", 0)]
    assert found == [(1, "k", b"one", 10_000), (2, "m", b"two", 12_000)]


@pytest.mark.parametrize("value", [b"", b"\0", b"\xff\xfe\n{", b"x" * 300_000], ids=["empty", "nul", "garbage", "big"])
def test_any_bytes_come_back_as_they_were(log: EventLog, value: bytes) -> None:
    log.append("a", "k", value, 1)
    log.put("c", [Entry("k", 1, value)], 1)
    assert [log.read(topic, 0)[0].value for topic in ("a", "c")] == [value, value]


def test_read_begins_after_the_offset(log: EventLog) -> None:
    for number in range(5):
        log.append("a", "k", b"%d" % number, 1)
    assert [record.value for record in log.read("a", 3)] == [b"3", b"4"]
    assert log.read("a", 5) == []
    assert log.read("unused", 0) == []


def test_read_ends_at_the_limit_or_when_it_holds_enough_bytes(log: EventLog) -> None:
    for _ in range(5):
        log.append("a", "k", b"x" * 100, 1)
    assert [record.offset for record in log.read("a", 0, limit=2)] == [1, 2]
    assert [record.offset for record in log.read("a", 0, max_bytes=150)] == [1, 2]
    assert [record.offset for record in log.read("a", 2, max_bytes=1)] == [3]


def test_put_keeps_the_newest_record_of_a_key(log: EventLog) -> None:
    log.put("c", [Entry("k", 2, b"old"), Entry("m", 5, b"m"), Entry("k", 7, b"new")], 1)
    log.put("c", [Entry("m", 9, b"m2")], 1)
    assert [(record.offset, record.key, record.value) for record in newest(log.read("c", 0))] == [
        (7, "k", b"new"),
        (9, "m", b"m2"),
    ]


def test_put_again_changes_nothing(log: EventLog) -> None:
    entries = [Entry("k", 2, b"first"), Entry("m", 5, b"m")]
    assert log.put("c", entries, 1) == 2
    assert log.put("c", entries, 2) == 0
    assert log.put("c", [Entry("k", 5, b"late"), Entry("k", 6, b"next")], 3) == 1
    assert [(record.offset, record.value) for record in newest(log.read("c", 0))] == [(5, b"m"), (6, b"next")]


def test_put_refuses_offsets_that_do_not_grow(log: EventLog) -> None:
    for entries in ([Entry("k", 2, b""), Entry("m", 2, b"")], [Entry("k", 0, b"")]):
        with pytest.raises(ValueError, match="does not follow"):
            log.put("c", entries, 1)
    assert log.bounds("c") == Bounds()


def test_reading_a_compacted_topic_to_its_end_is_a_snapshot(log: EventLog) -> None:
    log.put("c", [Entry("a", 1, b"a1"), Entry("b", 2, b"b1"), Entry("d", 3, b"", is_tombstone=True)], 1)
    seen: dict[str, bytes | None] = {}
    after = 0
    while page := log.read("c", after, limit=1):
        if after == 0:
            # What changes while the snapshot is read comes again behind it.
            log.put("c", [Entry("a", 4, b"a2"), Entry("b", 5, b"", is_tombstone=True)], 2)
        seen.update({record.key: None if record.is_tombstone else record.value for record in page})
        after = page[-1].offset
    assert seen == {"a": b"a2", "b": None, "d": None}


def test_bounds_say_how_far_a_topic_reaches(log: EventLog) -> None:
    assert log.bounds("a") == Bounds(0, 0, 0)
    log.append("a", "k", b"12345", 1)
    assert (log.bounds("a").start, log.bounds("a").end) == (0, 1)
    log.put("c", [Entry("k", 41, b"")], now())
    assert log.bounds("c") == Bounds(0, 41, 0)


def test_bounds_count_the_bytes_of_a_kept_topic(tidy: EventLog) -> None:
    tidy.append("a", "k", b"12345", 1)
    assert tidy.bounds("a").size_bytes == 5 + RECORD_OVERHEAD_BYTES


def test_trim_by_size_drops_the_oldest(tidy: EventLog) -> None:
    for number in range(6):
        tidy.append("a", "k", b"x" * 40, number)
    three = 3 * (40 + RECORD_OVERHEAD_BYTES)
    assert tidy.trim("a", max_bytes=three, before=NEVER) == 3
    assert [record.offset for record in tidy.read("a", 0)] == [4, 5, 6]
    assert tidy.bounds("a") == Bounds(3, 6, three)
    assert tidy.trim("a", max_bytes=three, before=NEVER) == 0


def test_trim_by_age_drops_what_is_older(tidy: EventLog) -> None:
    for at in (10, 20, 30):
        tidy.append("a", "k", b"", at)
    assert tidy.trim("a", max_bytes=2**40, before=20) == 1
    assert [record.at for record in tidy.read("a", 0)] == [20, 30]


def test_trim_goes_in_steps_and_leaves_other_topics_alone(tidy: EventLog) -> None:
    for topic in ("a", "b"):
        for _ in range(5):
            tidy.append(topic, "k", b"", 1)
    assert [tidy.trim("a", max_bytes=0, before=NEVER, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert len(tidy.read("b", 0)) == 5


def test_offsets_are_not_used_again_after_a_trim(tidy: EventLog) -> None:
    tidy.append("a", "k", b"", 1)
    tidy.trim("a", max_bytes=0, before=NEVER)
    assert tidy.append("a", "k", b"", 2) == 2
    assert tidy.bounds("a").start == 1


def test_old_tombstones_can_be_dropped_and_the_start_says_so(tidy: EventLog) -> None:
    tidy.put("c", [Entry("a", 1, b"a"), Entry("b", 2, b"", is_tombstone=True)], 10)
    tidy.put("c", [Entry("d", 3, b"", is_tombstone=True)], 20)
    assert tidy.drop_tombstones("c", before=15) == 1
    assert [record.key for record in tidy.read("c", 0)] == ["a", "d"]
    assert tidy.bounds("c").start == 2
    assert tidy.drop_tombstones("c", before=15) == 0


def test_key_comes_back_after_its_tombstone_was_dropped(tidy: EventLog) -> None:
    tidy.put("c", [Entry("a", 1, b"", is_tombstone=True)], 1)
    tidy.drop_tombstones("c", before=2)
    tidy.put("c", [Entry("a", 2, b"again")], 3)
    tidy.put("c", [Entry("a", 3, b"and again")], 4)
    assert [record.value for record in tidy.read("c", 0)] == [b"and again"]
