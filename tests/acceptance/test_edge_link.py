"""An edge behind a link of its own that is cut, loses everything, or is narrow: callers notice nothing, the control
plane neither, and once the link is back what was changed meanwhile is in force, and what was decided is told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from harness.joined import JoinedEdge, edge_home, join_token, running_control_plane
from harness.link import Link, made_link
from harness.load import Caller, running_load
from harness.log import counted_gaps, logged_events, lost_bytes
from harness.origin import running_origin
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token
from harness.waiting import until

# What docs/operations/edges.md promises of an edge whose link is back. A new connection gives up after 5 s and is
# tried again within 2 s; a stream in which nothing comes is given up after 15 s.
BACK_SECONDS = 20.0
# Any call of the API while an edge is behind a dead link: nobody waits for it.
API_SECONDS = 2.0
# Longer than it takes the edge to find that nothing comes any more (three heartbeats of 5 s).
LONG_SECONDS = 18.0
# 4 KB a second, and events that take half a minute at that: in one batch they would never arrive.
NARROW_KILOBITS = 32
GATHERED = 4_000
NARROW_SECONDS = 180.0


@dataclass(slots=True)
class Field:
    """A control plane here, an edge with an origin there, and every ray that the edge has answered with."""

    link: Link
    foregate: Foregate
    edge: JoinedEdge
    app: App
    token: Token
    rays: list[str] = field(default_factory=list)

    def ask(self, token: Token) -> int:
        """The status of a request made on the edge's own machine."""
        with self.link.inside():
            answer = self.edge.get(self.app.host, token.headers)
        self.rays.append(answer.header("cf-ray") or "")
        return answer.status

    def until_status(self, token: Token, status: int, seconds: float = BACK_SECONDS) -> None:
        until(lambda: self.ask(token) == status, seconds, f"the edge answers {status}", every=0.05)

    def restart_edge(self) -> None:
        """Its agent and HAProxy end, and begin again from the disk."""
        assert self.edge.stop() == 0
        with self.link.inside():
            self.edge.start()


@pytest.fixture(scope="module")
def ground() -> Iterator[Field]:
    with made_link() as link, running_control_plane(link.near) as (foregate, url), edge_home() as edge:
        with link.inside():
            there = running_origin()
            origin = there.__enter__()
        app = create_app(foregate, origin.service, [allow()])
        token = create_token(foregate.api())
        invitation = join_token(foregate)
        with link.inside():
            done = edge.join(url, invitation, "--name", "far")
            assert done.returncode == 0, done.stderr
            edge.start()
        found = Field(link, foregate, edge, app, token)
        found.until_status(token, 200, 30)
        yield found
        there.__exit__(None, None, None)


@contextmanager
def at_once() -> Iterator[None]:
    """What is done within does not wait for the edge."""
    begun_at = time.monotonic()
    yield
    assert time.monotonic() - begun_at <= API_SECONDS


CUTS: dict[str, Callable[[Link], None]] = {"packets lost": Link.lose_all, "link down": Link.take_down}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("is_restarted", [False, True], ids=["left alone", "restarted meanwhile"])
def test_what_was_changed_behind_a_cut_link_is_in_force_once_it_is_back(
    ground: Field, cut: Callable[[Link], None], is_restarted: bool
) -> None:
    """Invariants 2, 3, 4 and 5."""
    api = ground.foregate.api()
    revoked, disabled = create_token(api), create_token(api)
    for token in (revoked, disabled):
        ground.until_status(token, 200)
    cut(ground.link)
    try:
        with at_once():
            api.result("DELETE", f"/access/service_tokens/{revoked.id}")
        with at_once():
            api.result("PUT", f"/access/service_tokens/{disabled.id}", {"enabled": False})
        with at_once():
            later = create_token(api)
        ends_at = time.monotonic() + LONG_SECONDS
        if is_restarted:
            ground.restart_edge()
            ground.until_status(ground.token, 200)
        while time.monotonic() < ends_at:
            # Its last good state, whole: also what it cannot know to be revoked.
            assert [ground.ask(token) for token in (ground.token, revoked, disabled, later)] == [200, 200, 200, 401]
            with at_once():
                assert api.call("GET", "/user/tokens/verify").status == 200
    finally:
        ground.link.mend()
    mended_at = time.monotonic()
    ground.until_status(revoked, 401)
    ground.until_status(disabled, 401)
    ground.until_status(later, 200)
    assert time.monotonic() - mended_at <= BACK_SECONDS
    assert ground.ask(ground.token) == 200
    assert_all_told(ground)


def assert_all_told(ground: Field, seconds: float = BACK_SECONDS) -> None:
    """Invariant 6: every answer is one event, and none is missing."""

    def all_told() -> Counter[str]:
        told = Counter(event["ray"] for event in logged_events(ground.foregate))
        missing = set(ground.rays) - told.keys()
        assert not missing, f"{len(missing)} of {len(ground.rays)} answers have no event"
        return told

    told = until(all_told, seconds, "every answer is an event", every=0.2)
    assert max(told.values()) == 1, "an event came twice"
    assert (lost_bytes(ground.foregate), counted_gaps(ground.foregate)) == (0, 0)


def test_what_gathered_while_the_link_was_cut_gets_through_a_narrow_one(ground: Field) -> None:
    """Invariants 4 and 6: changes do not wait behind events, and no batch is too big to arrive in time."""
    api = ground.foregate.api()
    revoked = create_token(api)
    ground.until_status(revoked, 200)
    ground.link.lose_all()
    try:
        callers = [Caller("good", ground.app.host, ground.token)]
        with (
            ground.link.inside(),
            running_load(ground.edge.http_port, callers, connections=8, pause_seconds=0, seed=1) as load,
        ):
            until(lambda: len(load.outcomes) >= GATHERED, 60, "enough has gathered", every=0.1)
        assert {found.status for found in load.outcomes} == {200}
        ground.rays += [found.ray for found in load.outcomes]
        ground.link.narrow(NARROW_KILOBITS)
    finally:
        ground.link.mend()
    try:
        api.result("DELETE", f"/access/service_tokens/{revoked.id}")
        ground.until_status(revoked, 401)
        assert_all_told(ground, NARROW_SECONDS)
    finally:
        ground.link.widen()
