"""The status is what the locks say; the supervisor's report only adds to it."""

from __future__ import annotations

import os
from pathlib import Path

from foregate.services.holder import hold
from foregate.services.home import open_home
from foregate.services.process import lock_path
from foregate.services.status import ProcessStatus, read_status, write_status

READY = (
    ProcessStatus("api", "ready", 11, 0),
    ProcessStatus("worker", "ready", 12, 1),
    ProcessStatus("edge", "ready", 13, 0),
    ProcessStatus("echo", "ready", 14, 0),
)


def test_a_home_that_was_never_used_has_nothing_running(tmp_path: Path) -> None:
    status = read_status(open_home(tmp_path))
    assert (status.pid, status.is_ready, status.problem) == (None, False, "not running")
    assert {process.state for process in status.processes} == {"absent"}


def test_a_running_supervisors_report_is_told(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    with hold(lock_path(home, "up")), hold(lock_path(home, "worker")):
        write_status(home, True, "", READY)
        status = read_status(home)
    assert (status.pid, status.is_ready) == (os.getpid(), True)
    assert status.processes[1] == ProcessStatus("worker", "ready", os.getpid(), 1)
    assert status.to_json()["ready"] is True


def test_a_report_of_a_supervisor_that_was_killed_is_not_believed(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    write_status(home, True, "", READY)
    assert not read_status(home).is_ready


def test_an_edge_that_outlived_its_supervisor_is_shown_alone(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    with hold(lock_path(home, "edge")):
        status = read_status(home)
    assert {process.name: process.state for process in status.processes} == {
        "api": "absent",
        "worker": "absent",
        "edge": "alone",
        "echo": "absent",
    }
