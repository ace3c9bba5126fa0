"""The log on Apache Kafka. Each call is a transaction of its own, and Kafka drops by itself what is too old.

A topic named `login-events/3` is the partition 3 of `login-events`; without a number it is the first. Offsets of a kept
topic are Kafka's own, plus one. Those of a compacted topic are the writer's, in the header `seq`; a tombstone has no
value for Kafka, which so forgets its key in time, and its own value in the header `value`. What is put goes
through a transaction under one name, so that of two writers only the younger can write. Readers see whole
transactions. Source: kafka.apache.org/documentation (Message Delivery Semantics, Log Compaction).
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Container, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from foregate.core.errors import ErrorCode, ForegateError
from foregate.eventlog.kafka_access import CALL_SECONDS, Complaints, KafkaAccess, require_client, unavailable
from foregate.eventlog.kafka_plan import PUBLISHER_ID, TOMBSTONES_KEPT
from foregate.eventlog.kafka_reader import Place, Reader, offset_of
from foregate.eventlog.model import EDGE_CONFIG, Bounds, Entry, LogRecord, check_growing

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

T = TypeVar("T")

# Where a record of a compacted topic stands: one mark for each page that was read.
_MOST_MARKS = 4096
# How far back the newest record is looked for at first: behind it stand the marks of transactions, two at most for each
# writer that began or ended.
_LOOK_BACK = 8
_BEGINNING_CACHED_SECONDS = 60.0
_LOOK_SECONDS = 0.001
# Each message once and in order, acknowledged by all brokers that are in step.
SAFE_WRITES: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": int(CALL_SECONDS * 1000),
    "linger.ms": 0,
    # What a topic takes is its own setting; here only what the client itself would refuse.
    "message.max.bytes": 32 << 20,
}


class KafkaLog:
    """An `EventLog`. Every call waits for Kafka, for some seconds at most, and raises ForegateError(UNAVAILABLE) with a
    sentence where Kafka refuses or does not answer; it may be made again. Used by one thread at a time."""

    def __init__(
        self, access: KafkaAccess, *, compacted: Container[str] = (EDGE_CONFIG,), transaction: str = PUBLISHER_ID
    ) -> None:
        """`compacted` names the topics that are; `transaction` is the name under which `put` writes."""
        require_client()
        self._access = access
        self._compacted = compacted
        self._transaction = transaction
        self._complaints = Complaints()
        self._readers: dict[str, Reader] = {}
        # Look here and there, so that the others go on from where they are.
        self._scouts: dict[str, Reader] = {}
        self._appender: Producer | None = None
        self._publisher: _Publisher | None = None
        self._marks: dict[str, list[tuple[int, int]]] = {}
        self._ends: dict[str, tuple[int, int]] = {}
        self._beginnings: dict[str, tuple[float, int]] = {}

    def append(self, topic: str, key: str, value: bytes, at: int) -> int:
        """See `EventLog.append`. `at` counts to milliseconds, and not at all where the topic takes Kafka's own time."""
        from confluent_kafka import Producer

        if self._appender is None:
            self._appender = Producer(self._access.settings(self._complaints, **SAFE_WRITES))
        sent = _Delivery()
        place = Place.of(topic)
        self._appender.produce(
            place.topic, value, key, place.partition, on_delivery=sent.take, timestamp=max(at // 1000, 1)
        )
        self._appender.flush(CALL_SECONDS)
        return sent.offset(self._failed, topic) + 1

    def put(self, topic: str, entries: Sequence[Entry], at: int) -> int:
        """See `EventLog.put`. ForegateError(UNAVAILABLE) as well where another writer has taken over."""
        check_growing(entries)
        if self._publisher is None:
            self._publisher = _Publisher(self._access, self._transaction, self._complaints)
        publisher = self._publisher
        try:
            # Before the end is read: from then on nobody else moves it.
            publisher.begin()
            if topic not in publisher.ends:
                publisher.ends[topic] = self._newest(topic)
            fresh = [entry for entry in entries if entry.offset > publisher.ends[topic]]
            if fresh:
                self._until_readable(topic, publisher.write(topic, fresh, at))
        except ForegateError:
            self._publisher = None
            publisher.abandon()
            raise
        return len(fresh)

    def read(self, topic: str, after: int, *, limit: int = 1000, max_bytes: int = 8 << 20) -> list[LogRecord]:
        """See `EventLog.read`. Of a compacted topic an older record of a key may still be there, before the newest."""
        if topic not in self._compacted:
            messages = self._reader(topic).read(after, limit=limit, max_bytes=max_bytes)
            return [_record(topic, message) for message in messages]
        position = self._position(topic, after)
        while messages := self._reader(topic).read(position, limit=limit, max_bytes=max_bytes):
            position = offset_of(messages[-1]) + 1
            # What has no number is nobody's of ours.
            records = [_record(topic, message) for message in messages if seq_of(message)]
            if records:
                self._mark(topic, records[-1].offset, position)
            if newer := [record for record in records if record.offset > after]:
                return newer
        if position > self._reader(topic).watermarks()[1]:  # the topic was made anew, or cut off
            self._marks.pop(topic, None)
            return self.read(topic, after, limit=limit, max_bytes=max_bytes)
        return []

    def bounds(self, topic: str) -> Bounds:
        """See `EventLog.bounds`. Kafka does not say how many bytes a topic has."""
        if topic in self._compacted:
            return Bounds(self._beginning(topic), self._newest(topic))
        low, high = self._reader(topic).watermarks()
        return Bounds(low, high)

    def trim(self, topic: str, *, max_bytes: int, before: int, limit: int = 500) -> int:
        """Nothing: Kafka does it by the topic's settings."""
        return 0

    def drop_tombstones(self, topic: str, *, before: int, limit: int = 500) -> int:
        """Nothing: Kafka does it by the topic's settings."""
        return 0

    def has_news(self, topic: str, *, seconds: float = 0.0) -> bool:
        """Whether there is something after what was last read of the topic; waits so long for it."""
        return self._reader(topic).has_more(seconds)

    def wait(self, topic: str, seconds: float) -> bool:
        """Wait so long for a record that comes after all that are there; whether one came. It counts as read."""
        reader = self._reader(topic)
        if reader.position < 0:
            reader.read(reader.watermarks()[1], limit=1)
        has_come = reader.has_more(seconds)
        if has_come:
            reader.skip()
        return has_come

    def close(self) -> None:
        """Close the connections."""
        for reader in (*self._readers.values(), *self._scouts.values()):
            reader.close()
        self._readers.clear()
        self._scouts.clear()

    def _reader(self, topic: str, *, is_scout: bool = False) -> Reader:
        readers = self._scouts if is_scout else self._readers
        if topic not in readers:
            has_marks = topic in self._compacted
            readers[topic] = Reader(self._access, Place.of(topic), self._complaints, has_marks=has_marks)
        return readers[topic]

    def _position(self, topic: str, after: int) -> int:
        """From where in Kafka's own counting to read what comes after an offset."""
        marks = self._marks.setdefault(topic, [])
        place = bisect_right(marks, (after, 1 << 62))
        return marks[place - 1][1] if place else 0

    def _mark(self, topic: str, offset: int, position: int) -> None:
        """Remember that what follows `offset` stands at `position`."""
        marks = self._marks.setdefault(topic, [])
        place = bisect_right(marks, (offset, 1 << 62))
        if place == 0 or marks[place - 1][0] != offset:
            marks.insert(place, (offset, position))
            if len(marks) > _MOST_MARKS:
                del marks[::2]

    def _until_readable(self, topic: str, position: int) -> None:
        """Kafka says that a transaction is committed some milliseconds before readers see it."""
        scout = self._reader(topic, is_scout=True)
        deadline = time.monotonic() + CALL_SECONDS
        while scout.watermarks()[1] <= position and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def _newest(self, topic: str) -> int:
        """The highest offset of a compacted topic, 0 where it is empty."""
        scout = self._reader(topic, is_scout=True)
        low, high = scout.watermarks()
        known_high, newest = self._ends.get(topic, (-1, 0))
        if known_high == high:
            return newest
        if known_high > high:  # the topic was made anew, or cut off: nothing that is known of it holds
            self._marks.pop(topic, None)
        newest, back = 0, _LOOK_BACK
        while not newest and low < high:
            position = max(low, high - back)
            newest = max((seq_of(message) for message in scout.read(position, limit=back)), default=0)
            if position == low:
                break
            back *= 16
        self._ends[topic] = (high, newest)
        self._mark(topic, newest, high)
        return newest

    def _beginning(self, topic: str) -> int:
        """Readers that are behind this may have missed a tombstone that Kafka has dropped."""
        looked_at, beginning = self._beginnings.get(topic, (-_BEGINNING_CACHED_SECONDS, 0))
        if time.monotonic() - looked_at < _BEGINNING_CACHED_SECONDS:
            return beginning
        scout = self._reader(topic, is_scout=True)
        before = time.time() - TOMBSTONES_KEPT / timedelta(seconds=1)
        position = scout.position_at(int(before * 1000))
        if position is None:
            beginning = self._newest(topic)
        elif any(offset_of(oldest) == position for oldest in scout.read(0, limit=1)):
            beginning = 0  # everything is younger
        else:
            beginning = max((seq_of(message) - 1 for message in scout.read(position, limit=1)), default=0)
        self._beginnings[topic] = (time.monotonic(), beginning)
        return beginning

    def _failed(self, error: KafkaError, topic: str) -> ForegateError:
        return unavailable(self._access, error, topic=topic, complaints=self._complaints)


class _Publisher:
    """A producer that writes transactions under a name of which there is one. After an error it is of no more use."""

    def __init__(self, access: KafkaAccess, name: str, complaints: Complaints) -> None:
        from confluent_kafka import Producer

        self._access = access
        self._complaints = complaints
        self._name = name
        self._is_begun = False
        # How far each topic reaches, by the writer's own numbers.
        self.ends: dict[str, int] = {}
        # The same by Kafka's, which begin anew in a topic that is made anew.
        self._positions: dict[str, int] = {}
        more = {"transactional.id": name, "transaction.timeout.ms": int(CALL_SECONDS * 1000)}
        self._producer = Producer(access.settings(complaints, **SAFE_WRITES, **more))

    def begin(self) -> None:
        """Once: shut out whoever wrote under the name before."""
        if not self._is_begun:
            self._call(lambda: self._producer.init_transactions(CALL_SECONDS))
            self._is_begun = True

    def write(self, topic: str, entries: Sequence[Entry], at: int) -> int:
        """All of them, or none. Where the last one stands."""
        place = Place.of(topic)
        deliveries = [_Delivery() for _ in entries]
        self._call(self._producer.begin_transaction)
        for entry, delivery in zip(entries, deliveries, strict=True):
            headers: list[Any] = [("seq", b"%d" % entry.offset)]
            if entry.is_tombstone:
                headers.append(("value", entry.value))
            self._call(
                lambda entry=entry, headers=headers, delivery=delivery: self._producer.produce(  # type: ignore[misc]
                    place.topic,
                    None if entry.is_tombstone else entry.value,
                    entry.key,
                    place.partition,
                    headers=headers,
                    on_delivery=delivery.take,
                    timestamp=max(at // 1000, 1),
                )
            )
        self._call(lambda: self._producer.flush(CALL_SECONDS))
        offsets = [delivery.offset(self._failed, place.topic) for delivery in deliveries]
        if offsets[0] <= self._positions.get(topic, -1):
            message = f"Kafka's topic {place.topic} was made anew, or cut off; what it lacks is sent again."
            raise ForegateError(ErrorCode.UNAVAILABLE, message)
        self._positions[topic] = offsets[-1]
        self._call(lambda: self._producer.commit_transaction(CALL_SECONDS))
        self.ends[topic] = entries[-1].offset
        return offsets[-1]

    def abandon(self) -> None:
        """Give up what is begun. Kafka does so by itself if it cannot be reached."""
        from confluent_kafka import KafkaException

        try:
            self._producer.purge()
            self._producer.abort_transaction(0.5)
        except KafkaException:
            return

    def _call(self, work: Callable[[], T]) -> T:
        from confluent_kafka import KafkaException

        try:
            return work()
        except KafkaException as error:
            raise self._failed(error.args[0], self._name) from error
        except SystemError as error:
            # A fatal error, as of one who was shut out, comes in the middle of telling what became of messages.
            if not isinstance(error.__cause__, KafkaException):
                raise
            raise self._failed(error.__cause__.args[0], self._name) from error

    def _failed(self, error: KafkaError, topic: str) -> ForegateError:
        return unavailable(self._access, error, topic=topic, complaints=self._complaints)


class _Delivery:
    """What became of one message."""

    __slots__ = ("_error", "_offset")

    def __init__(self) -> None:
        self._error: KafkaError | None = None
        self._offset: int | None = None

    def take(self, error: KafkaError | None, message: Message) -> None:
        """librdkafka's `on_delivery`."""
        self._error = error
        self._offset = None if error else message.offset()

    def offset(self, failed: Callable[[KafkaError, str], ForegateError], topic: str) -> int:
        """Its offset. Raises what `failed` makes of the error, or of its not having been delivered in time."""
        from confluent_kafka import KafkaError

        if self._offset is None:
            raise failed(self._error or KafkaError(KafkaError._MSG_TIMED_OUT), topic)
        return self._offset


def _record(topic: str, message: Message) -> LogRecord:
    seq = seq_of(message)
    is_tombstone = bool(seq) and message.value() is None
    value = value_of(message)
    _, at = message.timestamp()
    key = message.key() or b""
    text = key if isinstance(key, str) else key.decode("utf-8", "replace")
    return LogRecord(topic, seq or offset_of(message) + 1, text, value, at * 1000, is_tombstone)


def seq_of(message: Message) -> int:
    """The writer's own number for a record of a compacted topic; 0 for what no writer of ours has written."""
    text = _header(message, "seq") or b""
    return int(text) if text.isdigit() else 0


def value_of(message: Message) -> bytes:
    """What a record says; a tombstone's own value where it is one."""
    value = message.value()
    found = _header(message, "value") if value is None else value
    return found.encode() if isinstance(found, str) else bytes(found or b"")


def _header(message: Message, name: str) -> bytes | None:
    headers: list[tuple[str, bytes]] = message.headers() or []  # type: ignore[assignment]
    return next((value for key, value in headers if key == name), None)
