"""What an edge finds damaged or missing on its own disk is fetched anew, and it serves; nobody has to look after it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge_values import app, client_id, policy, token
from integration.edge.harness import APP_ID, HOST, World, eventually, world


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
    await eventually(lambda: any("to the edge key" in text for text in edge.status().get("problems", [])))
    [line] = said(running, "feed_waiting")
    assert str(line["reason"]).endswith("to the edge key")


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
