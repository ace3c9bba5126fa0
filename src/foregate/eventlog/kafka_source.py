"""Partitions of Kafka as sources of consumers."""

from __future__ import annotations

from collections.abc import Iterable

from foregate.eventlog.kafka import KafkaLog
from foregate.eventlog.kafka_access import CALL_SECONDS, Complaints, KafkaAccess, unavailable
from foregate.eventlog.model import LogRecord

_NEWS_SECONDS = 0.1


class KafkaSource:
    """See `Source`. Waits a moment for news, so that they are taken at once."""

    def __init__(self, access: KafkaAccess, topic: str) -> None:
        """`topic` with the number of the partition."""
        self.name = topic.partition("@")[0]
        self._topic = topic
        self._log = KafkaLog(access)

    def read(self, topic: str, after: int, *, limit: int, max_bytes: int) -> list[LogRecord]:
        """See `Source.read`."""
        return self._log.read(topic, after, limit=limit, max_bytes=max_bytes)

    def has_changed(self) -> bool:
        """See `Source.has_changed`."""
        return self._log.has_news(self._topic, seconds=_NEWS_SECONDS)

    def close(self) -> None:
        """See `Source.close`."""
        self._log.close()


def require_topics(access: KafkaAccess, topics: Iterable[str]) -> None:
    """ForegateError(UNAVAILABLE) with a sentence about the first topic that cannot be used whole: it is missing or
    forbidden, or one of its partitions has no leader."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

    complaints = Complaints()
    client = AdminClient(access.settings(complaints))
    for topic in topics:
        try:
            found = client.list_topics(topic, timeout=CALL_SECONDS).topics[topic]
        except KafkaException as error:
            client.poll(0)
            raise unavailable(access, error.args[0], topic=topic, complaints=complaints) from error
        trouble = found.error
        if trouble is None and any(partition.leader < 0 for partition in found.partitions.values()):
            trouble = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
        if trouble is not None:
            raise unavailable(access, trouble, topic=topic, complaints=complaints)


def partitions(access: KafkaAccess, topic: str) -> tuple[str, ...]:
    """The names of a topic's partitions, `topic/number@id`. The id is another one for a topic that was made anew, whose
    offsets begin anew. ForegateError(UNAVAILABLE) where Kafka does not say."""
    from confluent_kafka import KafkaException, TopicCollection
    from confluent_kafka.admin import AdminClient

    complaints = Complaints()
    client = AdminClient(access.settings(complaints))
    try:
        (described,) = client.describe_topics(TopicCollection([topic]), request_timeout=CALL_SECONDS).values()
        found = described.result(CALL_SECONDS)
    except KafkaException as error:
        client.poll(0)
        raise unavailable(access, error.args[0], topic=topic, complaints=complaints) from error
    return tuple(f"{topic}/{partition.id}@{found.topic_id}" for partition in found.partitions)


def topic_id(access: KafkaAccess, topic: str) -> str:
    """The id of a topic, by which it is told from one of the same name before it."""
    return partitions(access, topic)[0].partition("@")[2]
