"""An agent that is killed leaves HAProxy running; whatever moment it was, the next one knows every worker, and none
goes on by itself with what it was told last."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge_values import app, client_id, policy, token
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


class HeldStart:
    """Holds up the next worker that starts at two of its files, by pipes in their place: at its hot map, which it reads
    before the overlay, and then at its routes, which it reads after it."""

    def __init__(self, edge: Path) -> None:
        self._edge = edge
        self._known = set(edge.glob("maps/*"))

    async def until_it_has_read_the_overlay(self) -> None:
        # HAProxy checks the configuration before it opens the maps: there is time.
        hot = await eventually(lambda: next(iter(set(self._edge.glob("maps/*/hot.map")) - self._seen()), None))
        _put_pipe(hot)
        first = await eventually(lambda: _writer(hot), "the worker is at its hot map")
        routes = self._edge / "workers" / hot.parent.name / "routes.map"
        self._routes = routes.read_bytes()
        _put_pipe(routes)
        os.close(first)
        self._last = await eventually(lambda: _writer(routes), "the worker is at its routes")

    def let_go(self) -> None:
        with os.fdopen(self._last, "wb") as file:
            file.write(self._routes)

    def _seen(self) -> set[Path]:
        return {folder / "hot.map" for folder in self._known}


def _put_pipe(path: Path) -> None:
    beside = path.with_suffix(".pipe")
    os.mkfifo(beside, 0o600)
    beside.replace(path)


def _writer(pipe: Path) -> int | None:
    """A descriptor to write to whoever reads from the pipe."""
    with suppress(OSError):  # nobody does yet
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    return None


async def test_a_worker_is_found_although_the_roster_is_lost(running: World) -> None:
    edge = running.edge
    await running.serve(1, 2)
    with Clients(edge, 1) as clients:
        # Until its assertion is remembered, a request needs an agent that is there within eight seconds.
        await eventually(lambda: edge.hot_entries() == 1)
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


async def held_start(running: World, known: set[int]) -> Process:
    """A worker that was stopped before it could say that it serves; on a quick machine the first may have said so."""
    for number in range(20):
        await running.plane.publish({f"app/most{number}": app(f"most{number}.test", policies=[policy("p2", "bypass")])})
        (started,) = await eventually(lambda: [one for one in workers(running) if one.pid not in known])
        os.kill(started.pid, signal.SIGSTOP)
        await asyncio.sleep(0.2)  # what it had said by then is heard
        if roster(running)[-1]["identity"]["pid"] == 0:
            return started
        os.kill(started.pid, signal.SIGCONT)
        known.add(started.pid)
        await eventually(lambda: roster(running)[-1]["identity"]["pid"] in {one.pid for one in workers(running)})
    raise AssertionError("every worker was too quick")


async def test_a_worker_that_is_being_started_stays_on_the_roster(running: World) -> None:
    """Also if another one ends meanwhile: or nobody would know it once the agent is killed."""
    await running.serve(1)
    connection = keep_open(running)
    await replace_worker(running, "more")
    known = {one.pid for one in workers(running)}
    (oldest, _) = roster(running)
    started = await held_start(running, known)
    connection.close()
    await eventually(lambda: not Path(f"/proc/{oldest['identity']['pid']}").exists())
    await eventually(lambda: oldest["identity"] not in [entry["identity"] for entry in roster(running)])
    assert roster(running)[-1]["identity"]["pid"] == 0

    await running.edge.signal(signal.SIGKILL)
    os.kill(started.pid, signal.SIGCONT)
    await restart(running)
    assert running.edge.get(1) == 200
    await eventually(lambda: len(workers(running)) == 1)


async def test_a_worker_whose_agent_is_killed_as_it_starts_knows_what_clients_were_told(running: World) -> None:
    """Tokens change after it has read them: it must not let one in again that was turned away already, nor turn one
    away that was let in, in the time that the next agent needs."""
    edge, plane = running.edge, running.plane
    await running.serve(1, 2, 3)
    held = HeldStart(edge.home.edge)
    await plane.publish({"app/more": app("more.test", policies=[policy("p2", "bypass")])})
    await held.until_it_has_read_the_overlay()
    begun = time.monotonic()
    await plane.publish({f"token/{client_id(1)}": None, f"token/{client_id(4)}": token(4)})
    answers = []
    while time.monotonic() - begun < 0.25:
        answers.append((await asyncio.to_thread(edge.get, 1), await asyncio.to_thread(edge.get, 4)))
    await edge.signal(signal.SIGKILL)
    if time.monotonic() - begun > 0.4:
        pytest.skip("the machine was too busy to kill the agent while changes wait")
    held.let_go()
    await eventually(lambda: edge.get(None, host="more.test") != 403, "the new worker has taken over")
    answers += [(edge.get(1), edge.get(4)) for _ in range(2)]
    # 503: it authenticated, and nobody is there to sign.
    assert set(answers) <= {(200, 401), (503, 401)}
    edge.start()
    await eventually(lambda: (edge.get(1), edge.get(4)) == (401, 200), "the next agent brings the change")
