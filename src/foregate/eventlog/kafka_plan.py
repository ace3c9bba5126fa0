"""What Foregate needs of a Kafka cluster: its topics with their settings, and who may do what with which. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from foregate.eventlog.model import EDGE_CONFIG, EDGE_REPORTS, LOGIN_EVENTS

API_USER = "foregate-api"
WORKER_USER = "foregate-worker"
EDGE_USER_PREFIX = "foregate-edge-"
# What Kafka knows the publisher by, so that of two only the younger can write.
PUBLISHER_ID = "foregate-publisher"
# Nobody joins it, as readers keep their offsets beside their results; but librdkafka asks Kafka who coordinates it.
READERS_GROUP = "foregate"

# The longest record of edge-config is a line of the feed, the longest batch of events is what the feed takes.
_MOST_CONFIG_BYTES = 9 << 20
_MOST_EVENTS_BYTES = 9 << 20
_MOST_REPORT_BYTES = 1 << 20
# As in the log in SQL: an edge that was away longer takes a snapshot.
TOMBSTONES_KEPT = timedelta(days=30)
# A report is the newest word of an edge; the older ones are soon worth nothing.
_REPORTS_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be. `settings` are Kafka's topic configs (kafka.apache.org/documentation/#topicconfigs)."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What an operator chooses. `partitions` of the events: as many workers can take them in side by side.
    `replication`: on so many brokers stands each record."""

    partitions: int = 6
    replication: int = 1
    events_kept: timedelta = timedelta(days=7)


class Resource(StrEnum):
    """What a grant is about."""

    TOPIC = "topic"
    TRANSACTION = "transaction"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Grant:
    """`user` may do `operations` (Kafka's words) with the resource `name`."""

    user: str
    resource: Resource
    name: str
    operations: tuple[str, ...]


def topics(sizes: Sizes) -> tuple[Topic, ...]:
    """The topics. Of several brokers one may be away without stopping the writers."""
    in_sync = {"min.insync.replicas": str(max(1, sizes.replication - 1))}
    return (
        Topic(
            EDGE_CONFIG,
            1,  # the order of changes is one
            sizes.replication,
            {
                **in_sync,
                "cleanup.policy": "compact",
                "delete.retention.ms": _millis(TOMBSTONES_KEPT),
                "max.message.bytes": str(_MOST_CONFIG_BYTES),
                # Only segments that are closed are compacted, and few changes take long to fill one.
                "segment.ms": _millis(timedelta(days=1)),
                "min.cleanable.dirty.ratio": "0.2",
            },
        ),
        Topic(
            LOGIN_EVENTS,
            sizes.partitions,
            sizes.replication,
            {
                **in_sync,
                "cleanup.policy": "delete",
                "retention.ms": _millis(sizes.events_kept),
                "max.message.bytes": str(_MOST_EVENTS_BYTES),
                # By the broker's clock: an edge whose clock is years off must not have its events dropped at once.
                "message.timestamp.type": "LogAppendTime",
                "compression.type": "producer",
            },
        ),
        Topic(
            EDGE_REPORTS,
            1,
            sizes.replication,
            {
                **in_sync,
                "cleanup.policy": "delete",
                "retention.ms": _millis(_REPORTS_KEPT),
                "max.message.bytes": str(_MOST_REPORT_BYTES),
                "message.timestamp.type": "LogAppendTime",
            },
        ),
    )


def grants(edge_users: tuple[str, ...]) -> tuple[Grant, ...]:
    """Who may do what. What is not named here is forbidden, once the cluster has an authorizer."""
    return (
        Grant(API_USER, Resource.TOPIC, EDGE_CONFIG, ("READ", "WRITE")),
        Grant(API_USER, Resource.TRANSACTION, PUBLISHER_ID, ("WRITE",)),
        # What edges send that follow the feed.
        Grant(API_USER, Resource.TOPIC, LOGIN_EVENTS, ("WRITE",)),
        Grant(API_USER, Resource.TOPIC, EDGE_REPORTS, ("WRITE",)),
        Grant(WORKER_USER, Resource.TOPIC, LOGIN_EVENTS, ("READ",)),
        Grant(WORKER_USER, Resource.TOPIC, EDGE_REPORTS, ("READ",)),
        *(
            grant
            for user in edge_users
            for grant in (
                Grant(user, Resource.TOPIC, EDGE_CONFIG, ("READ",)),
                Grant(user, Resource.TOPIC, LOGIN_EVENTS, ("WRITE",)),
                Grant(user, Resource.TOPIC, EDGE_REPORTS, ("WRITE",)),
            )
        ),
        *(Grant(user, Resource.GROUP, READERS_GROUP, ("DESCRIBE",)) for user in (API_USER, WORKER_USER, *edge_users)),
    )


def _millis(length: timedelta) -> str:
    return str(length // timedelta(milliseconds=1))
