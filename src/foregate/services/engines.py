"""Finding the HAProxy workers of a home from outside, for when the agent that ran them cannot end them any more."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from foregate.edge.paths import socket_folder
from foregate.engines.haproxy.spawn import words_of
from foregate.services.home import Home
from foregate.services.settings import Settings

_ASKED_EVERY_SECONDS = 0.01
# The kernel takes the memory of a million tokens apart in a fraction of this.
_GONE_SECONDS = 5.0


def find_workers(settings: Settings, home: Home) -> list[int]:
    """The processes that run an HAProxy with a configuration of this home: not the one of these settings alone, as an
    earlier run may have had another, or lain in another checkout."""
    names = {"haproxy", settings.haproxy.name if settings.haproxy else ""}
    return [
        pid
        for pid, (program, *words) in _processes()
        if Path(program).name in names and any(_is_in(home, word) for word in words)
    ]


def end_workers(settings: Settings, home: Home) -> None:
    """End them now, without a drain, and wait until they are gone or hang in the kernel. Safe to repeat."""
    deadline = time.monotonic() + _GONE_SECONDS
    while (workers := find_workers(settings, home)) and time.monotonic() < deadline:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_ASKED_EVERY_SECONDS)


def clear_sockets(settings: Settings, home: Home) -> None:
    """Remove the sockets of an agent and workers that are gone; they may lie outside the home. Safe to repeat."""
    folder = socket_folder(home.root, settings.edge_user if os.geteuid() == 0 else "")
    for socket in folder.glob("*.sock"):
        socket.unlink(missing_ok=True)
    if folder != home.run:
        with contextlib.suppress(OSError):  # somebody has put something else there
            folder.rmdir()


def _is_in(home: Home, word: str) -> bool:
    return word.startswith(f"{home.edge}{os.sep}")


def _processes() -> list[tuple[int, list[str]]]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((int(folder.name), words_of(int(folder.name))))
    return found
