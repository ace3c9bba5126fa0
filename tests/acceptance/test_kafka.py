"""Foregate on Kafka, over TLS and SCRAM: the life of a token, and what happens while Kafka is away or was made anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from foregate.eventlog.kafka import KafkaLog
from foregate.eventlog.kafka_access import KafkaAccess
from foregate.eventlog.model import EDGE_CONFIG
from harness.kafka import Broker
from harness.kafka_product import foregate_on_kafka, set_up_kafka
from harness.log import counted_gaps, logged_events
from harness.origin import Origin
from harness.processes import kill
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, until_status
from harness.waiting import until

# What was cut off waits some seconds before it tries again, and a broker takes some to start.
HEALED_SECONDS = 60


@pytest.fixture(scope="module")
def broker(shared_kafka: Broker) -> Broker:
    shared_kafka.clear()
    return shared_kafka


@pytest.fixture(scope="module")
def on_kafka(broker: Broker) -> Iterator[Foregate]:
    with foregate_on_kafka(broker) as foregate:
        foregate.start()
        yield foregate


@pytest.fixture(scope="module")
def app(on_kafka: Foregate, origin: Origin) -> App:
    return create_app(on_kafka, origin.service, [allow()])


@pytest.fixture
def token(on_kafka: Foregate, app: App) -> Token:
    made = create_token(on_kafka.api())
    until_status(on_kafka, app.host, made, 200)
    return made


def test_token_is_accepted_seen_and_revoked(on_kafka: Foregate, app: App, token: Token) -> None:
    api = on_kafka.api()
    until(lambda: last_seen(on_kafka, token), 10, "the token is seen")
    made = api.result("POST", f"/access/service_tokens/{token.id}/rotate", {})
    until_status(on_kafka, app.host, token.with_secret(made["client_secret"]), 200)
    api.result("DELETE", f"/access/service_tokens/{token.id}")
    until_status(on_kafka, app.host, token, 401)


def test_change_has_a_receipt(on_kafka: Foregate, app: App, token: Token) -> None:
    def receipts() -> Any:
        (edge,) = on_kafka.api().result("GET", "/foregate/edges")
        assert edge["is_reporting"] and not edge["pending"]
        return edge

    assert until(receipts, 10, "the edge has applied all")["missing_events"] == 0


def test_doctor_finds_kafka_in_order(on_kafka: Foregate) -> None:
    assert "3 topics at" in on_kafka.run("doctor").stdout.decode()


def test_events_are_counted_once_over_a_killed_worker(on_kafka: Foregate, app: App, token: Token) -> None:
    paths = [f"/{token.id}/{number}" for number in range(60)]
    for number, path in enumerate(paths):
        if number % 20 == 10:
            (worker,) = until(lambda: on_kafka.processes("worker"), 10, "a worker runs")
            kill(worker)
        assert on_kafka.get(app.host, path, token.headers).status == 200
    assert events_at(on_kafka, paths) == paths
    until(lambda: counted_gaps(on_kafka) == 0, HEALED_SECONDS, "no event is missing")


def test_edge_serves_and_all_heals_when_kafka_was_away(
    on_kafka: Foregate, broker: Broker, app: App, token: Token
) -> None:
    paths = [f"/{token.id}/away-{number}" for number in range(20)]
    broker.kill()
    for path in paths[:10]:
        assert on_kafka.get(app.host, path, token.headers).status == 200
    late = create_token(on_kafka.api())  # committed, and published once Kafka is back
    assert "does not answer" in on_kafka.run("doctor").stderr.decode()
    broker.start()
    for path in paths[10:]:
        assert on_kafka.get(app.host, path, token.headers).status == 200
    until(lambda: on_kafka.get(app.host, headers=late.headers).status == 200, HEALED_SECONDS, "the change arrives")
    assert events_at(on_kafka, paths) == paths
    until(lambda: counted_gaps(on_kafka) == 0, HEALED_SECONDS, "no event is missing")


def test_kafka_that_stands_still_stops_nobody(on_kafka: Foregate, broker: Broker, app: App, token: Token) -> None:
    broker.pause()
    try:
        for _ in range(5):
            assert on_kafka.get(app.host, headers=token.headers).status == 200
        late = create_token(on_kafka.api())
    finally:
        broker.resume()
    until(lambda: on_kafka.get(app.host, headers=late.headers).status == 200, HEALED_SECONDS, "the change arrives")


def test_topics_that_were_made_anew_are_filled_and_read_again(
    on_kafka: Foregate, broker: Broker, app: App, token: Token
) -> None:
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for done in admin.delete_topics(["edge-config", "login-events", "edge-reports"]).values():
        done.result(10)
    until(lambda: "Kafka has no topic" in on_kafka.run("doctor").stderr.decode(), 10, "the doctor says so")
    assert on_kafka.get(app.host, headers=token.headers).status == 200
    set_up_kafka(on_kafka, broker)
    late = create_token(on_kafka.api())
    until(lambda: on_kafka.get(app.host, headers=late.headers).status == 200, HEALED_SECONDS, "the change arrives")
    path = f"/{token.id}/anew"
    assert on_kafka.get(app.host, path, token.headers).status == 200
    assert events_at(on_kafka, [path]) == [path]
    log = KafkaLog(KafkaAccess(broker.servers))
    kept = {record.key for record in log.read(EDGE_CONFIG, 0)}
    log.close()
    assert {f"token/{token.client_id}", f"token/{late.client_id}", f"app/{app.id}"} <= kept


def test_message_that_is_no_batch_is_set_aside_counted_and_told(on_kafka: Foregate, broker: Broker, app: App) -> None:
    producer = Producer({"bootstrap.servers": broker.servers})
    for value in (b"garbage", b'{"v":1,"edge":"e","worker":"w","start":0,"size":99999999999}\n'):
        producer.produce("login-events", value, "k", 2)
    assert producer.flush(10) == 0

    def is_told() -> bool:
        return "event-intake has set aside 2 messages of login-events/2" in on_kafka.run("status").stderr.decode()

    until(is_told, 20, "the status tells of it")
    path = "/after-garbage"
    assert on_kafka.get(app.host, path).status == 403
    assert events_at(on_kafka, [path]) == [path]


def events_at(foregate: Foregate, paths: list[str]) -> list[str]:
    """The paths of the events that are about one of these, once there are as many."""
    wanted = set(paths)

    def found() -> list[str] | None:
        seen = [event["path"] for event in logged_events(foregate) if event.get("path") in wanted]
        return seen if len(seen) >= len(paths) else None

    return sorted(until(found, HEALED_SECONDS, "the events have arrived"), key=paths.index)


def last_seen(foregate: Foregate, token: Token) -> Any:
    return foregate.api().result("GET", f"/access/service_tokens/{token.id}")["last_seen_at"]
