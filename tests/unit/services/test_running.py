"""A command finds what runs in its home; its own environment goes first, and a difference is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from foregate.services.holder import hold
from foregate.services.home import Home, open_home
from foregate.services.process import lock_path
from foregate.services.running import load_running
from foregate.services.settings import addresses, load


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def ports(home: Home, **environment: str) -> tuple[tuple[int, int], list[str]]:
    told: list[str] = []
    settings = load_running(told.append, {"FOREGATE_HOME": str(home.root), **environment})
    return (settings.api_port, settings.http_port), told


@pytest.mark.parametrize("name", ["up", "api", "edge"])
def test_addresses_are_those_of_whoever_serves(home: Home, name: str) -> None:
    serving = load({"FOREGATE_HOME": str(home.root), "FOREGATE_API_PORT": "9400", "FOREGATE_EDGE_THREADS": "3"})
    with hold(lock_path(home, name), addresses(serving)):
        assert ports(home) == ((9400, 8480), [])
    assert ports(home) == ((8400, 8480), [])


def test_own_environment_goes_first_and_the_difference_is_told(home: Home) -> None:
    with hold(lock_path(home, "up"), addresses(load({"FOREGATE_HOME": str(home.root), "FOREGATE_API_PORT": "9400"}))):
        found, told = ports(home, FOREGATE_API_PORT="9500", FOREGATE_HTTP_PORT="8480")
    assert found == (9500, 8480)
    assert told == [f"FOREGATE_API_PORT is 9500 here, and 9400 for the Foregate that runs in {home.root}."]


def test_file_that_was_changed_since_the_start_is_for_the_next_one(home: Home) -> None:
    (home.root / "foregate.toml").write_text("api_port = 9600\n")
    with hold(lock_path(home, "up"), addresses(load({"FOREGATE_HOME": str(home.root), "FOREGATE_API_PORT": "9400"}))):
        assert ports(home)[0] == (9400, 8480)
    assert ports(home)[0] == (9600, 8480)


def test_lock_of_an_older_foregate_says_nothing(home: Home) -> None:
    with hold(lock_path(home, "up")):
        lock_path(home, "up").write_text('{"pid": 1, "since": "2026-01-01T00:00:00Z"}')
        assert ports(home) == ((8400, 8480), [])
