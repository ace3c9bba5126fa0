"""The newest snapshot of topic `edge-config`, as a file that any number of edges are served from.

It is made once for all who need one, and again only when so much has changed since that following on from it would be
no faster. It holds sealed records and nothing else, has no name on the disk, and is gone with the last who reads it.
Records about one edge are left out: each edge is told of its own. One event loop; the log is read on a thread.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from foregate.edge.rollout import EDGE_KIND
from foregate.eventlog.model import EDGE_CONFIG, Bounds, EventLog, LogAccess

_PAGE_RECORDS = 2_000
# Enough for one TLS record after the other without a look at the disk; little to hold for a reader that is slow.
_CHUNK_BYTES = 256 * 1024
# Following on from a snapshot costs less than a new one as long as no more has changed than these.
_MOST_CHANGES = 1_000
_MOST_CHANGED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All live records and tombstones as of `seq`, some that are newer among them; `position` is the newest one's."""

    seq: int
    position: int
    records: int
    file: BinaryIO

    async def chunks(self) -> AsyncIterator[bytes]:
        """The lines, in pieces that end anywhere."""
        offset = 0
        while chunk := await asyncio.to_thread(os.pread, self.file.fileno(), _CHUNK_BYTES, offset):
            offset += len(chunk)
            yield chunk


class Snapshots:
    """Makes snapshots. Safe for any number of callers at once in one event loop."""

    def __init__(self, database: LogAccess, log: Callable[[Any], EventLog], folder: Path | None = None) -> None:
        """`folder`: where the files lie; by default where the system keeps temporary ones."""
        self._database = database
        self._log = log
        self._folder = folder
        self._newest: asyncio.Task[Snapshot] | None = None

    def newest(self, bounds: Bounds) -> asyncio.Task[Snapshot]:
        """One that is new enough for the log as it is now, or is being made: a task that all who need one share, so
        nobody may cancel it."""
        if self._newest is None or not _is_of_use(self._newest, bounds):
            self._newest = asyncio.create_task(self._make(bounds))
        return self._newest

    async def _make(self, bounds: Bounds) -> Snapshot:
        """Reads to the end of the log, not to where it ended at first: a key that moves there meanwhile must not be
        missed."""
        # The garbage collector closes it, as who reads last is not known.
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        position, records = 0, 0
        while page := await self._database.read(lambda c: self._write_page(c, file, position)):  # noqa: B023
            position, count = page
            records += count
        return Snapshot(bounds.end, max(position, bounds.end), records, file)

    def _write_page(self, connection: Any, file: BinaryIO, after: int) -> tuple[int, int] | None:
        """On a thread: one page behind `after`; its last offset and how many records it added, None at the end."""
        page = self._log(connection).read(EDGE_CONFIG, after, limit=_PAGE_RECORDS)
        if not page:
            file.flush()
            return None
        lines = [record.value for record in page if not record.key.startswith(f"{EDGE_KIND}/")]
        if lines:
            file.write(b"\n".join(lines) + b"\n")
        return page[-1].offset, len(lines)


def _is_of_use(making: asyncio.Task[Snapshot], bounds: Bounds) -> bool:
    if not making.done():
        return True
    return not making.cancelled() and making.exception() is None and _is_new_enough(making.result(), bounds)


def _is_new_enough(snapshot: Snapshot, bounds: Bounds) -> bool:
    if not bounds.start <= snapshot.position <= bounds.end:
        return False  # what it does not hold is gone from the log, or the log has been put back
    most = max(_MOST_CHANGES, int(snapshot.records * _MOST_CHANGED_SHARE))
    return bounds.end - snapshot.position <= most
