"""What a record says of the edge itself: other secrets, or that it is expelled. Over the feed alone, without a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_values import PEPPERS, client_id, digest_of, secret_of, token
from foregate.core.records import seal
from foregate.edge.secrets import EdgeSecrets, seal_secrets
from foregate.edge.wire import EdgeValue, SecretVersion
from integration.edge.harness import EDGE_ID, EDGE_KEY, SECRETS, World, eventually, world

OLDER = EdgeSecrets({1: PEPPERS[1]}, SECRETS.record_mac_key, SECRETS.sealing_key)


def record(secrets: EdgeSecrets, edge_id: str = EDGE_ID) -> EdgeValue:
    return EdgeValue("edge", "", False, seal_secrets(secrets, edge_id, EDGE_KEY))


def under_pepper_2(number: int) -> SecretVersion:
    return SecretVersion(1, digest_of(secret_of(number), 2), 2, None)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[World]:
    """An edge that has heard of one pepper."""
    async with world(tmp_path) as found:
        found.plane.secrets = OLDER
        yield found


async def test_new_pepper_in_its_own_record_is_there_for_the_next_token(running: World) -> None:
    await running.serve(1)
    connections = running.edge.status()["feed"]["connections"]
    await running.plane.publish({f"edge/{EDGE_ID}": record(SECRETS)})
    await running.plane.publish({f"token/{client_id(2)}": token(2, secrets=(under_pepper_2(2),))})
    await eventually(lambda: running.edge.get(2) == 200)
    assert running.edge.get(1) == 200
    assert running.edge.status()["feed"]["connections"] == connections


async def test_token_that_came_before_its_pepper_is_let_in_once_that_is_here(running: World) -> None:
    await running.serve(1)
    await running.plane.publish({f"token/{client_id(2)}": token(2, secrets=(under_pepper_2(2),))})
    await eventually(lambda: running.edge.status().get("held"))
    assert running.edge.get(2) == 401
    await running.plane.publish({f"edge/{EDGE_ID}": record(SECRETS)})
    await eventually(lambda: running.edge.get(2) == 200)


async def test_older_secrets_take_no_pepper_away(running: World) -> None:
    """One of several API processes may not have been started anew yet."""
    running.plane.secrets = SECRETS
    await running.serve(1)
    await running.plane.publish({f"token/{client_id(2)}": token(2, secrets=(under_pepper_2(2),))})
    await eventually(lambda: running.edge.get(2) == 200)
    seq = await running.plane.publish({f"edge/{EDGE_ID}": record(OLDER)})
    await eventually(lambda: running.plane.applied() >= seq)
    assert running.edge.get(2) == 200


async def test_what_is_not_authentic_or_of_another_edge_changes_nothing(running: World) -> None:
    await running.serve(1)
    gone = EdgeValue("edge", "", True, b"")
    forged = seal(b"x" * 32, f"edge/{EDGE_ID}", running.plane.seq + 1, gone.to_wire()).to_wire()
    await running.plane.publish_wire(forged)
    await running.plane.publish({"edge/another": gone})
    seq = await running.plane.publish({f"token/{client_id(3)}": None})
    await eventually(lambda: running.plane.applied() >= seq)
    assert running.edge.get(1) == 200


async def test_expelled_edge_stops_serving_and_does_not_start_again(running: World) -> None:
    await running.serve(1)
    await running.plane.publish({f"edge/{EDGE_ID}": replace(record(SECRETS), is_expelled=True, sealed=b"")})
    edge = running.edge
    assert edge.process is not None
    await eventually(lambda: edge.process is not None and edge.process.poll() == 1)
    assert edge.get(1) == 0
    edge.start()
    await eventually(lambda: edge.process is not None and edge.process.poll() == 1)
    assert "has expelled this edge" in edge.log.read_text()
    assert not (edge.home.edge / "secrets.sealed").exists()
