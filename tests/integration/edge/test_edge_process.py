"""The edge process with a real HAProxy: what reaches it, what it survives, what it leaves behind."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from edge_values import ACCOUNT, app, client_id, ingress, policy, secret_version, token
from foregate.edge import wire
from harness.sockets import outside_folders
from integration.edge.harness import (
    APP_ID,
    AUTH_DOMAIN,
    HOST,
    Clients,
    World,
    eventually,
    headers_for,
    signing_key,
    world,
)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


def key(number: int) -> str:
    return f"token/{client_id(number)}"


async def test_a_token_lives_at_the_edge_as_the_control_plane_says(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(1)
    assert edge.get(1) == 200
    assert edge.get(2) == 401
    assert edge.get(None) == 403

    await plane.publish({key(2): token(2)})
    await eventually(lambda: edge.get(2) == 200)
    await plane.publish({key(1): token(1, is_enabled=False)})
    await eventually(lambda: edge.get(1) == 401)
    await plane.publish({key(1): token(1)})
    await eventually(lambda: edge.get(1) == 200)
    versions = (secret_version(2, 2), secret_version(2, 1, ends=int(time.time()) + 600))
    await plane.publish({key(2): token(2, secrets=versions)})
    await eventually(lambda: edge.get(2, version=2) == 200)
    assert edge.get(2, version=1) == 200
    await plane.publish({key(2): None})
    await eventually(lambda: edge.get(2, version=2) == 401)
    await running.settled()


async def test_a_revocation_reaches_a_connection_that_is_open(running: World) -> None:
    await running.serve(1)
    connection = http.client.HTTPConnection("127.0.0.1", running.edge.http_port, timeout=5)

    def status() -> int:
        connection.request("GET", "/", headers=headers_for(1))
        response = connection.getresponse()
        response.read()
        return response.status

    assert [status() for _ in range(5)] == [200] * 5
    await running.plane.publish({key(1): None})
    await running.settled()
    assert status() == 401


async def test_a_change_reaches_connections_that_are_open(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(1)
    await plane.publish({"app/open": app(f"{HOST}/open", policies=[policy("p2", "bypass")])})
    await running.settled()
    kept = [http.client.HTTPConnection("127.0.0.1", edge.http_port, timeout=5) for _ in range(3)]

    def status(connection: http.client.HTTPConnection, number: int | None, path: str) -> int:
        connection.request("GET", path, headers=headers_for(number))
        response = connection.getresponse()
        response.read()
        return response.status

    asks = list(zip(kept, (1, None, 1), ("/", "/open", "/open"), strict=True))
    assert [status(*ask) for ask in asks for _ in range(40)] == [200] * 120
    await plane.publish({"app/open": None})
    await running.settled()
    assert [status(*ask) for ask in asks] == [200, 403, 200]
    await plane.publish({f"app/{APP_ID}": None})
    await running.settled()
    assert [status(*ask) for ask in asks] == [403, 403, 403]


async def test_the_origin_gets_an_assertion_that_fits_the_published_keys(running: World) -> None:
    await running.serve(1)
    status, seen = running.edge.ask(1, "/x/../y?q=1")
    assert status == 200
    assert seen["path"] == "/y?q=1"
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert "cf-access-client-secret" not in headers
    claims = jwt.decode(headers["cf-access-jwt-assertion"], jwt.PyJWK(signing_key()[1]), ["RS256"], audience="f" * 64)
    assert (claims["common_name"], claims["iss"]) == (client_id(1), f"https://{AUTH_DOMAIN}")
    status, jwks = running.edge.ask(None, "/cdn-cgi/access/certs")
    assert (status, jwks["keys"][0]["n"]) == (200, signing_key()[1]["n"])


async def test_a_refused_record_changes_nothing_and_is_reported(running: World) -> None:
    await running.serve(1)
    damaged = replace(token(1), secrets=(replace(secret_version(1), digest="0" * 64),))
    await running.plane.publish({key(1): damaged, key(2): token(2)})
    await running.settled()
    assert running.edge.get(1) == 200
    assert running.edge.get(2) == 200
    [note] = running.plane.reports[-1]["refused"]
    assert (note["key"], note["reason"]) == (key(1), "the digest of secret version 1 changed")


async def test_a_record_that_haproxy_refuses_does_not_stop_the_others(running: World) -> None:
    await running.serve(1)
    # An expression that Python knows and PCRE does not.
    rules = (wire.IngressRule(r"\N{BULLET}", running.origin.url, wire.OriginSettings()),)
    odd, odder = (wire.IngressValue(ACCOUNT, host, rules) for host in ("odd.test", "odder.test"))
    policies = [policy("p2", "bypass")]
    await running.plane.publish(
        {
            "ingress/odd.test": odd,
            "app/odd": app("odd.test", policies=policies),
            "app/odder": app("odder.test", policies=policies),
            "ingress/odder.test": odder,
            "app/good": app("good.test", policies=policies),
            "ingress/good.test": ingress("good.test", service=running.origin.url),
        }
    )
    await running.settled()
    assert running.edge.get(None, host="good.test") == 200
    assert running.edge.get(1) == 200
    refused = {note["key"] for note in running.plane.reports[-1]["refused"]}
    assert refused == {"ingress/odd.test", "ingress/odder.test"}


async def test_the_edge_serves_without_control_plane_also_after_its_own_restart(running: World) -> None:
    edge = running.edge
    await running.serve(1)
    await running.plane.publish({key(2): token(2), key(3): token(3)})
    await running.plane.publish({key(3): None})
    await running.settled()
    await running.plane.stop()
    assert edge.get(2) == 200

    assert await edge.signal(signal.SIGTERM) == 0
    assert edge.get(2) == 0
    edge.start()
    await eventually(lambda: edge.get(2) == 200)
    assert edge.get(1) == 200
    assert edge.get(3) == 401

    await running.plane.start()
    await running.plane.publish({key(2): None})
    await eventually(lambda: edge.get(2) == 401)


async def test_a_killed_agent_costs_no_request_and_its_successor_takes_over(running: World) -> None:
    edge = running.edge
    await running.serve(1, 2)
    before = edge.worker_pid()
    with Clients(edge, 1) as clients:
        await eventually(lambda: clients.total() > 50)
        await edge.signal(signal.SIGKILL)
        await running.plane.publish({key(2): None})
        count = clients.total()
        await eventually(lambda: clients.total() > count + 50)
        edge.start()
        await eventually(lambda: edge.get(2) == 401)
        await running.settled()
        count = clients.total()
        await eventually(lambda: clients.total() > count + 50)
    assert set(clients.answers) == {200}, clients.answers
    assert edge.worker_pid() != before
    await eventually(lambda: not Path(f"/proc/{before}").exists())


async def test_a_handed_over_haproxy_is_taken_over_without_an_error(running: World) -> None:
    edge = running.edge
    await running.serve(1)
    with Clients(edge, 1) as clients:
        await eventually(lambda: clients.total() > 50)
        assert await edge.signal(signal.SIGUSR1) == 0
        edge.start()
        reports = len(running.plane.reports)
        await eventually(lambda: len(running.plane.reports) > reports + 1)
        await running.settled()
    assert set(clients.answers) == {200}, clients.answers


async def test_a_killed_haproxy_is_replaced_at_once(running: World) -> None:
    edge = running.edge
    await running.serve(1)
    before = edge.worker_pid()
    os.kill(before, signal.SIGKILL)
    started = time.monotonic()
    await eventually(lambda: edge.get(1) == 200)
    assert time.monotonic() - started < 5
    assert edge.worker_pid() != before


async def test_new_workers_cost_no_request_and_no_event(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(1)
    rules = [policy("p2", "bypass")]
    with Clients(edge, 1) as clients:
        for number in range(5):
            await plane.publish({f"app/more{number}": app(f"more{number}.test", policies=rules)})
            await running.settled()
    assert set(clients.answers) == {200}, clients.answers
    assert await edge.signal(signal.SIGTERM) == 0
    served = [event for event in plane.events() if event["why"] == "service_auth"]
    assert len(served) == clients.total()
    assert len({(event["ray"]) for event in served}) == len(served)
    assert len(plane.final) == len(plane.files) >= 6


async def test_an_ended_edge_leaves_nothing_behind(running: World) -> None:
    edge = running.edge
    await running.serve(1)
    assert edge.get(1) == 200
    worker = edge.worker_pid()
    assert await edge.signal(signal.SIGTERM) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert outside_folders(edge.home.root) == []
    assert not list(edge.home.run.glob("*.sock"))
    left = {path.name for path in edge.home.edge.iterdir()}
    assert left <= {"edge.key", "secrets.sealed", "state.db", "maps", "certs", "ca", "spool", "workers"}
    assert list((edge.home.edge / "spool").iterdir()) == []
    assert list((edge.home.edge / "workers").iterdir()) == []


async def test_many_changes_are_folded_and_stay_what_they_are(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(1)
    await plane.publish({key(number): token(number) for number in range(2, 6_001)})
    await plane.publish({key(number): token(number) for number in range(6_001, 12_001)})
    await running.settled()
    assert [edge.get(number) for number in (1, 2, 3, 4, 12_000)] == [200] * 5, "remembered, from here on"
    await plane.publish({key(2): None, key(3): token(3, is_enabled=False)})
    await running.settled()
    assert [edge.get(number) for number in (1, 2, 3, 4, 12_000)] == [200, 401, 401, 200, 200]
    await eventually((edge.home.edge / "maps" / "base-2.map").exists, "a fold")
    await plane.publish({key(4): None})
    await running.settled()
    assert [edge.get(number) for number in (1, 2, 3, 4, 12_000)] == [200, 401, 401, 401, 200]
    await edge.signal(signal.SIGKILL)
    edge.start()
    reports = len(plane.reports)
    await eventually(lambda: len(plane.reports) > reports + 1)
    await running.settled()
    assert [edge.get(number) for number in (1, 2, 3, 4, 12_000)] == [200, 401, 401, 401, 200]


async def test_a_damaged_state_is_fetched_anew_while_haproxy_goes_on(running: World) -> None:
    edge = running.edge
    await running.serve(1, 2)
    assert edge.get(1) == 200  # so that HAProxy has its assertion, and waits for no agent
    await edge.signal(signal.SIGKILL)
    (edge.home.edge / "state.db-wal").unlink(missing_ok=True)
    (edge.home.edge / "state.db").write_bytes(b"torn" * 5_000)
    await running.plane.publish({key(2): None})
    with Clients(edge, 1) as clients:
        edge.start()
        await eventually(lambda: edge.get(2) == 401)
        await running.settled()
    assert set(clients.answers) == {200}, clients.answers


async def test_what_is_revoked_while_a_worker_starts_stays_refused(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(*range(1, 11))
    for number in range(1, 11):
        await plane.publish({f"app/new{number}": app(f"new{number}.test", policies=[policy("p2", "bypass")])})
        await asyncio.sleep(0.02 * number)  # not a wait: the revocation is to come at another moment of each start
        with Clients(edge, number) as clients:
            seq = await plane.publish({key(number): None})
            await running.settled(seq)
            moment = time.monotonic()
            await eventually(lambda seen=clients, after=moment: len(seen.asked_after(after)) > 200)
        assert set(clients.asked_after(moment)) == {401}


async def test_a_new_worker_remembers_what_the_old_one_did_but_not_what_changed(running: World) -> None:
    edge, plane = running.edge, running.plane
    await running.serve(*range(1, 6))
    assert [edge.get(number) for number in range(1, 6)] == [200] * 5
    await eventually(lambda: edge.hot_entries() == 5)
    await plane.publish({key(1): None, key(2): token(2, is_enabled=False)})
    await plane.publish({"app/more": app("more.test", policies=[policy("p2", "bypass")])})
    await running.settled()
    assert await asyncio.to_thread(edge.hot_entries) == 3
    assert [edge.get(number) for number in range(1, 6)] == [401, 401, 200, 200, 200]

    await edge.signal(signal.SIGKILL)
    edge.start()
    before = edge.worker_pid()
    await eventually(lambda: edge.worker_pid() not in (0, before))
    await running.settled()
    assert await asyncio.to_thread(edge.hot_entries) == 3
    assert [edge.get(number) for number in range(1, 6)] == [401, 401, 200, 200, 200]
    await plane.publish({key(3): None})
    await running.settled()
    assert [edge.get(number) for number in range(1, 6)] == [401, 401, 401, 200, 200]


async def test_an_edge_told_to_end_finishes_what_is_open_and_closes_what_is_idle(running: World) -> None:
    edge = running.edge
    await running.serve(1)
    idle = http.client.HTTPConnection("127.0.0.1", edge.http_port, timeout=5)
    idle.request("GET", "/", headers=headers_for(1))
    idle.getresponse().read()
    running.origin.delay_seconds = 1.0
    slow = asyncio.create_task(asyncio.to_thread(edge.get, 1))
    await eventually(lambda: running.origin.waiting)
    started = time.monotonic()
    assert await edge.signal(signal.SIGTERM) == 0
    assert await slow == 200
    assert time.monotonic() - started < 5
    assert len(running.plane.events()) == 2
