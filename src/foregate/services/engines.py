"""Finding the HAProxy workers of a home from outside, for when the agent that ran them cannot end them any more."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from foregate.core.errors import ForegateError
from foregate.engines.haproxy.binary import find_binary
from foregate.services.home import Home
from foregate.services.settings import Settings


def find_workers(settings: Settings, home: Home) -> list[int]:
    """The processes that run this home's HAProxy binary with a configuration of this home."""
    try:
        binary = str(find_binary(str(settings.haproxy or "")))
    except ForegateError:
        return []
    return [pid for pid, words in _processes() if words[0] == binary and any(_is_in(home, word) for word in words)]


def end_workers(settings: Settings, home: Home) -> None:
    """End them now, without a drain. Safe to repeat."""
    for pid in find_workers(settings, home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_in(home: Home, word: str) -> bool:
    return word.startswith(f"{home.edge}{os.sep}")


def _processes() -> list[tuple[int, list[str]]]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
                found.append((int(folder.name), words))
    return found
