"""An edge needs nobody to answer a request: not the API, not the worker, not the databases, not even its own past."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from harness.log import counted_gaps, logged_events, lost_bytes
from harness.origin import Origin
from harness.processes import kill
from harness.product import Foregate, running_foregate
from harness.things import App, Token, allow, create_app, create_token, until_status
from harness.waiting import until

TAKEN_OVER_SECONDS = 20


@dataclass(slots=True)
class Alone:
    """A Foregate whose control plane is gone, and what its edge knew last."""

    foregate: Foregate
    app: App
    good: Token
    disabled: Token
    revoked: Token
    rotated: Token
    answered: int = 0

    def check_answers(self) -> None:
        """The edge answers everybody as it would with all else running."""
        for token, status in (
            (self.good, 200),
            (self.disabled, 401),
            (self.revoked, 401),
            (self.rotated, 401),
            (None, 403),
            (Token("", "f" * 32 + ".access", "wrong"), 401),
        ):
            answer = self.foregate.get(self.app.host, "/alone", token.headers if token else [])
            assert answer.status == status
            self.answered += 1


@pytest.fixture(scope="module")
def alone(origin: Origin) -> Iterator[Alone]:
    """Control plane and databases are taken away, by force, before the first test."""
    with running_foregate() as foregate:
        api = foregate.api()
        good, disabled, revoked, rotated = (create_token(api) for _ in range(4))
        app = create_app(foregate, origin.service, [allow()])
        for token in (good, disabled, revoked, rotated):
            until_status(foregate, app.host, token, 200)
        api.result("PUT", f"/access/service_tokens/{disabled.id}", {"enabled": False})
        api.result("DELETE", f"/access/service_tokens/{revoked.id}")
        api.result("POST", f"/access/service_tokens/{rotated.id}/rotate", {})
        for token in (disabled, revoked, rotated):
            until_status(foregate, app.host, token, 401)
        take_control_plane_away(foregate)
        yield Alone(foregate, app, good, disabled, revoked, rotated)


def take_control_plane_away(foregate: Foregate) -> None:
    """Kill supervisor, API and worker; move the databases out of the home."""
    for name in ("up", "api", "worker"):
        for process in foregate.processes(name):
            kill(process)
    if foregate.supervisor is not None:
        foregate.supervisor.wait(10)
        foregate.supervisor = None
    names = ("up", "api", "worker")
    until(lambda: not any(foregate.processes(name) for name in names), 10, "the control plane is gone")
    for path in databases(foregate):
        path.rename(path.with_name(f"away-{path.name}"))


def databases(foregate: Foregate, prefix: str = "") -> list:
    return [path for kind in ("records", "telemetry") for path in foregate.home.glob(f"{prefix}{kind}.db*")]


@contextmanager
def edge_by_itself(foregate: Foregate) -> Iterator[None]:
    """`foregate edge`, without a supervisor."""
    log = (foregate.home / "logs" / "edge.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "foregate", "edge"],
        env=foregate.environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        log.close()


def test_edge_answers_with_control_plane_and_databases_gone(alone: Alone) -> None:
    assert [process.name for process in alone.foregate.processes("api")] == []
    assert databases(alone.foregate) == []
    alone.check_answers()


def test_edge_answers_after_its_agent_died(alone: Alone) -> None:
    """HAProxy goes on without the agent; nothing is there to start it again."""
    for process in alone.foregate.processes("edge"):
        kill(process)
    until(lambda: not alone.foregate.processes("edge"), 10, "the agent is gone")
    alone.check_answers()


def test_edge_answers_from_its_last_good_state_after_its_own_restart(alone: Alone) -> None:
    for name in ("edge", "haproxy"):
        for process in alone.foregate.processes(name):
            kill(process)
    until(lambda: not alone.foregate.processes("haproxy"), 10, "HAProxy is gone")
    with edge_by_itself(alone.foregate):
        until_status(alone.foregate, alone.app.host, alone.good, 200)
        alone.answered += 1
        alone.check_answers()


def test_next_up_brings_everything_together_again(alone: Alone) -> None:
    """Tokens, refusals and every event of the time alone are there."""
    for path in databases(alone.foregate, "away-"):
        path.rename(path.with_name(path.name.removeprefix("away-")))
    alone.foregate.start()
    alone.check_answers()
    api = alone.foregate.api()
    assert api.account("GET", f"/access/service_tokens/{alone.good.id}").status == 200

    def all_told() -> bool:
        events = [event for event in logged_events(alone.foregate) if event["path"] == "/alone"]
        rays = {event["ray"] for event in events}
        assert len(rays) == len(events), "an event came twice"
        # The kill -9 of HAProxy may cost the last lines it had not yet written; it was idle, so none.
        assert len(events) + counted_gaps(alone.foregate) >= alone.answered - 1
        return lost_bytes(alone.foregate) == 0

    until(all_told, 20, "the events of the time alone are told", every=0.1)


def test_token_made_after_the_time_alone_is_accepted(alone: Alone) -> None:
    token = create_token(alone.foregate.api())
    until_status(alone.foregate, alone.app.host, token, 200)


def test_killed_supervisor_is_taken_over_by_the_next_without_a_refused_client(alone: Alone) -> None:
    foregate = alone.foregate
    assert foregate.supervisor is not None
    before = {process.pid for process in foregate.processes("haproxy")}
    foregate.supervisor.kill()
    foregate.supervisor.wait(10)
    foregate.supervisor = None
    until(
        lambda: not foregate.processes("api") and not foregate.processes("worker"),
        10,
        "API and worker end by themselves",
    )
    alone.check_answers()
    assert {process.pid for process in foregate.processes("haproxy")} == before, "the edge went on as it was"
    foregate.start()
    alone.check_answers()
