"""Starting the processes of a running `foregate up` anew, one after another, so that nobody notices: what an upgrade
of the program and a change of settings files need. The supervisor goes on; it starts each again when it has ended.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Sequence

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.services.home import Home
from foregate.services.instances import kind_of
from foregate.services.status import ProcessStatus, read_status

# The API finishes what it answers; the worker its round; the agent leaves HAProxy to the next one, which adopts it.
# The demo's echo service is a caller's own affair.
_SIGNALS = {"api": signal.SIGTERM, "worker": signal.SIGTERM, "edge": signal.SIGUSR1}
# A child's drain and its start, and some more for a busy machine.
_PATIENCE_SECONDS = 60.0
_ASKED_EVERY_SECONDS = 0.05


def restart(home: Home, names: Collection[str], say: Callable[[str], None]) -> None:
    """Start these processes anew (all but the echo service where no name is given), each once the one before is ready.

    Raises ForegateError: INVALID_INPUT for a name that does not run; UNAVAILABLE where nothing is ready to begin with,
    or a process does not come back, which leaves those after it as they were.
    """
    status = read_status(home)
    if not status.is_ready:
        raise ForegateError(ErrorCode.UNAVAILABLE, f"Foregate is not ready in {home.root}: {status.problem}.")
    for process in _chosen(status.processes, names):
        say(f"{process.name}: ending process {process.pid}")
        _renew(home, process)
        say(f"{process.name}: ready, process {_find(home, process.name).pid}")


def _chosen(running: Sequence[ProcessStatus], names: Collection[str]) -> list[ProcessStatus]:
    able = [process for process in running if kind_of(process.name) in _SIGNALS]
    unknown = sorted(set(names) - {process.name for process in able})
    if unknown:
        known = ", ".join(process.name for process in able)
        raise invalid(f"There is no process {unknown[0]} to restart here; there are {known}.")
    return [process for process in able if not names or process.name in names]


def _renew(home: Home, before: ProcessStatus) -> None:
    if before.pid is not None:
        os.kill(before.pid, _SIGNALS[kind_of(before.name)])
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _is_back(home, before):
        if time.monotonic() > deadline:
            raise ForegateError(
                ErrorCode.UNAVAILABLE,
                f"{before.name} is not back after {_PATIENCE_SECONDS:.0f} s; see {home.logs / before.name}.log. "
                "The processes after it were left as they are.",
            )
        time.sleep(_ASKED_EVERY_SECONDS)


def _is_back(home: Home, before: ProcessStatus) -> bool:
    """The supervisor's report lags a moment behind a death, so a ready process counts only under another number."""
    now = _find(home, before.name)
    return read_status(home).is_ready and now.state == "ready" and now.pid not in (None, before.pid)


def _find(home: Home, name: str) -> ProcessStatus:
    found = next((process for process in read_status(home).processes if process.name == name), None)
    return found or ProcessStatus(name, "absent", None, 0)
