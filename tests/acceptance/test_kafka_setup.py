"""`foregate kafka setup` against a real Kafka: what it makes, what it says, and what each user may do afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from harness.kafka import ADMIN, Broker

TOPICS = {"edge-config": 1, "login-events": 6, "edge-reports": 1}


@dataclass(frozen=True, slots=True)
class SetUp:
    """A home of its own, and `foregate kafka setup` for it over TLS and SCRAM."""

    broker: Broker
    home: Path

    def run(self, *options: str, password: str | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREGATE_")}
        environment = {"FOREGATE_HOME": str(self.home), "FOREGATE_KAFKA": self.broker.tls_servers, **settings}
        admin = ("--admin", ADMIN, "--admin-password-file", "-")
        return subprocess.run(
            [sys.executable, "-m", "foregate", "kafka", "setup", *admin, *options],
            env=kept | environment,
            input=password or self.broker.admin_password,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def findings(self, *options: str) -> dict[str, tuple[str, str]]:
        """What it says of each item."""
        return {
            item["item"]: (item["outcome"], item["more"]) for item in json.loads(self.run(*options, "--json").stdout)
        }

    def client(self, login: str) -> dict[str, str]:
        """librdkafka's settings of the user in a login file."""
        user, _, password = (self.home / "kafka" / login).read_text().strip().partition(":")
        return {
            "bootstrap.servers": self.broker.tls_servers,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password,
            "ssl.ca.location": str(self.broker.ca_file),
            "log_level": "0",
        }


@pytest.fixture
def setup(kafka: Broker, tmp_path: Path) -> SetUp:
    home = tmp_path / "home"
    (home / "kafka").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    shutil.copy(kafka.ca_file, home / "kafka" / "ca.pem")
    return SetUp(kafka, home)


def test_topics_users_and_access_rules_are_made_once(setup: SetUp) -> None:
    made = setup.findings()
    assert {outcome for outcome, _ in made.values()} == {"made"}
    assert len(made) == len(TOPICS) + 3 + 12
    again = setup.run()
    assert again.returncode == 0, again.stderr
    assert {outcome for outcome, _ in setup.findings().values()} == {"as planned"}
    assert partitions(setup.broker) == TOPICS


def test_logins_are_files_of_ours_alone_and_stay_as_they_are(setup: SetUp) -> None:
    setup.run("--edge", "paris")
    logins = {path: path.read_text() for path in (setup.home / "kafka").rglob("*.login")}
    assert {str(path.relative_to(setup.home / "kafka")) for path in logins} == {
        "api.login",
        "worker.login",
        "edge.login",
        "edges/paris.login",
    }
    assert {path.stat().st_mode & 0o777 for path in logins} == {0o600}
    setup.run("--edge", "paris")
    assert {path: path.read_text() for path in logins} == logins


def test_what_differs_is_said_and_changed_only_when_asked_for(setup: SetUp) -> None:
    setup.run()
    differing = ("--events-kept", "24h", "--partitions", "8")
    said = setup.run(*differing)
    assert said.returncode == 1
    assert "retention.ms is 604800000, not 86400000; partitions: 6, not 8" in said.stdout
    assert setting_of(setup.broker, "login-events", "retention.ms") == "604800000"
    assert setup.run(*differing, "--change").returncode == 1  # the partitions stay as they are
    assert setting_of(setup.broker, "login-events", "retention.ms") == "86400000"
    assert partitions(setup.broker) == TOPICS


@pytest.mark.parametrize(
    ("login", "may_read", "may_write"),
    [
        ("edge.login", {"edge-config"}, {"login-events", "edge-reports"}),
        ("api.login", {"edge-config"}, set(TOPICS)),
        ("worker.login", {"login-events", "edge-reports"}, set()),
    ],
    ids=["edge", "api", "worker"],
)
def test_user_may_do_its_own_work_and_nothing_else(
    setup: SetUp, login: str, may_read: set[str], may_write: set[str]
) -> None:
    setup.run()
    client = setup.client(login)
    assert {topic for topic in TOPICS if is_allowed(lambda topic=topic: read(client, topic))} == may_read
    assert {topic for topic in TOPICS if is_allowed(lambda topic=topic: write(client, topic))} == may_write
    admin = AdminClient(client)
    assert not is_allowed(lambda: finish(admin.create_topics([NewTopic("another", 1, 1)])))
    assert not is_allowed(lambda: finish(admin.delete_topics(["edge-config"])))


