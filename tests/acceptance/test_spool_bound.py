"""Events that nobody takes in: the spool stays within its bound, loses the oldest, says so, and slows no request."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from harness.log import logged_events
from harness.processes import kill
from harness.product import Foregate, running_foregate
from harness.waiting import until

BOUND_BYTES = 2**20
# Some 370 bytes a line: twice the bound.
REQUESTS = 6_000
LONG_PATH = "/" + "x" * 150


@pytest.fixture
def foregate() -> Iterator[Foregate]:
    with running_foregate(FOREGATE_SPOOL_MAX_BYTES=str(BOUND_BYTES)) as found:
        yield found


def test_spool_over_its_bound_loses_the_oldest_counted_and_shown(foregate: Foregate) -> None:
    (api,) = foregate.processes("api")
    kill(api, signal.SIGSTOP)
    with foregate.connect() as connection:
        answers = [connection.request("GET", LONG_PATH, [("Host", "nobody.localhost")]) for _ in range(REQUESTS)]
    assert {answer.status for answer in answers} == {403}
    lost = until(lambda: spool(foregate) if spool(foregate)["lost_bytes"] else None, 20, "the spool loses its oldest")
    assert spool(foregate)["backlog_bytes"] <= BOUND_BYTES
    kill(api, signal.SIGCONT)
    rays = [answer.header("cf-ray") for answer in answers]
    kept = until(
        lambda: events_of(foregate, rays) if not spool(foregate)["backlog_bytes"] else None, 30, "all is taken"
    )
    assert kept == rays[-len(kept) :], "the oldest go first"
    assert len(kept) + lost["lost_lines"] >= REQUESTS
    assert b"bytes of its oldest events were lost" in foregate.run("edge", "list").stderr


def spool(foregate: Foregate) -> dict[str, Any]:
    """What the agent says of its spool."""
    return dict(json.loads((foregate.home / "edge" / "status.json").read_text())["spool"])


def events_of(foregate: Foregate, rays: list[str | None]) -> list[str]:
    """The rays of these that are events, in the order of the events."""
    wanted = set(rays)
    return [event["ray"] for event in logged_events(foregate) if event["ray"] in wanted]
