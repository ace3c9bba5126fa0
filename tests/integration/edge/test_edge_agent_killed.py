"""An agent that is killed leaves HAProxy running; whatever moment it was, the next one knows every worker, and none
goes on by itself with what it was told last."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_values import app, client_id, policy
from harness.processes import Process, processes_of
from integration.edge.harness import APP_ID, Clients, World, eventually, headers_for, world


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


def workers(world: World) -> list[Process]:
    found = processes_of(world.edge.home.root)
    return [one for one in found if one.name == "haproxy" and b"\0-c\0" not in one.command]


def roster(world: World) -> list[dict[str, Any]]:
    return list(json.loads((world.edge.home.edge / "workers.json").read_text()))


def keep_open(world: World) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", world.edge.http_port, timeout=5)
    assert ask(connection) == 200
    return connection


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/", headers=headers_for(1))
    response = connection.getresponse()
    response.read()
    return response.status


async def replace_worker(world: World, name: str) -> None:
    """A change that needs a new worker, which then serves."""
    await world.plane.publish({f"app/{name}": app(f"{name}.test", policies=[policy("p2", "bypass")])})
    await world.settled()


async def restart(world: World) -> None:
    """Another agent; it has reported, and a worker of its own serves."""
    before = world.edge.worker_pid()
    world.edge.start()
    await eventually(lambda: world.edge.worker_pid() not in (0, before), "a worker of the next agent")
    reports = len(world.plane.reports)
    await eventually(lambda: len(world.plane.reports) > reports + 1)
    await world.settled()


async def test_a_worker_is_found_although_the_roster_is_lost(running: World) -> None:
    edge = running.edge
    await running.serve(1, 2)
    with Clients(edge, 1) as clients:
        await edge.signal(signal.SIGKILL)
        before = workers(running)
        (edge.home.edge / "workers.json").write_text("[")
        await running.plane.publish({f"token/{client_id(2)}": None})
        edge.start()
        await eventually(lambda: edge.get(2) == 401)
        await running.settled()
    assert set(clients.answers) == {200}
    await eventually(lambda: not {one.pid for one in before} & {one.pid for one in workers(running)})


async def test_a_worker_that_drains_is_known_to_the_next_agent(running: World) -> None:
    """It takes no session any more, but it hands over what it is asked, and ends with the edge."""
    await running.serve(1)
    connection = keep_open(running)
    other = keep_open(running)
    await replace_worker(running, "more")
    (draining, _) = roster(running)
    assert draining["hands_over"] is True
    await running.edge.signal(signal.SIGKILL)
    await running.plane.publish({f"app/{APP_ID}": None})
    await restart(running)
    assert draining["identity"] in [entry["identity"] for entry in roster(running)]
    assert ask(connection) == 403
    assert await running.edge.signal(signal.SIGTERM) == 0
    assert workers(running) == []
    other.close()


async def test_a_draining_worker_that_judges_by_old_rules_is_ended(running: World) -> None:
    """The agent was killed before it could tell the old worker to hand over, and nobody can tell it any more."""
    await running.serve(1)
    connection = keep_open(running)
    await replace_worker(running, "more")
    await running.edge.signal(signal.SIGKILL)
    entries = roster(running)
    entries[0]["hands_over"] = False
    (running.edge.home.edge / "workers.json").write_text(json.dumps(entries))
    await restart(running)
    assert entries[0]["identity"]["pid"] not in [one.pid for one in workers(running)]
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(connection)


async def test_a_worker_that_is_being_started_stays_on_the_roster(running: World) -> None:
    """Also if another one ends meanwhile: or nobody would know it once the agent is killed."""
    await running.serve(1)
    connection = keep_open(running)
    await replace_worker(running, "more")
    known = {one.pid for one in workers(running)}
    (oldest, _) = roster(running)
    await running.plane.publish({"app/most": app("most.test", policies=[policy("p2", "bypass")])})
    (started,) = await eventually(lambda: [one for one in workers(running) if one.pid not in known])
    os.kill(started.pid, signal.SIGSTOP)
    connection.close()
    await eventually(lambda: not Path(f"/proc/{oldest['identity']['pid']}").exists())
    await eventually(lambda: oldest["identity"] not in [entry["identity"] for entry in roster(running)])
    assert roster(running)[-1]["identity"]["pid"] == 0

    await running.edge.signal(signal.SIGKILL)
    os.kill(started.pid, signal.SIGCONT)
    await restart(running)
    assert running.edge.get(1) == 200
    await eventually(lambda: len(workers(running)) == 1)
