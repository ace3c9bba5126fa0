"""An edge that joined and has a user of Kafka needs nothing but Kafka: not the feed, not the control plane."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from harness.joined import JoinedEdge, edge_home, join_token
from harness.kafka import Broker
from harness.kafka_product import foregate_on_kafka, set_up_kafka
from harness.log import logged_events
from harness.origin import Origin
from harness.ports import free_ports
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, until_status
from harness.waiting import until

HEALED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Plane:
    """A control plane on Kafka, and an edge of another machine that joined it."""

    foregate: Foregate
    broker: Broker
    edge: JoinedEdge
    app: App

    def token(self) -> Token:
        made = create_token(self.foregate.api())
        self.edge.until_status(self.app.host, made.headers, 200)
        return made

    def seen_by_control_plane(self) -> dict[str, Any]:
        """What the control plane knows of the edge."""
        found = json.loads(self.foregate.run("edge", "list", "--json").stdout)
        return next(edge for edge in found if edge["name"] == "paris")


@pytest.fixture(scope="module")
def plane(shared_kafka: Broker, origin: Origin) -> Iterator[Plane]:
    shared_kafka.clear()
    (feed_port,) = free_ports(1)
    feed = {"FOREGATE_FEED_BIND": "127.0.0.1", "FOREGATE_FEED_PORT": str(feed_port)}
    with foregate_on_kafka(shared_kafka, **feed) as foregate, edge_home() as edge:
        foregate.start()
        app = create_app(foregate, origin.service, [allow()])
        done = edge.join(f"https://127.0.0.1:{feed_port}", join_token(foregate), "--name", "paris")
        assert done.returncode == 0, done.stderr
        give_kafka(foregate, shared_kafka, edge, "paris")
        yield Plane(foregate, shared_kafka, edge, app)


def give_kafka(foregate: Foregate, broker: Broker, edge: JoinedEdge, name: str) -> None:
    """What an operator carries to the edge's machine."""
    set_up_kafka(foregate, broker, "--edge", name)
    (edge.home / "kafka").mkdir(mode=0o700)
    shutil.copy(foregate.home / "kafka" / "edges" / f"{name}.login", edge.home / "kafka" / "edge.login")
    shutil.copy(broker.ca_file, edge.home / "kafka" / "ca.pem")
    (edge.home / "foregate.toml").write_text(f'kafka = "{broker.tls_servers}"\n')


def test_new_edge_gets_all_it_needs_from_kafka_alone(plane: Plane) -> None:
    token = create_token(plane.foregate.api())
    until_status(plane.foregate, plane.app.host, token, 200)
    assert plane.foregate.stop() == 0  # no feed, no API, no worker
    plane.edge.start()
    plane.edge.until_status(plane.app.host, token.headers, 200)
    plane.edge.until_status(plane.app.host, [], 403)
    plane.foregate.start()


def test_changes_arrive_and_are_reported(plane: Plane) -> None:
    token = plane.token()
    plane.foregate.api().result("DELETE", f"/access/service_tokens/{token.id}")
    plane.edge.until_status(plane.app.host, token.headers, 401)

    def is_told() -> bool:
        told = plane.seen_by_control_plane()
        return bool(told["is_reporting"] and not told["pending"])

    until(is_told, HEALED_SECONDS, "the edge has reported that it has applied all")


def test_events_arrive_once_and_the_token_is_seen(plane: Plane) -> None:
    token = plane.token()
    asked = 20
    for _ in range(asked):
        assert plane.edge.get(plane.app.host, token.headers).status == 200

    def events() -> list[dict[str, Any]]:
        return [event for event in logged_events(plane.foregate) if event["id"] == token.client_id]

    until(lambda: len(events()) > asked, HEALED_SECONDS, "the events have arrived")
    until(lambda: not plane.seen_by_control_plane()["missing_events"], HEALED_SECONDS, "none is missing")
    assert len({event["ray"] for event in events()}) == len(events())
    seen = plane.foregate.api().result("GET", f"/access/service_tokens/{token.id}")["last_seen_at"]
    assert seen is not None


def test_edge_that_starts_again_goes_on_from_where_it_was(plane: Plane) -> None:
    token = plane.token()
    assert plane.edge.stop() == 0
    late = create_token(plane.foregate.api())
    plane.edge.start()
    plane.edge.until_status(plane.app.host, token.headers, 200)
    plane.edge.until_status(plane.app.host, late.headers, 200)
    assert "snapshot" not in plane.edge.log.read_text()


def test_edge_serves_while_kafka_is_away_and_catches_up(plane: Plane) -> None:
    token = plane.token()
    plane.broker.kill()
    for _ in range(10):
        assert plane.edge.get(plane.app.host, token.headers).status == 200
    late = create_token(plane.foregate.api())
    plane.broker.start()
    until(lambda: plane.edge.get(plane.app.host, late.headers).status == 200, HEALED_SECONDS, "the change arrives")


def test_topic_that_was_made_anew_takes_no_token_away(plane: Plane) -> None:
    token = plane.token()
    admin = AdminClient({"bootstrap.servers": plane.broker.servers})
    for done in admin.delete_topics(["edge-config"]).values():
        done.result(10)
    assert plane.edge.get(plane.app.host, token.headers).status == 200
    set_up_kafka(plane.foregate, plane.broker, "--edge", "paris")
    late = create_token(plane.foregate.api())

    def has_arrived() -> bool:
        assert plane.edge.get(plane.app.host, token.headers).status == 200
        return plane.edge.get(plane.app.host, late.headers).status == 200

    until(has_arrived, HEALED_SECONDS, "the change arrives")


def test_expelled_edge_stops_serving(plane: Plane) -> None:
    plane.token()
    assert plane.foregate.run("edge", "expel", "paris").returncode == 0
    assert plane.edge.ended() != 0
