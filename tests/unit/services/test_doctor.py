"""`foregate doctor` names files that others may read, and finds nothing wrong with what a person put there openly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foregate.services.doctor import Finding, examine
from foregate.services.home import Home, open_home
from foregate.services.settings import load


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def file_rights(home: Home) -> Finding:
    settings = load({**os.environ, "FOREGATE_HOME": str(home.root)})
    (found,) = (finding for finding in examine(settings) if finding.check == "file rights")
    return found


def write(path: Path, mode: int) -> None:
    path.write_text("")
    path.chmod(mode)


def test_files_that_others_may_read_are_named(home: Home) -> None:
    for name in ("a.pem", "b.pem", "c.pem", "d.pem"):
        write(home.root / name, 0o644)
    found = file_rights(home)
    assert found.is_wrong
    assert found.found.endswith(" and 1 more")
    write(home.root / "a.pem", 0o600)
    assert "more" not in file_rights(home).found
    assert found.advice == f"run: chmod -R go= {home.root}"


def test_the_settings_file_of_an_editor_is_all_right(home: Home) -> None:
    write(home.root / "foregate.toml", 0o644)
    assert not file_rights(home).is_wrong
