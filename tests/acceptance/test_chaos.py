"""kill -9 of each process at random under load: no token lost, none accepted that should not be, no event uncounted,
and all is well again within seconds.

TEST_SEED draws another order, and replays one; TEST_CHAOS_SECONDS makes it longer.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from harness.chaos import Chaos
from harness.fleet import TOKENS, Fleet, running_one
from harness.origin import Origin, running_origin
from harness.processes import Process, kill
from harness.product import Foregate
from harness.strikes import Blow
from harness.things import allow, create_token, unique, until_status
from harness.waiting import until

SECONDS = float(os.environ.get("TEST_CHAOS_SECONDS", "25"))
SEED = int(os.environ.get("TEST_SEED", "1"))
CONNECTIONS = 8
# 8 connections at this pause make some 400 requests a second, which leaves the two cores to what is tested.
PAUSE_SECONDS = 0.02


@pytest.fixture(scope="module")
def chaos_origin() -> Iterator[Origin]:
    with running_origin() as origin:
        origin.is_recording = False
        yield origin


@pytest.fixture
def ground(chaos_origin: Origin) -> Iterator[Fleet]:
    with running_one(chaos_origin) as fleet:
        yield fleet


def test_kill_of_any_process_under_load_loses_nothing(ground: Fleet) -> None:
    print(f"replay with TEST_SEED={SEED}")
    chaos = Chaos(ground, SEED, CONNECTIONS, PAUSE_SECONDS, (Blow.KILL,))
    try:
        print(chaos.run(SECONDS))
    finally:
        print(*chaos.striker.strikes, f"last: {chaos.striker.current}", sep="\n")


@pytest.mark.parametrize("is_slow", [False, True], ids=["quick worker", "worker that takes its time"])
def test_agent_killed_while_a_worker_starts_leaves_none_that_knows_less(ground: Fleet, is_slow: bool) -> None:
    """A worker that nobody tells of changes would let revoked tokens in."""
    foregate, api = ground.foregate, ground.foregate.api()
    token = create_token(api)
    until_status(foregate, ground.app.host, token, 200)
    (agent,) = foregate.processes("edge")
    known = {process.pid for process in foregate.processes("haproxy")}
    host = f"{unique('another')}.localhost"
    body = {"type": "self_hosted", "name": host, "domain": host, "policies": [allow()]}
    api.result("POST", "/access/apps", body)
    started = until(lambda: [p for p in serving(foregate) if p.pid not in known], 10, "a worker starts", every=0)
    if is_slow:
        kill(started[0], signal.SIGSTOP)
    kill(agent)
    until(lambda: [p for p in foregate.processes("edge") if p.pid != agent.pid], 10, "another agent is there")
    until_status(foregate, host, None, 403)
    kill(started[0], signal.SIGCONT)
    api.result("DELETE", f"{TOKENS}/{token.id}")
    until_status(foregate, ground.app.host, token, 401)
    # Each request on a connection of its own, so that every listener is met.
    assert {foregate.get(ground.app.host, headers=token.headers).status for _ in range(100)} == {401}
    until(lambda: len(serving(foregate)) == 1, 10, "one worker is left")


def serving(foregate: Foregate) -> list[Process]:
    """HAProxy processes that serve, or will; those that only check a configuration are left out."""
    return [process for process in foregate.processes("haproxy") if b"\0-c\0" not in process.command]
