"""Advisory locks on files: the kernel drops one when its holder dies, however it dies, so a file left behind never
blocks anybody. Open file description locks (fcntl(2)), as they alone can be asked about without being taken."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

_FLOCK = "hhqqi"  # struct flock of 64-bit Linux: type, whence, start, length, pid


def try_lock(path: Path) -> int | None:
    """The descriptor that holds the lock `path`, None where another one has it. Closing it gives the lock back; remove
    the file before that."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
            # The last holder may have removed the file between our open and our lock: then it guards nothing.
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def is_locked(descriptor: int) -> bool:
    """Whether another descriptor holds the lock of this open file. Takes nothing, so it stands in nobody's way."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def _whole_file(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)
