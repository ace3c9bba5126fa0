"""Who holds a home or a process of it: an advisory lock on a file that says who took it, and when.

The kernel drops the lock when its holder dies, however it dies, so a lock file left behind never blocks a start
(`core/locks.py`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from foregate.core.clock import format_time, utc_now
from foregate.core.locks import is_locked, try_lock

_TRIED_EVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, and since when (RFC 3339); 0 and empty while it has not said so yet. `addresses`:
    where it is reached, if it said so (`services/running.py`)."""

    pid: int
    since: str
    addresses: Mapping[str, str] = field(default_factory=dict)


class Held(Exception):
    """The lock is taken by `holder`."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(f"held by process {holder.pid} since {holder.since}")
        self.holder = holder


@contextmanager
def hold(path: Path, addresses: Mapping[str, str] | None = None, *, now: datetime | None = None) -> Iterator[None]:
    """Hold the lock `path`, whose file goes away at the end. Raises Held at once where another process has it."""
    descriptor = try_lock(path)
    if descriptor is None:
        raise Held(find_holder(path) or Holder(0, ""))
    try:
        about = {"pid": os.getpid(), "since": format_time(now or utc_now()), "addresses": dict(addresses or {})}
        text = json.dumps(about)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def hold_in_turn(path: Path) -> Iterator[None]:
    """Hold the lock `path` once it is free: waits for it. Blocks its thread."""
    while (descriptor := try_lock(path)) is None:
        time.sleep(_TRIED_EVERY_SECONDS)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def find_holder(path: Path) -> Holder | None:
    """Who holds the lock `path` now; None if nobody does. Takes nothing, so it never stands in a starter's way."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _read(descriptor) if is_locked(descriptor) else None
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Holder:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        # A lock of an older Foregate says nothing of addresses.
        return Holder(int(found["pid"]), str(found["since"]), dict(found.get("addresses") or {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Holder(0, "")
