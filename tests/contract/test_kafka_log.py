"""What Kafka does by itself where another log is told to, and what only several processes on one log can do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from foregate.core.errors import ForegateError
from foregate.eventlog.kafka import KafkaLog
from foregate.eventlog.kafka_access import KafkaAccess
from foregate.eventlog.model import Bounds, Entry
from harness.kafka import Broker
from harness.waiting import until

KEPT_30_DAYS_MICROS = 30 * 86_400 * 1_000_000
HOUR_MICROS = 3_600 * 1_000_000
# So that something happens within seconds.
IMPATIENT = {"segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "200"}


def now() -> int:
    return int(time.time() * 1e6)


@pytest.fixture
def opened(kafka: Broker) -> Iterator[list[KafkaLog]]:
    """Logs to be closed at the end."""
    logs: list[KafkaLog] = []
    yield logs
    for log in logs:
        log.close()


def open_log(broker: Broker, opened: list[KafkaLog]) -> KafkaLog:
    log = KafkaLog(KafkaAccess(broker.servers), compacted={"c"})
    opened.append(log)
    return log


def test_compaction_drops_what_was_superseded_and_readers_go_on(kafka: Broker, opened: list[KafkaLog]) -> None:
    kafka.make_topics({"c": {"cleanup.policy": "compact", **IMPATIENT}})
    log, slow = open_log(kafka, opened), open_log(kafka, opened)
    log.put("c", [Entry("old", 1, b"1"), Entry("k", 2, b"2"), Entry("gone", 3, b"3")], now())
    assert [record.offset for record in slow.read("c", 0, limit=1)] == [1]
    seqs = iter(range(4, 1000))

    def is_compacted() -> bool:
        # Only what stands in a closed segment is compacted, and one is closed by a record that comes later.
        log.put("c", [Entry("k", next(seqs), b"new")], now())
        return [record.offset for record in open_log(kafka, opened).read("c", 0)][:3] != [1, 2, 3]

    until(is_compacted, 30, "Kafka has compacted the topic", every=0.3)
    last = log.bounds("c").end
    assert log.bounds("c").start == 0
    # Whoever had read the first record gets the newest of every other key, in order.
    found = []
    while page := slow.read("c", found[-1] if found else 1, limit=2):
        found += [record.offset for record in page]
    assert found == sorted(found) and {3, last} <= set(found)
    assert log.read("c", last) == []


def test_retention_drops_old_records_and_a_reader_that_was_away_knows_how_many(
    kafka: Broker, opened: list[KafkaLog]
) -> None:
    kafka.make_topics({"a": {"retention.ms": "1000", "segment.ms": "300"}})
    log = open_log(kafka, opened)
    for number in range(5):
        log.append("a", "k", b"%d" % number, now())
    assert [record.offset for record in log.read("a", 0, limit=2)] == [1, 2]

    def is_trimmed() -> bool:
        log.append("a", "k", b"more", now())
        return log.bounds("a").start >= 5

    until(is_trimmed, 30, "Kafka has dropped the first records", every=0.4)
    start = log.bounds("a").start
    first = open_log(kafka, opened).read("a", 2)[0]
    assert first.offset > start
    assert first.offset - 2 - 1 >= 3  # what the runner counts as skipped


def test_reader_from_before_dropped_tombstones_is_told_to_take_a_snapshot(
    kafka: Broker, opened: list[KafkaLog]
) -> None:
    kafka.make_topics({"c": {"cleanup.policy": "compact"}})
    log = open_log(kafka, opened)
    long_ago = now() - KEPT_30_DAYS_MICROS - HOUR_MICROS
    log.put("c", [Entry("a", 1, b"", is_tombstone=True), Entry("b", 2, b"b")], long_ago)
    log.put("c", [Entry("d", 7, b"d")], now())
    assert open_log(kafka, opened).bounds("c") == Bounds(start=6, end=7)


def test_older_of_two_writers_writes_nothing_more(kafka: Broker, opened: list[KafkaLog]) -> None:
    kafka.make_topics({"c": {"cleanup.policy": "compact"}})
    older, younger = open_log(kafka, opened), open_log(kafka, opened)
    older.put("c", [Entry("k", 1, b"older")], now())
    younger.put("c", [Entry("k", 2, b"younger")], now())
    with pytest.raises(ForegateError, match="Another process publishes now"):
        older.put("c", [Entry("k", 3, b"asleep till now")], now())
    assert [record.value for record in younger.read("c", 0)][-1] == b"younger"
    # Asked again, it takes over, and leaves out what is there already.
    assert older.put("c", [Entry("k", 2, b"late"), Entry("k", 3, b"again")], now()) == 1
    assert [record.value for record in younger.read("c", 0)][-1] == b"again"


def test_topic_that_was_made_anew_takes_nothing_from_a_writer_that_has_not_noticed(
    kafka: Broker, opened: list[KafkaLog]
) -> None:
    kafka.make_topics({"c": {"cleanup.policy": "compact"}})
    log = open_log(kafka, opened)
    for seq in range(1, 6):
        log.put("c", [Entry("k", seq, b"%d" % seq)], now())
    delete(kafka, "c")
    kafka.make_topics({"c": {"cleanup.policy": "compact"}})
    with pytest.raises(ForegateError, match="made anew"):
        until(lambda: log.put("c", [Entry("m", 6, b"")], now()), 20, "the topic is there again")
    assert log.bounds("c").end == 0
    assert log.put("c", [Entry("k", 5, b"5"), Entry("m", 6, b"")], now()) == 2


def test_partitions_are_logs_of_their_own(kafka: Broker, opened: list[KafkaLog]) -> None:
    kafka.make_topics({"a": {}}, partitions=3)
    log = open_log(kafka, opened)
    assert [log.append(f"a/{number}", "k", b"%d" % number, now()) for number in (0, 2, 2)] == [1, 1, 2]
    assert [[record.value for record in log.read(f"a/{number}", 0)] for number in range(3)] == [
        [b"0"],
        [],
        [b"2", b"2"],
    ]


def test_truncated_topic_is_read_from_where_it_begins(kafka: Broker, opened: list[KafkaLog]) -> None:
    kafka.make_topics({"a": {}})
    log = open_log(kafka, opened)
    for number in range(6):
        log.append("a", "k", b"%d" % number, now())
    client = AdminClient({"bootstrap.servers": kafka.servers})
    for cut in client.delete_records([TopicPartition("a", 0, 4)]).values():
        cut.result(10)
    assert log.bounds("a") == Bounds(4, 6)
    assert [record.value for record in log.read("a", 1)] == [b"4", b"5"]


def test_record_that_the_topic_does_not_take_is_refused_in_a_sentence(kafka: Broker, opened: list[KafkaLog]) -> None:
    kafka.make_topics(
        {"a": {"max.message.bytes": "2000"}, "c": {"cleanup.policy": "compact", "max.message.bytes": "2000"}}
    )
    log = open_log(kafka, opened)
    for write in (
        lambda: log.append("a", "k", b"x" * 5000, now()),
        lambda: log.put("c", [Entry("k", 1, b"x" * 5000)], now()),
    ):
        with pytest.raises(ForegateError, match="does not take messages of this size"):
            write()
    log.append("a", "k", b"small", now())
    assert log.put("c", [Entry("k", 1, b"small")], now()) == 1


def test_missing_topic_is_named_in_a_sentence(kafka: Broker, opened: list[KafkaLog]) -> None:
    log = open_log(kafka, opened)
    with pytest.raises(ForegateError, match="Kafka has no topic a; make it with: foregate kafka setup"):
        log.read("a", 0)


def test_what_no_writer_of_ours_has_written_is_no_record_of_a_compacted_topic(
    kafka: Broker, opened: list[KafkaLog]
) -> None:
    kafka.make_topics({"c": {"cleanup.policy": "compact"}})
    log = open_log(kafka, opened)
    log.put("c", [Entry("k", 1, b"ours")], now())
    producer = Producer({"bootstrap.servers": kafka.servers})
    producer.produce("c", b"theirs", b"k")
    assert producer.flush(10) == 0
    log.put("c", [Entry("m", 2, b"ours too")], now())
    assert [record.value for record in log.read("c", 0)] == [b"ours", b"ours too"]
    assert log.bounds("c").end == 2


def delete(broker: Broker, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": broker.servers})
    for done in client.delete_topics([topic]).values():
        done.result(10)
    until(lambda: topic not in client.list_topics(timeout=10).topics, 10, "the topic is gone")
