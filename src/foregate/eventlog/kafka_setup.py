"""Bringing a Kafka cluster to what `kafka_plan` says: topics, users and access rules. Safe to repeat.

It adds what is missing and says of everything else whether it is as planned; what differs is changed only where that
is asked for, and nothing is ever deleted. Blocking; called by `foregate kafka setup`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from foregate.core.errors import ForegateError
from foregate.eventlog.kafka_access import CALL_SECONDS, Complaints, KafkaAccess, Login, require_client, unavailable
from foregate.eventlog.kafka_plan import Grant, Resource, Topic

if TYPE_CHECKING:
    from confluent_kafka.admin import AclBinding, AdminClient

# Strengthened by so many rounds of the hash; the password is random, so that more would only slow down each login.
_SCRAM_ITERATIONS = 4096


class Outcome(StrEnum):
    """What became of one item."""

    MADE = "made"
    AS_PLANNED = "as planned"
    CHANGED = "changed"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Finding:
    """One item of the cluster. `more` says how it differs."""

    item: str
    outcome: Outcome
    more: str = ""


class KafkaSetup:
    """Sets up one cluster, reached as a user that may. Raises ForegateError(UNAVAILABLE) where Kafka refuses."""

    def __init__(self, access: KafkaAccess) -> None:
        require_client()
        from confluent_kafka.admin import AdminClient

        self._access = access
        self._complaints = Complaints()
        self._admin: AdminClient = AdminClient(access.settings(self._complaints))

    def topics(self, planned: Iterable[Topic], *, may_change: bool) -> Iterator[Finding]:
        """Make the topics, or compare them; with `may_change` their settings are brought to the plan."""
        known = self._known_topics()
        for topic in planned:
            if topic.name in known:
                yield from self._compare(topic, known[topic.name], may_change=may_change)
            else:
                yield self._make(topic)

    def users(self, logins: Iterable[Login]) -> Iterator[Finding]:
        """Let Kafka know the users' passwords, whatever it knew before."""
        from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
        logins = list(logins)
        described: Any = self._admin.describe_user_scram_credentials([login.user for login in logins])
        found = self._wait_all(described, ignore_missing=True)
        known = {user for user, credentials in found if credentials is not None}
        for login in logins:
            wanted = UserScramCredentialUpsertion(login.user, how, login.password.reveal().encode())
            list(self._wait_all(self._admin.alter_user_scram_credentials([wanted])))
            yield Finding(f"user {login.user}", Outcome.AS_PLANNED if login.user in known else Outcome.MADE)

    def grants(self, planned: Iterable[Grant]) -> Iterator[Finding]:
        """Add the access rules that are missing. One item for each grant.

        Raises ForegateError where the cluster has no authorizer: then everybody may do everything.
        """
        known = set(self._known_acls())
        for grant in planned:
            missing = [binding for binding in _bindings(grant) if binding not in known]
            if missing:
                list(self._wait_all(self._admin.create_acls(missing)))
            item = f"{grant.user} may {' and '.join(grant.operations).lower()} {grant.resource} {grant.name}"
            yield Finding(item, Outcome.MADE if missing else Outcome.AS_PLANNED)

    def _make(self, topic: Topic) -> Finding:
        from confluent_kafka.admin import NewTopic

        new = NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.settings))
        list(self._wait_all(self._admin.create_topics([new]), topic=topic.name))
        return Finding(f"topic {topic.name}", Outcome.MADE, f"partitions: {topic.partitions}")

    def _compare(self, topic: Topic, actual: tuple[int, int], *, may_change: bool) -> Iterator[Finding]:
        item = f"topic {topic.name}"
        differing = self._differing_settings(topic)
        if differing and may_change:
            self._change(topic, differing)
            yield Finding(item, Outcome.CHANGED, ", ".join(f"{name}={topic.settings[name]}" for name in differing))
        notes = [] if may_change else [f"{n} is {v}, not {topic.settings[n]}" for n, v in differing.items()]
        for what, found, wanted in zip(
            ("partitions", "replication"), actual, (topic.partitions, topic.replication), strict=True
        ):
            # Neither is changed: more partitions send an account's events another way, and brokers are moved by hand.
            if found != wanted:
                notes.append(f"{what}: {found}, not {wanted}")
        if notes:
            yield Finding(item, Outcome.DIFFERS, "; ".join(notes))
        elif not differing:
            yield Finding(item, Outcome.AS_PLANNED)

    def _known_topics(self) -> dict[str, tuple[int, int]]:
        """Partitions and replication of each."""
        from confluent_kafka import KafkaException

        try:
            found = self._admin.list_topics(timeout=CALL_SECONDS).topics
        except KafkaException as error:
            raise self._failed(error, "") from error
        return {
            name: (len(topic.partitions), min((len(p.replicas) for p in topic.partitions.values()), default=0))
            for name, topic in found.items()
        }

    def _differing_settings(self, topic: Topic) -> dict[str, str]:
        from confluent_kafka.admin import ConfigResource, ResourceType

        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        ((_, found),) = self._wait_all(self._admin.describe_configs([resource]), topic=topic.name)
        actual = {name: entry.value for name, entry in found.items()}
        return {name: actual.get(name, "") for name, value in topic.settings.items() if actual.get(name) != value}

    def _change(self, topic: Topic, names: Iterable[str]) -> None:
        from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

        entries = [
            ConfigEntry(name, topic.settings[name], incremental_operation=AlterConfigOpType.SET) for name in names
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
        list(self._wait_all(self._admin.incremental_alter_configs([resource]), topic=topic.name))

    def _known_acls(self) -> list[AclBinding]:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import (
            AclBindingFilter,
            AclOperation,
            AclPermissionType,
            ResourcePatternType,
            ResourceType,
        )

        any_text: Any = None  # its types leave that out
        everything = AclBindingFilter(
            ResourceType.ANY,
            any_text,
            ResourcePatternType.ANY,
            any_text,
            any_text,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        try:
            return list(self._admin.describe_acls(everything, request_timeout=CALL_SECONDS).result(CALL_SECONDS))
        except KafkaException as error:
            raise self._failed(error, "") from error

    def _wait_all(
        self, futures: Mapping[Any, Future[Any]], *, topic: str = "", ignore_missing: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        from confluent_kafka import KafkaError, KafkaException

        for name, future in futures.items():
            try:
                yield name, future.result(CALL_SECONDS)
            except KafkaException as error:
                if ignore_missing and error.args[0].code() == KafkaError.RESOURCE_NOT_FOUND:
                    yield name, None
                    continue
                raise self._failed(error, topic) from error

    def _failed(self, error: Exception, topic: str) -> ForegateError:
        self._admin.poll(0)  # has it tell what it complains of
        return unavailable(self._access, error.args[0], topic=topic, complaints=self._complaints)


def _bindings(grant: Grant) -> list[AclBinding]:
    from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

    kinds = {
        Resource.TOPIC: ResourceType.TOPIC,
        Resource.TRANSACTION: ResourceType.TRANSACTIONAL_ID,
        Resource.GROUP: ResourceType.GROUP,
    }
    return [
        AclBinding(
            kinds[grant.resource],
            grant.name,
            ResourcePatternType.LITERAL,
            f"User:{grant.user}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for operation in grant.operations
    ]
