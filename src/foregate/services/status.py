"""What runs for a home now: written by the supervisor into the home, read by `foregate status`.

The file is a report, not the truth: whoever reads it asks the locks as well, so a supervisor that was killed does
not look alive.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foregate.core.masterkey import write_private
from foregate.services.holder import find_holder
from foregate.services.home import Home
from foregate.services.instances import Counts, instances
from foregate.services.local_edges import lock_of
from foregate.services.process import lock_path


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process. `state` as `children.ChildState`, or `alone` where it runs without a supervisor, or `absent`."""

    name: str
    state: str
    pid: int | None
    restarts: int


@dataclass(frozen=True, slots=True)
class Status:
    """The home's status. `pid` and `since` are the supervisor's, None and empty where there is none.

    `is_ready`: a request with the demo's token went through the edge to its origin. `problem`: why it is not ready
    yet or no longer, in words, or empty.
    """

    home: str
    pid: int | None
    since: str
    is_ready: bool
    problem: str
    processes: tuple[ProcessStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs: member names are a promise (docs/reference/cli.md)."""
        found = asdict(self)
        return {"running": self.pid is not None, "ready": found.pop("is_ready"), **found}


def status_path(home: Home) -> Path:
    """Where the supervisor writes its report."""
    return home.run / "status.json"


def write_status(home: Home, is_ready: bool, problem: str, processes: tuple[ProcessStatus, ...]) -> None:
    """Write the supervisor's report, whole or not at all."""
    body = {"ready": is_ready, "problem": problem, "processes": [asdict(process) for process in processes]}
    write_private(status_path(home), json.dumps(body).encode())


def read_status(home: Home) -> Status:
    """What runs for this home now. Never fails: a home that was never used has nothing running."""
    holder = find_holder(lock_path(home, "up"))
    report = _read_report(status_path(home)) if holder is not None else {}
    reported = {str(process.get("name")): process for process in report.get("processes", [])}
    names = list(reported) or [instance.name for instance in instances(Counts())]
    return Status(
        home=str(home.root),
        pid=holder.pid if holder else None,
        since=holder.since if holder else "",
        is_ready=bool(report.get("ready", False)),
        problem=str(report.get("problem", "starting" if holder else "not running")),
        processes=tuple(_process_status(home, name, reported.get(name)) for name in names),
    )


def _process_status(home: Home, name: str, reported: dict[str, Any] | None) -> ProcessStatus:
    holder = find_holder(lock_of(home, name))
    pid = holder.pid if holder else None
    if reported is None:
        return ProcessStatus(name, "alone" if holder else "absent", pid, 0)
    return ProcessStatus(name, str(reported.get("state")), pid, int(reported.get("restarts", 0)))


def _read_report(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
