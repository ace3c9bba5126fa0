"""`foregate rebuild` while Foregate runs: what it makes anew is what was there, and callers notice nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from harness.origin import Origin
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, events_of, until_status
from harness.waiting import until


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin) -> App:
    return create_app(foregate, origin.service, [allow()])


@pytest.fixture
def token(foregate: Foregate, app: App) -> Token:
    made = create_token(foregate.api())
    until_status(foregate, app.host, made, 200)
    return made


def test_last_seen_that_was_lost_comes_back(foregate: Foregate, token: Token) -> None:
    def last_seen() -> Any:
        return foregate.api().result("GET", f"/access/service_tokens/{token.id}")["last_seen_at"]

    before = until(last_seen, 10, "the token is seen")
    damage(foregate, f"DELETE FROM last_seen WHERE client_id = '{token.client_id}'", trigger="last_seen_is_kept")
    assert last_seen() is None
    done = foregate.run("rebuild", "last-seen", "--json")
    assert done.returncode == 0, done.stderr
    assert last_seen() == before


def test_events_are_found_again_and_counted_once(foregate: Foregate, app: App, token: Token) -> None:
    for _ in range(3):
        foregate.get(app.host, headers=token.headers)
    known = until(lambda: len(found := events_of(foregate.api(), app)) >= 4 and found, 10, "the events are known")
    counted = until(lambda: rollups(foregate, app), 10, "the events are counted")
    damage(foregate, "DELETE FROM event_blocks")
    damage(foregate, "UPDATE rollups SET events = 1000000")
    done = foregate.run("rebuild", "events", "--json")
    assert done.returncode == 0, done.stderr
    assert {one["view"] for one in json.loads(done.stdout)} == {"event-blocks", "rollups"}
    assert events_of(foregate.api(), app)[: len(known)] == known
    assert sum(counted.values()) <= sum(rollups(foregate, app).values()) < 1000


def test_edge_config_is_sent_anew_and_tokens_go_on(foregate: Foregate, app: App, token: Token) -> None:
    api = foregate.api()
    edge = api.result("GET", "/foregate/edges")[0]
    done = foregate.run("rebuild", "edge-config", "--json")
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)["records"]
    assert records >= 5
    assert foregate.get(app.host, headers=token.headers).status == 200

    def has_applied() -> bool:
        assert foregate.get(app.host, headers=token.headers).status == 200
        now = api.result("GET", "/foregate/edges")[0]
        return bool(now["applied_seq"] >= edge["applied_seq"] + records and not now["pending"])

    until(has_applied, 10, "the edge has applied all of it")


def test_what_the_records_do_not_know_is_taken_back(foregate: Foregate, app: App, token: Token) -> None:
    with closing(sqlite3.connect(foregate.home / "records.db", timeout=10)) as records:
        records.execute("PRAGMA foreign_keys = ON")
        records.execute("DELETE FROM applications WHERE id = ?", (app.id,))
        records.commit()
    assert foregate.get(app.host, headers=token.headers).status == 200
    assert foregate.run("rebuild", "edge-config").returncode == 0
    until_status(foregate, app.host, token, 403)


def rollups(foregate: Foregate, app: App) -> dict[str, int]:
    """Events by minute of an application."""
    found = foregate.api().result("GET", "/foregate/rollups")
    return {row["minute"]: row["events"] for row in found if row["app_id"] == app.id}


def damage(foregate: Foregate, statement: str, *, trigger: str = "") -> None:
    """Damage a view by hand, as nothing in Foregate could; a trigger that forbids it is away for that moment."""
    with closing(sqlite3.connect(foregate.home / "telemetry.db", timeout=10)) as telemetry:
        made_by = telemetry.execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).fetchone()
        if made_by:
            telemetry.execute(f"DROP TRIGGER {trigger}")
        telemetry.execute(statement)
        if made_by:
            telemetry.execute(made_by[0])
        telemetry.commit()
