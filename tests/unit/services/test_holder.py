"""A lock says who holds it, frees itself when its holder dies, and leaves no file."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foregate.services.holder import Held, Holder, find_holder, hold

NOW = datetime(2026, 9, 25, 22, 26, 26, tzinfo=UTC)
HOLD_UNTIL_KILLED = """
import sys
from pathlib import Path
from foregate.services.holder import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_taker_learns_who_holds_it_and_since_when(tmp_path: Path) -> None:
    lock = tmp_path / "up.lock"
    with hold(lock, now=NOW), pytest.raises(Held) as caught, hold(lock):
        pass
    assert caught.value.holder == Holder(os.getpid(), "2026-09-25T22:26:26Z")


def test_asking_takes_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "up.lock"
    assert find_holder(lock) is None
    with hold(lock, now=NOW):
        assert find_holder(lock) == Holder(os.getpid(), "2026-09-25T22:26:26Z")
    assert find_holder(lock) is None


def test_no_file_is_left(tmp_path: Path) -> None:
    with hold(tmp_path / "up.lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "up.lock"
    command = [sys.executable, "-c", HOLD_UNTIL_KILLED, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert find_holder(lock) is not None
        process.kill()
    assert lock.exists()
    assert find_holder(lock) is None
    with hold(lock):
        pass
