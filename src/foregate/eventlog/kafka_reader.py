"""Reading one partition of Kafka from a place on. Knows nothing of what the messages say.

The reader is in no consumer group: whoever reads keeps its place beside its own result.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from foregate.core.errors import ForegateError
from foregate.eventlog.kafka_access import CALL_SECONDS, Complaints, KafkaAccess, unavailable
from foregate.eventlog.kafka_plan import READERS_GROUP

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

T = TypeVar("T")

# Read ahead of whoever reads: two of the largest batches of events.
_READ_AHEAD_KILOBYTES = 16 << 10
_AT_ONCE = 500
_WAIT_SECONDS = 0.05
_AGAIN_SECONDS = 2.0
_TRANSACTION_WAIT_MILLIS = 50
# A partition that was just made, or whose broker has just gone, gets a leader within moments.
_ELECTION_SECONDS = 2.0
# LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, and librdkafka's own words for the last
# (kafka.apache.org/protocol#protocol_error_codes).
_ELECTING = (5, 6, 3, -188, -190)


def offset_of(message: Message) -> int:
    """Kafka's own number for a message, 0 or more."""
    offset = message.offset()
    return -1 if offset is None else offset


@dataclass(frozen=True, slots=True)
class Place:
    """A partition."""

    topic: str
    partition: int = 0

    @classmethod
    def of(cls, name: str) -> Place:
        """`topic/number`, or `topic` for the first partition. What follows an `@` tells the topic from one of the same
        name before it."""
        topic, _, number = name.partition("@")[0].partition("/")
        return cls(topic, int(number or 0))


class Reader:
    """One partition, read by one thread. Raises ForegateError(UNAVAILABLE) with a sentence."""

    def __init__(self, access: KafkaAccess, place: Place, complaints: Complaints, *, has_marks: bool) -> None:
        """`has_marks`: the topic is written in transactions."""
        self._access = access
        self._place = place
        self._complaints = complaints
        self._has_marks = has_marks
        self._consumer = self._connect()
        self._next = -1  # where the partition is being read from; -1: nowhere yet
        self._end = -1  # where it last came to an end
        self._buffer: deque[Message] = deque()

    def watermarks(self) -> tuple[int, int]:
        """The offsets of the first message, and of the one that comes next."""
        from confluent_kafka import TopicPartition

        partition = TopicPartition(self._place.topic, self._place.partition)
        return self._ask(lambda: self._consumer.get_watermark_offsets(partition, CALL_SECONDS))

    def read(self, position: int, *, limit: int, max_bytes: int = 1 << 62) -> list[Message]:
        """The messages at `position` and later, in order: at most `limit`, and no more once they hold `max_bytes`."""
        self._seek(position)
        found: list[Message] = []
        size = 0
        while len(found) < limit and size < max_bytes:
            if not (self._buffer or self._fill(0) or self._has_come(is_first=not found)):
                break
            message = self._buffer.popleft()
            self._next = offset_of(message) + 1
            found.append(message)
            size += len(message)
        return found

    def has_more(self, seconds: float) -> bool:
        """Whether a message is there after what was read last, waiting so long for one. True before the first read."""
        return self._next < 0 or bool(self._buffer) or self._fill(seconds)

    def skip(self) -> None:
        """Pass by what has come."""
        self._next = offset_of(self._buffer[-1]) + 1 if self._buffer else self._next
        self._buffer.clear()

    @property
    def position(self) -> int:
        """What would be read next; -1 before the first read."""
        return self._next

    def position_at(self, millis: int) -> int | None:
        """The offset of the first message of that time or later, None where all are older."""
        from confluent_kafka import KafkaException, TopicPartition

        asked = TopicPartition(self._place.topic, self._place.partition, millis)

        def ask() -> TopicPartition:
            (found,) = self._consumer.offsets_for_times([asked], CALL_SECONDS)
            if found.error is not None:
                raise KafkaException(found.error)
            return found

        offset = self._ask(ask).offset
        return None if offset < 0 else int(offset)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def _connect(self) -> Consumer:
        from confluent_kafka import Consumer

        settings = {
            "group.id": READERS_GROUP,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # What is gone was dropped for its age: go on with the oldest that is there.
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": _READ_AHEAD_KILOBYTES,
            "fetch.message.max.bytes": 4 << 20,
            "fetch.error.backoff.ms": 100,
            # That a transaction was committed does not end a broker's waiting for more to send.
            "fetch.wait.max.ms": _TRANSACTION_WAIT_MILLIS if self._has_marks else 500,
        }
        return Consumer(self._access.settings(self._complaints, **settings))

    def _seek(self, position: int) -> None:
        if position != self._next:
            self._assign(position)

    def _assign(self, position: int) -> None:
        from confluent_kafka import TopicPartition

        self._buffer.clear()
        self._consumer.assign([TopicPartition(self._place.topic, self._place.partition, position)])
        self._next, self._end = position, -1

    def _fill(self, seconds: float) -> bool:
        """Take what has come into the buffer. Whether there is anything."""
        from confluent_kafka import KafkaError

        for message in self._consumer.consume(_AT_ONCE, seconds):
            error = message.error()
            if error is None:
                self._buffer.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._end = offset_of(message)
            elif not error.retriable() and error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                raise self._failed(error)
        return bool(self._buffer)

    def _has_come(self, *, is_first: bool) -> bool:
        """Wait for what is there and has not come yet. False where all there is has been read.

        Behind the messages of a transaction stands its mark, which is passed by. That it was nothing else Kafka says
        half a second late; whoever has got messages is not kept waiting for it.
        """
        from confluent_kafka import KafkaError

        _, high = self.watermarks()
        if self._has_marks and not is_first and self._next + 1 >= high:
            return False
        began = time.monotonic()
        again = began + _AGAIN_SECONDS
        while self._next < high and self._end < high and not self._fill(_WAIT_SECONDS):
            if time.monotonic() > began + CALL_SECONDS:
                raise self._failed(KafkaError(KafkaError._TIMED_OUT))
            if time.monotonic() > again:
                # A topic that was made anew counts its leaders anew, and librdkafka takes the old count for the newer.
                again += _AGAIN_SECONDS
                self._consumer.close()
                self._consumer = self._connect()
                self._assign(self._next)
        return bool(self._buffer)

    def _ask(self, call: Callable[[], T | None]) -> T:
        """What Kafka answers, once the partition has a leader."""
        from confluent_kafka import KafkaError, KafkaException

        deadline = time.monotonic() + _ELECTION_SECONDS
        while True:
            try:
                found = call()
            except KafkaException as error:
                if error.args[0].code() not in _ELECTING or time.monotonic() > deadline:
                    raise self._failed(error.args[0]) from error
                time.sleep(_WAIT_SECONDS)
                continue
            if found is None:
                raise self._failed(KafkaError(KafkaError._TIMED_OUT))
            return found

    def _failed(self, error: KafkaError) -> ForegateError:
        """The error in a sentence. Of a topic that is missing or forbidden, Kafka says which of the two only when asked
        about the topic."""
        from confluent_kafka import KafkaError, KafkaException

        if error.code() in (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC):
            try:
                topic = self._consumer.list_topics(self._place.topic, timeout=CALL_SECONDS).topics[self._place.topic]
                error = topic.error or error
            except KafkaException as other:
                error = other.args[0]
        self._consumer.poll(0)
        return unavailable(self._access, error, topic=self._place.topic, complaints=self._complaints)
