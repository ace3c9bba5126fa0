"""Spool files on the edge's disk: one per HAProxy worker, appended by HAProxy, read here from the acknowledged byte.

A worker's file is complete once the worker is gone. Whether one still writes is told by a lock on the open file
description that it inherits as descriptor 3: that survives the agent, and cannot be mistaken as a process id can.
Acknowledged bytes are punched out of the file; its offsets stay what they were. Blocking calls; no network.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

_SUFFIX = ".events"
_ACK_SUFFIX = ".ack"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
_BLOCK_BYTES = 4_096
# HAProxy's longest line (`log ... len`) is far below; a newline must lie within so many bytes of any place.
_LONGEST_LINE_BYTES = 65_536
_COPY_BYTES = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class PunchingUnsupported(Exception):
    """The file system cannot free the start of a file; only a new file for a new worker frees space."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What was skipped unread: bytes, and lines in them."""

    size_bytes: int
    lines: int


class SpoolFile:
    """One worker's file. `acknowledged` is the byte up to which the control plane has everything."""

    def __init__(self, folder: Path, worker: str) -> None:
        """Opens the file for reading. FileNotFoundError if it is gone."""
        self.worker = worker
        self.path = spool_path(folder, worker)
        self._ack_path = folder / f"{worker}{_ACK_SUFFIX}"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.acknowledged = self._read_ack()
        self._punched = self.acknowledged - self.acknowledged % _BLOCK_BYTES

    @property
    def size_bytes(self) -> int:
        """How many bytes were ever written to it."""
        return os.fstat(self._descriptor).st_size

    @property
    def backlog_bytes(self) -> int:
        """How many of them are not acknowledged."""
        return max(0, self.size_bytes - self.acknowledged)

    def is_complete(self) -> bool:
        """Whether the worker that wrote it is gone, so that nothing will be added."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True

    def read_lines(self, most_bytes: int) -> memoryview:
        """Whole lines from the acknowledged byte on, at most `most_bytes` (one longer line comes alone).

        Empty where no whole line is there. Safe to repeat: it moves nothing.
        """
        chunk = os.pread(self._descriptor, most_bytes, self.acknowledged)
        end = chunk.rfind(b"\n") + 1
        if not end and len(chunk) == most_bytes:
            chunk = os.pread(self._descriptor, most_bytes + _LONGEST_LINE_BYTES, self.acknowledged)
            end = chunk.find(b"\n") + 1
        # A view: millions of bytes are not copied to cut off the last few.
        return memoryview(chunk)[:end]

    def acknowledge(self, upto: int) -> None:
        """The control plane has everything before byte `upto`; forget it. Going back does nothing.

        The position is written before bytes go, without a sync: after a power cut the control plane knows it better.
        """
        upto = min(upto, self.size_bytes)
        if upto <= self.acknowledged:
            return
        self.acknowledged = upto
        descriptor = os.open(self._ack_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, struct.pack("<Q", upto), 0)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give acknowledged blocks back to the file system. PunchingUnsupported where it cannot."""
        end = self.acknowledged - self.acknowledged % _BLOCK_BYTES
        if end > self._punched:
            _punch(self._descriptor, self._punched, end - self._punched)
            self._punched = end

    def skip(self, least_bytes: int) -> Lost:
        """Lose at least so many of the oldest bytes, up to the end of a line; what was lost."""
        start = self.acknowledged
        end = self._line_end(min(start + least_bytes, self.size_bytes))
        lost = Lost(end - start, self._count_lines(start, end))
        self.acknowledge(end)
        return lost

    def skip_hole(self) -> int:
        """Step over bytes at the acknowledged place that were freed already (the position on disk was lost).

        Returns how many bytes that were.
        """
        start = self.acknowledged
        try:
            data = os.lseek(self._descriptor, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data after `start`
                return 0
            raise
        if data > start:
            self.acknowledge(self._line_end(data))
        return self.acknowledged - start

    def delete(self) -> None:
        """Remove the file and its position. For a complete file that is acknowledged to its end."""
        self.path.unlink(missing_ok=True)
        self._ack_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _line_end(self, place: int) -> int:
        """The byte after the first newline at or after `place - 1`; the file's end where there is none."""
        tail = os.pread(self._descriptor, _LONGEST_LINE_BYTES, max(0, place - 1))
        found = tail.find(b"\n")
        return max(0, place - 1) + found + 1 if found >= 0 else self.size_bytes

    def _count_lines(self, start: int, end: int) -> int:
        count = 0
        for place in range(start, end, _COPY_BYTES):
            count += os.pread(self._descriptor, min(_COPY_BYTES, end - place), place).count(b"\n")
        return count

    def _read_ack(self) -> int:
        try:
            return min(int(struct.unpack("<Q", self._ack_path.read_bytes()[:8])[0]), self.size_bytes)
        except (FileNotFoundError, struct.error):
            return 0


def spool_path(folder: Path, worker: str) -> Path:
    """Where a worker's events go."""
    return folder / f"{worker}{_SUFFIX}"


def open_for_worker(folder: Path, worker: str) -> int:
    """A descriptor of a new worker's file, with the shared lock that says that a writer lives.

    Close it once the worker has opened and locked the file by itself. FileExistsError if the name was used before.
    """
    if not _NAME.fullmatch(worker):
        raise ValueError(f"not a worker's name: {worker!r}")
    folder.mkdir(mode=0o700, exist_ok=True)
    beside = folder / f".{worker}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Locked before it has its name: whoever finds it must not take it for a dead worker's.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.link(beside, spool_path(folder, worker))
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        beside.unlink()
    return descriptor


def workers(folder: Path) -> list[str]:
    """The workers that have a spool file here, oldest first (their names begin with the time they started)."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}"))


def _punch(descriptor: int, offset: int, length: int) -> None:
    arguments = (ctypes.c_int(descriptor), ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE))
    while _libc.fallocate(*arguments, ctypes.c_longlong(offset), ctypes.c_longlong(length)) != 0:
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise PunchingUnsupported
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
