"""A consumer that fails, that could not take something, or that never began, is seen from outside the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from event_lines import NOON, Telemetry, batch, line
from foregate.core.clock import to_micros, utc_now
from foregate.database.sqlite import SqliteDatabase
from foregate.database.stores import SqliteStore
from foregate.eventlog.model import LOGIN_EVENTS
from foregate.eventlog.sql import SqlLog
from foregate.services.doctor import examine
from foregate.services.folding import read_folding
from foregate.services.home import Home, open_home
from foregate.services.settings import load
from harness.waiting import until

SECONDS = 15


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def telemetry(home: Home) -> Iterator[Telemetry]:
    made = Telemetry(home.root)
    yield made
    made.close()


def environment(home: Home) -> dict[str, str]:
    return {**os.environ, "FOREGATE_HOME": str(home.root)}


def status(home: Home) -> dict[str, Any]:
    command = [sys.executable, "-m", "foregate", "status", "--json"]
    done = subprocess.run(command, env=environment(home), capture_output=True, timeout=SECONDS, check=False)
    found: dict[str, Any] = json.loads(done.stdout)["events"]
    return found


def without(home: Home, table: str) -> None:
    """Take a table away: whoever writes it fails, and no record is to blame."""
    database = SqliteDatabase(home.telemetry_db, None)
    with database.write() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO taken_away")
    database.close()


def test_a_home_without_events_has_no_problem(home: Home) -> None:
    assert read_folding(home, SqliteStore(home.telemetry_db, "telemetry"), NOON).problems == ()
    Telemetry(home.root).close()
    found = read_folding(home, SqliteStore(home.telemetry_db, "telemetry"), NOON)
    assert found.problems == ()
    assert [consumer.name for consumer in found.consumers] == ["last-seen", "rollups", "event-blocks"]


def test_batches_set_aside_are_named_with_their_reason(home: Home, telemetry: Telemetry) -> None:
    with telemetry.ingest.write() as connection:
        SqlLog(connection).append(LOGIN_EVENTS, "edge/worker", b"no batch at all", to_micros(NOON))
    telemetry.consume()
    found = read_folding(home, SqliteStore(home.telemetry_db, "telemetry"), NOON)
    assert {(one.name, one.set_aside, one.set_aside_since) for one in found.consumers} == {
        (name, 1, "2026-09-25T12:00:00Z") for name in ("last-seen", "rollups", "event-blocks")
    }
    assert all("has set aside 1 batches" in problem and "UnreadableBatch" in problem for problem in found.problems)


def test_a_worker_that_never_began_is_named_with_what_it_left_unread(home: Home, telemetry: Telemetry) -> None:
    telemetry.take(batch(line()))
    assert read_folding(home, SqliteStore(home.telemetry_db, "telemetry"), NOON + timedelta(seconds=59)).problems == ()
    found = read_folding(home, SqliteStore(home.telemetry_db, "telemetry"), NOON + timedelta(seconds=61))
    assert {(one.name, one.unread, one.unread_since) for one in found.consumers} == {
        (name, 1, "2026-09-25T12:00:00Z") for name in ("last-seen", "rollups", "event-blocks")
    }
    assert found.problems[0] == "last-seen is behind: 1 batches unread, the oldest since 2026-09-25T12:00:00Z"


def test_status_and_doctor_name_a_consumer_that_keeps_failing_until_it_works(home: Home, telemetry: Telemetry) -> None:
    telemetry.take(batch(line()), now=utc_now())
    without(home, "last_seen")
    worker = subprocess.Popen([sys.executable, "-m", "foregate", "worker"], env=environment(home), stderr=-3)
    try:
        failing = until(lambda: status(home)["failing"], SECONDS, "the status names what fails")
        assert [one["name"] for one in failing] == ["last-seen"]
        assert "OperationalError" in failing[0]["reason"]
        assert failing[0]["since"] >= "2026"
        finding = next(one for one in examine(load(environment(home))) if one.check == "events")
        assert finding.is_wrong
        assert "last-seen keeps failing since" in finding.found

        database = SqliteDatabase(home.telemetry_db, None)
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE taken_away RENAME TO last_seen")
        database.close()
        until(lambda: status(home)["failing"] == [], 40, "it is put right by itself")
        assert status(home)["problems"] == []
    finally:
        worker.terminate()
        assert worker.wait(SECONDS) == 0
    assert list(home.run.iterdir()) == []


def test_what_a_killed_worker_said_is_not_believed(home: Home) -> None:
    home.troubles("worker").write_text('[{"name": "last-seen", "since": "2026-01-01T00:00:00Z", "reason": "Broken"}]')
    assert read_folding(home, SqliteStore(home.telemetry_db, "telemetry"), NOON).problems == ()
