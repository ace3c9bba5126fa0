"""What an edge finds damaged or missing on its own disk is fetched anew, and it serves; nobody has to look after it."""

from __future__ import annotations

import hmac
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge_values import ACCOUNT, app, client_id, policy, secret_of, secret_version, token
from foregate.edge import base_map, wire
from foregate.edge.secrets import EdgeSecrets
from foregate.edge.state import State
from foregate.engines.haproxy.maps import NEVER
from foregate.services.edge_report import edge_problems
from integration.edge.harness import APP_ID, HOST, SECRETS, Clients, World, eventually, world


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


def overwrite(world: World) -> None:
    (world.edge.home.edge / "secrets.sealed").write_bytes(os.urandom(300))


def cut_off(world: World) -> None:
    path = world.edge.home.edge / "secrets.sealed"
    path.write_bytes(path.read_bytes()[:40])


def remove(world: World) -> None:
    (world.edge.home.edge / "secrets.sealed").unlink()


def give_another_key(world: World) -> None:
    world.plane.edge_key = "fgek_" + "n" * 48
    world.edge.home.edge_key.write_text(world.plane.edge_key + "\n")


def said(world: World, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in world.edge.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("harm", [overwrite, cut_off, remove, give_another_key])
async def test_secrets_that_do_not_open_are_fetched_anew(running: World, harm: Callable[[World], None]) -> None:
    edge = running.edge
    await running.serve(1)
    assert await edge.signal(signal.SIGTERM) == 0
    harm(running)
    edge.start()
    await eventually(lambda: edge.get(1) == 200)
    await running.settled()
    assert len(said(running, "secrets_not_usable")) == 1


async def test_an_edge_whose_key_is_refused_says_so(running: World) -> None:
    edge = running.edge
    await running.serve(1)
    assert await edge.signal(signal.SIGTERM) == 0
    give_another_key(running)
    running.plane.edge_key = "another"
    edge.start()
    await eventually(lambda: any("to this edge" in text for text in edge.status().get("problems", [])))
    [line] = said(running, "feed_waiting")
    assert str(line["reason"]).endswith("to this edge")


async def test_tokens_written_as_another_release_wrote_them_are_written_anew(running: World) -> None:
    edge = running.edge
    await running.serve(1, 2)
    assert await edge.signal(signal.SIGTERM) == 0
    with closing(State(edge.home.edge / "state.db")) as state:
        with state.transaction():
            for number in (1, 2):
                row = state.get(f"token/{client_id(number)}")
                assert row is not None
                # In hexadecimal digits, as it might have been once.
                state.put(row, f"{ACCOUNT}|E|{NEVER}|{secret_version(number).digest}:1")
            state.set_text("entry_form", "another")
        base, mac = base_map.write(state, edge.home.edge / "maps", base_map.begin(state), SECRETS.record_mac_key)
        base_map.adopt(state, base, mac)
    await running.plane.stop()
    edge.start()
    await eventually(lambda: edge.get(1))
    assert [edge.get(1), edge.get(2)] == [200, 200]


async def test_records_of_another_control_plane_are_not_served_under_this_ones_peppers(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(1, 2)
    assert await edge.signal(signal.SIGTERM) == 0
    peppers = {1: os.urandom(32), 2: os.urandom(32)}
    plane.secrets = EdgeSecrets(peppers, os.urandom(32), SECRETS.sealing_key)
    (edge.home.edge / "secrets.sealed").unlink()
    edge.start()
    # The agent ends, for whoever keeps it alive to start it again.
    await eventually(lambda: edge.process and edge.process.poll())
    assert said(running, "state_damaged")[0]["reason"] == "its records are sealed under another key"
    assert edge.get(1) == 0, "nobody is turned away by what cannot be judged"
    edge.start()
    digest = hmac.digest(peppers[1], secret_of(1).encode(), "sha256").hex()
    await running.serve()
    await plane.publish({f"token/{client_id(1)}": token(1, secrets=(wire.SecretVersion(1, digest, 1, None),))})
    await eventually(lambda: edge.get(1) == 200)
    await running.settled()


async def test_records_damaged_on_disk_are_asked_for_again(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(1, 2)
    await plane.publish({"app/open": app(f"{HOST}/open", policies=[policy("p2", "bypass")])})
    await running.settled()
    assert await edge.signal(signal.SIGTERM) == 0
    with closing(sqlite3.connect(edge.home.edge / "state.db")) as state:
        damaged = (f"app/{APP_ID}", f"token/{client_id(1)}")
        state.execute("UPDATE records SET wire = '{}', entry = 'x' WHERE key IN (?, ?)", damaged)
        state.commit()
    for path in (edge.home.edge / "maps").glob("base-*.map"):
        path.unlink()
    edge.start()
    await eventually(lambda: edge.get(None, "/open") == 200)
    # A change that comes now must not make the edge forget that it has to ask for older ones.
    await plane.publish({f"token/{client_id(3)}": token(3)})
    await eventually(lambda: edge.get(3) == edge.get(2) == edge.get(1) == 200)
    await running.settled()


async def test_an_edge_that_holds_back_a_snapshot_says_so_and_can_be_told_to_forget(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(*range(1, 61))
    assert await edge.signal(signal.SIGTERM) == 0
    lost = [f"token/{client_id(number)}" for number in range(31, 61)]
    with plane.telemetry.database.write() as connection:
        for key in lost:
            connection.exec_driver_sql("DELETE FROM log_records WHERE key = ?", (key,))
    with closing(State(edge.home.edge / "state.db")) as state, state.transaction():
        state.set_number("cursor", 0)
    await plane.stop()
    await plane.start()
    edge.start()
    await eventually(lambda: edge.get(60) == 200)
    await eventually(lambda: any("leaves out 30 of 60" in text for text in edge_problems(edge.home) or ()))
    assert edge.get(60) == 200

    with Clients(edge, 1) as clients:
        await eventually(lambda: clients.total() > 50)
        kept = edge.home.edge / "old"
        kept.mkdir()
        for path in edge.home.edge.glob("state.db*"):
            path.rename(kept / path.name)
        assert await edge.signal(signal.SIGUSR1) == 0
        edge.start()
        await eventually(lambda: edge.get(60) == 401)
        await eventually(lambda: edge_problems(edge.home) == ())
    assert set(clients.answers) == {200}