def test_only_the_api_publishes(setup: SetUp) -> None:
    setup.run()
    assert is_allowed(lambda: publish(setup.client("api.login")))
    assert not is_allowed(lambda: publish(setup.client("edge.login")))


def test_new_password_counts_after_the_file_was_removed(setup: SetUp) -> None:
    setup.run()
    old = setup.client("edge.login")
    (setup.home / "kafka" / "edge.login").unlink()
    setup.run()
    assert is_allowed(lambda: read(setup.client("edge.login"), "edge-config"))
    with pytest.raises(KafkaException):
        AdminClient(old).list_topics(timeout=2)


def test_what_is_wrong_is_said_in_a_sentence(setup: SetUp) -> None:
    wrong_password = setup.run(password="wrong")
    assert "Kafka does not take the password of the user admin" in wrong_password.stderr
    (setup.home / "kafka" / "ca.pem").unlink()
    assert "cannot be verified; is its CA in kafka/ca.pem?" in setup.run().stderr
    away = setup.run(FOREGATE_KAFKA="localhost:1")
    assert "Kafka at localhost:1 does not answer; start it, or check FOREGATE_KAFKA." in away.stderr
    unset = setup.run(FOREGATE_KAFKA="")
    assert "Set FOREGATE_KAFKA to the addresses" in unset.stderr
    assert all(done.returncode in (1, 2) for done in (wrong_password, away, unset))
    assert "Traceback" not in wrong_password.stderr + away.stderr + unset.stderr


def test_cluster_in_the_clear_gets_topics_alone(setup: SetUp) -> None:
    settings = {"FOREGATE_KAFKA": setup.broker.servers, "FOREGATE_KAFKA_SECURITY": "plaintext"}
    done = setup.run(**settings)
    assert done.returncode == 0, done.stderr
    assert "no users and no access rules" in done.stderr
    assert partitions(setup.broker) == TOPICS
    assert not list((setup.home / "kafka").rglob("*.login"))


def partitions(broker: Broker) -> dict[str, int]:
    found = AdminClient({"bootstrap.servers": broker.servers}).list_topics(timeout=10).topics
    return {name: len(topic.partitions) for name, topic in found.items() if not name.startswith("__")}


def setting_of(broker: Broker, topic: str, name: str) -> str:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    client = AdminClient({"bootstrap.servers": broker.servers})
    (found,) = client.describe_configs([resource]).values()
    return str(found.result(10)[name].value)


def is_allowed(work: Callable[[], None]) -> bool:
    """Whether Kafka lets a client do it; any other failure than a refusal is raised."""
    refusals = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
    try:
        work()
    except KafkaException as error:
        if error.args[0].code() not in refusals:
            raise
        return False
    return True


def read(client: dict[str, str], topic: str) -> None:
    consumer = Consumer(
        {**client, "group.id": "foregate", "enable.auto.commit": "false", "enable.partition.eof": "true"}
    )
    try:
        refusal = consumer.list_topics(topic, timeout=10).topics[topic].error
        if refusal is not None:
            raise KafkaException(refusal)
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(10)
        assert message is not None
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
    finally:
        consumer.close()


def write(client: dict[str, str], topic: str) -> None:
    failed: list[KafkaError] = []
    producer = Producer({**client, "enable.idempotence": "true"})
    producer.produce(topic, b"{}", "key", 0, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(10) == 0
    if failed:
        raise KafkaException(failed[0])


def publish(client: dict[str, str]) -> None:
    producer = Producer({**client, "transactional.id": "foregate-publisher"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce("edge-config", b"{}", "key")
    producer.commit_transaction(10)


def finish(calls: dict[str, Future[None]]) -> None:
    for call in calls.values():
        call.result(10)
