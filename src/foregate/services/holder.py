"""Who holds a home or a process of it: an advisory lock on a file that says who took it, and when.

The kernel drops the lock when its holder dies, however it dies, so a lock file left behind never blocks a start.
Open file description locks (fcntl(2)) are used, as they alone can be asked about without being taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from foregate.core.clock import format_time, utc_now

_FLOCK = "hhqqi"  # struct flock of 64-bit Linux: type, whence, start, length, pid


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
    descriptor = _lock(path)
    try:
        about = {"pid": os.getpid(), "since": format_time(now or utc_now()), "addresses": dict(addresses or {})}
        text = json.dumps(about)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
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
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole_file())
        is_free = struct.unpack(_FLOCK, answer)[0] == fcntl.F_UNLCK
        return None if is_free else _read(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file())
            # The last holder may have removed the file between our open and our lock: then it guards nothing.
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except BlockingIOError:
            holder = _read(descriptor)
            os.close(descriptor)
            raise Held(holder) from None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _whole_file() -> bytes:
    return struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def _read(descriptor: int) -> Holder:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        # A lock of an older Foregate says nothing of addresses.
        return Holder(int(found["pid"]), str(found["since"]), dict(found.get("addresses") or {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Holder(0, "")
