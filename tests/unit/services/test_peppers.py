"""A pepper is added beside what is there, once at a time, and by the home's own user alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from foregate.core.errors import ForegateError
from foregate.core.masterkey import load, load_or_create
from foregate.services.holder import hold
from foregate.services.home import Home, open_home
from foregate.services.peppers import add_pepper


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = open_home(tmp_path / "home")
    load_or_create(home.master_key)
    return home


def test_new_pepper_is_current_and_all_else_is_as_it_was(home: Home) -> None:
    before = load(home.master_key)
    assert add_pepper(home) == 2
    assert add_pepper(home) == 3
    after = load(home.master_key)
    assert (after.current, sorted(after.roots), after.roots[1]) == (3, [1, 2, 3], before.roots[1])
    assert len({after.pepper(version) for version in after.roots}) == 3
    for derived in ("record_mac_key", "key_encryption_key", "edge_sealing_key", "api_token_key"):
        assert getattr(after, derived)() == getattr(before, derived)()
    assert stat.S_IMODE(home.master_key.stat().st_mode) == 0o600
    assert not home.root.joinpath("master.key.lock").exists()


def test_two_at_a_time_are_refused(home: Home) -> None:
    with hold(home.root / "master.key.lock"), pytest.raises(ForegateError, match="try again"):
        add_pepper(home)
    assert load(home.master_key).current == 1


def test_another_users_key_is_left_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(ForegateError, match="another user"):
        add_pepper(home)
    assert load(home.master_key).current == 1


def test_home_that_was_never_used_gets_none(tmp_path: Path) -> None:
    with pytest.raises(ForegateError, match="missing"):
        add_pepper(Home(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
