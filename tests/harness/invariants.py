"""What must hold of a `Fleet` whatever was done to it: the invariants of docs/operations/chaos.md, by number and name.

`check_all` at the end, with the load over. Each check raises AssertionError with figures.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.fleet import TOKENS, Edge, Fleet
from harness.leaks import assert_nothing_leaked
from harness.load import Outcome
from harness.log import counted_gaps, logged_events, lost_bytes
from harness.waiting import until

# Answers that left HAProxy in the moment before it was killed may have no line yet: their count ends with the process.
# It is bounded by what was in flight; everything earlier must be there.
IN_FLIGHT_SECONDS = 0.1
TOLD_SECONDS = 30.0
WELL_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Figures:
    """Of how much it was seen that they hold."""

    answers: int
    good_answers: int
    disturbed_connections: int
    events: int
    counted_gaps: int
    died_with_haproxy: int


def check_all(fleet: Fleet, arrived: int) -> Figures:
    """All of them. `arrived`: how many requests the origin has seen of this load."""
    check_answers(fleet)
    check_tokens(fleet)
    figures = check_events(fleet, arrived)
    check_counts(fleet)
    check_last_seen(fleet)
    check_healed(fleet)
    assert_nothing_leaked(fleet.foregate)  # invariant 8
    return figures


def check_answers(fleet: Fleet) -> None:
    """Invariant 2: a token that works keeps working. Invariant 3: one that was revoked, disabled, rotated out or has
    expired is refused, from the moment each edge was seen to refuse it. Invariant 5: whoever else is away.

    Nobody may answer while HAProxy itself is away; then connections are refused or break, and at no other time.
    """
    for edge in fleet.edges:
        outcomes = edge.load.outcomes
        wrong = [found for found in outcomes if found.status != (200 if found.kind == "good" else 401)]
        told = Counter((found.kind, found.status) for found in wrong)
        assert not wrong, f"edge {edge.number}: {len(wrong)} of {len(outcomes)} answers: {told}"
        assert {found.kind for found in outcomes} >= {"good", "bad revoked", "bad disabled", "bad wrong"}
        disturbed = [at for at in edge.load.errors if not any(begun <= at < ended for begun, ended in edge.troubles)]
        assert not disturbed, f"edge {edge.number}: {len(disturbed)} connections broke while it was well"


def check_tokens(fleet: Fleet) -> None:
    """Invariants 1 and 4: every token is as its owner left it, and every edge has it so."""
    api = fleet.foregate.api()
    for token in fleet.good:
        found = api.result("GET", f"{TOKENS}/{token.id}")
        kept = (found["client_id"], found["enabled"], found["client_secret_version"])
        assert kept == (token.client_id, True, fleet.versions[token.id])
        fleet.until_status(token, 200)
    for kind, token in fleet.bad.items():
        fleet.until_status(token, 401)
        if kind.startswith("disabled"):
            assert api.result("GET", f"{TOKENS}/{token.id}")["enabled"] is False
        if kind.startswith("revoked"):
            assert api.account("GET", f"{TOKENS}/{token.id}").status == 404


def check_events(fleet: Fleet, arrived: int) -> Figures:
    """Invariant 6: every answer is exactly one event, or a counted gap, save those whose HAProxy died with them."""
    outcomes = [found for edge in fleet.edges for found in edge.load.outcomes]
    rays = {found.ray for found in outcomes}
    assert len(rays) == len(outcomes), "two answers share a ray"
    in_flight = {found.ray for edge in fleet.edges for found in edge.load.outcomes if was_in_flight(found, edge)}
    gone: set[str] = set()

    def all_told() -> Counter[str]:
        told = Counter(event["ray"] for event in logged_events(fleet.foregate))
        missing = rays - told.keys() - in_flight
        counted = counted_gaps(fleet.foregate)
        assert len(missing) <= counted, f"{len(missing)} of {len(rays)} answers have no event; {counted} are counted"
        gone.update(in_flight - told.keys())
        return told

    told = until(all_told, TOLD_SECONDS, "every answer is an event", every=0.3)
    gone -= told.keys()
    assert max(told.values()) == 1, "an event came twice"
    assert lost_bytes(fleet.foregate) == 0
    assert len(gone) < len(rays) / 50, (
        f"{len(gone)} of {len(rays)} answers died with a HAProxy: too many to be in flight"
    )
    let_in = sum(1 for event in logged_events(fleet.foregate) if is_let_in(event) and is_of_load(event))
    good = sum(1 for found in outcomes if found.kind == "good")
    gaps = counted_gaps(fleet.foregate)
    assert let_in + len(gone) + gaps >= good
    assert let_in <= arrived, f"the origin saw {arrived} requests, {let_in} were let in"
    errors = sum(len(edge.load.errors) for edge in fleet.edges)
    return Figures(len(rays), good, errors, sum(told.values()), gaps, len(gone))


def check_counts(fleet: Fleet) -> None:
    """Invariant 6, of the counts per minute: each event once, whichever worker counted it and however it ended."""

    def in_log() -> int:
        return sum(
            1 for event in logged_events(fleet.foregate) if is_let_in(event) and event.get("app") == fleet.app.id
        )

    def in_rollups() -> int:
        since = datetime.fromtimestamp(datetime.now(UTC).timestamp() - 86_400, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows = fleet.foregate.api().result("GET", f"/foregate/rollups?limit=10000&since={since}")
        return sum(row["events"] for row in rows if (row["app_id"], row["reason"]) == (fleet.app.id, "service_auth"))

    def agree() -> bool:
        counted, logged = in_rollups(), in_log()
        assert counted == logged, f"{counted} are counted, {logged} are in the log"
        return counted > 0

    until(agree, TOLD_SECONDS, "each event is counted once", every=0.3)


def see_last_seen(fleet: Fleet) -> None:
    """Invariant 7: "last seen" never goes back, as far as it was ever shown."""
    for token in fleet.good[:4]:
        found = fleet.foregate.api().result("GET", f"{TOKENS}/{token.id}").get("last_seen_at") or ""
        before = fleet.last_seen.get(token.id, "")
        assert found >= before, f"last seen went back from {before} to {found}"
        fleet.last_seen[token.id] = found


def check_last_seen(fleet: Fleet) -> None:
    """Invariant 7: it reaches the last use that an edge has answered, and is none of a token that was never let in."""
    api = fleet.foregate.api()

    def reached() -> bool:
        see_last_seen(fleet)
        last = max(found.wall for edge in fleet.edges for found in edge.load.outcomes if found.kind == "good")
        shown = max(datetime.fromisoformat(at).timestamp() for at in fleet.last_seen.values() if at)
        # Shown in whole seconds; the load draws among the good tokens, so one of the last uses was another's.
        assert shown >= last - 5, f"{last - shown:.1f} s behind"
        return True

    until(reached, TOLD_SECONDS, "last seen is up to date", every=0.2)
    never = api.result("POST", TOKENS, {"name": "never used"})
    assert api.result("GET", f"{TOKENS}/{never['id']}").get("last_seen_at") is None


def check_healed(fleet: Fleet) -> None:
    """Nobody lent a hand, and all is well: every process is ready, and no edge is behind, refuses or holds anything."""
    status = fleet.foregate.run("status", "--json", "--wait", str(WELL_SECONDS), seconds=WELL_SECONDS + 30)
    assert status.returncode == 0, status.stdout.decode()
    listed: list[dict[str, Any]] = json.loads(fleet.foregate.run("edge", "list", "--json").stdout)
    assert len(listed) == len(fleet.edges)

    def all_report() -> bool:
        found = json.loads(fleet.foregate.run("edge", "list", "--json").stdout)
        return all(edge["is_reporting"] and edge["pending"] == 0 for edge in found)

    until(all_report, WELL_SECONDS, "every edge reports, and has applied all", every=0.5)


def is_let_in(event: dict[str, Any]) -> bool:
    """Whether the event is of a request that a token let in."""
    return bool(event["why"] == "service_auth")


def is_of_load(event: dict[str, Any]) -> bool:
    """Whether it is one of the load's own requests."""
    return str(event["path"]).startswith("/load/")


def was_in_flight(found: Outcome, edge: Edge) -> bool:
    """Whether HAProxy may have died as this answer was on its way."""
    return any(
        found.begun_at - IN_FLIGHT_SECONDS < ended and begun < found.ended_at + IN_FLIGHT_SECONDS
        for begun, ended in edge.deaths
    )
