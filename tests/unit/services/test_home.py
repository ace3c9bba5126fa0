"""A home is a folder of one's own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from foregate.core.errors import ForegateError
from foregate.services.home import Facts, open_home, read_facts, read_private, write_facts


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_its_folders_are_private(tmp_path: Path) -> None:
    home = open_home(tmp_path / "a" / "home")
    assert {mode(folder) for folder in (home.root, home.logs, home.run, home.demo, home.edge)} == {0o700}


def test_opening_it_again_changes_nothing(tmp_path: Path) -> None:
    open_home(tmp_path / "home")
    assert open_home(tmp_path / "home").root == tmp_path / "home"


def test_a_shared_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").touch()
    with pytest.raises(ForegateError, match="holds other files"):
        open_home(tmp_path)
    assert mode(tmp_path) == 0o755


def test_an_empty_shared_folder_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_home(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(ForegateError, match="cannot be used"):
        open_home(tmp_path / "home")


def test_facts_are_absent_before_the_first_start_and_then_read_back(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    assert read_facts(home) is None
    write_facts(home, Facts("a" * 32, "edge-1"))
    assert read_facts(home) == Facts("a" * 32, "edge-1")
    assert mode(home.facts) == 0o600


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"account_id": "x"}'])
def test_damaged_facts_are_named(tmp_path: Path, content: str) -> None:
    home = open_home(tmp_path)
    home.facts.write_text(content)
    with pytest.raises(ForegateError, match=r"home\.json is damaged"):
        read_facts(home)


def test_a_secret_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_text("text\n")
    path.chmod(0o644)
    with pytest.raises(ForegateError, match="chmod 600"):
        read_private(path)
    path.chmod(0o600)
    assert read_private(path) == "text"
