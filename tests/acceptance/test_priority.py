"""Who gives way to whom where cores are short, as the kernel has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.product import Foregate


def niceness(pid: int) -> int:
    """Of the main thread (proc(5), field 19 of stat)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])


def session_niceness(pid: int) -> int:
    """Of the session's group, such as `/autogroup-12 nice 5`."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[2])


def pid_of(foregate: Foregate, name: str) -> int:
    return foregate.processes(name)[0].pid


def test_worker_gives_way_to_requests(foregate: Foregate) -> None:
    assert niceness(pid_of(foregate, "worker")) == min(19, os.nice(0) + 5)


@pytest.mark.parametrize("name", ["api", "edge", "haproxy", "echo"])
def test_requests_and_changes_do_not(foregate: Foregate, name: str) -> None:
    assert niceness(pid_of(foregate, name)) == os.nice(0)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not group by session")
@pytest.mark.parametrize(("name", "expected"), [("api", 0), ("worker", 5), ("edge", 0), ("haproxy", 0)])
def test_sessions_are_weighed_the_same_way(foregate: Foregate, name: str, expected: int) -> None:
    assert session_niceness(pid_of(foregate, name)) == expected
