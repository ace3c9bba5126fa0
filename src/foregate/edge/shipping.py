"""Ships what workers write into their spool files to the control plane, in compressed batches of whole lines, unparsed.

Must never slow a request: files are read and compressed on one thread of low priority, nothing HAProxy waits for is
touched, and a spool over its bound loses its oldest lines, counted. At least once: the control plane drops repeats by
their offset. A worker's file goes once the worker is gone and all of it is acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from foregate.edge.spool import Lost, PunchingUnsupported, SpoolFile, workers
from foregate.eventlog.packing import pack

T = TypeVar("T")

# One batch: what requests at full load write in a pause. Beside its lines a batch costs some 5 ms on both sides
# together, for the call and the commit. Packed, so many lines stay within the 4 MiB that the control plane takes.
BATCH_BYTES = 4_000_000
# Over a narrow link a batch may take longer than its answer is waited for, and would never arrive however often it is
# sent. So after each that was not delivered the next is half as long, down to this: some 6 KB when packed.
LEAST_BATCH_BYTES = 64_000
# How long the first line of a batch waits for others: far below the 2 s in which "last seen" must follow.
_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0
_NICENESS = 10
# A batch that the control plane finds malformed so often will not get better; it must not dam up the rest.
_REFUSALS = 3
# Far below what file systems bear (16 TiB); a file of this size is left for a new one, with a new worker.
_MOST_FILE_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class Batch:
    """`size_bytes` of whole lines of a worker's spool file from byte `offset` on, in `body` as zlib. `is_final`: the
    file ends with them."""

    worker: str
    offset: int
    is_final: bool
    body: bytes
    size_bytes: int


class BatchRefused(Exception):
    """The control plane finds the batch malformed."""


class ControlPlaneAway(Exception):
    """The batch could not be delivered now; the text says why."""


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What waits and what was lost since the agent started. `error`: why shipping stands still, or ''.

    `outgrown`: the worker whose file cannot be freed or is too long, or ''; a new worker brings a new file.
    """

    files: int = 0
    backlog_bytes: int = 0
    lost_bytes: int = 0
    lost_lines: int = 0
    error: str = ""
    outgrown: str = ""


class Shipper:
    """`run()` ships until cancelled; `flush()` ships what is there once."""

    def __init__(
        self,
        folder: Path,
        post: Callable[[Batch], Awaitable[int]],
        *,
        max_bytes: int,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """`post` delivers a batch and gives the byte up to which the control plane has that worker's file; it raises
        ControlPlaneAway or BatchRefused. `max_bytes` bounds what waits, over all files."""
        self._folder = folder
        self._post = post
        self._max_bytes = max_bytes
        self._pause_seconds = pause_seconds
        self._files: dict[str, SpoolFile] = {}
        self._refusals = 0
        self._batch_bytes = BATCH_BYTES
        self._is_first_survey = True
        self._thread = ThreadPoolExecutor(1, "spool", initializer=_be_nice)
        self.status = SpoolStatus()

    async def run(self) -> None:
        """Ship for ever."""
        pause = self._pause_seconds
        while True:
            try:
                _, is_behind = await self.ship_once()
            except OSError as error:  # the disk, say, is full; it may be better later
                is_behind = False
                self._note_error(str(error))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS) if self.status.error else self._pause_seconds
            if not is_behind:
                await asyncio.sleep(pause)

    async def flush(self) -> None:
        """Ship until nothing whole is left or the control plane is away."""
        has_shipped = True
        while has_shipped:
            has_shipped, _ = await self.ship_once()

    async def ship_once(self) -> tuple[bool, bool]:
        """One batch of each file that has one. Whether anything went, and whether much more is there already."""
        await self._open_new()
        has_shipped = is_behind = False
        for file in list(self._files.values()):
            batch = await self._run(self._prepare, file)
            if batch is None:
                continue
            upto = await self._deliver(batch)
            if upto is None:
                return False, False
            has_shipped = True
            is_behind = await self._run(self._settle, file, batch, upto) or is_behind
        return has_shipped, is_behind

    def close(self) -> None:
        """Close the files and end the thread."""
        self._thread.shutdown()
        for file in self._files.values():
            file.close()

    async def _open_new(self) -> None:
        for name in await self._run(self._survey):
            file = await self._run(SpoolFile, self._folder, name)
            self._files[name] = file
            if self._is_first_survey:
                # After a restart, a power cut above all, the control plane may know better how far this file is.
                upto = await self._deliver(Batch(name, file.acknowledged, False, pack(b""), 0))
                await self._run(file.acknowledge, upto or 0)
        self._is_first_survey = False

    async def _deliver(self, batch: Batch) -> int | None:
        """The byte up to which the control plane has the file; None where it must be tried again later, -1 where it
        never will be taken."""
        try:
            upto = await self._post(batch)
        except ControlPlaneAway as error:
            self._note_error(str(error))
            self._batch_bytes = max(self._batch_bytes // 2, LEAST_BATCH_BYTES)
            return None
        except BatchRefused as error:
            self._note_error(str(error))
            self._refusals += 1
            return -1 if self._refusals >= _REFUSALS else None
        if upto < batch.offset + batch.size_bytes:
            self._note_error(f"the control plane has {upto}, not {batch.offset + batch.size_bytes} bytes")
            return None
        self._refusals = 0
        self._batch_bytes = min(self._batch_bytes * 2, BATCH_BYTES)
        self.status = replace(self.status, error="")
        return upto

    def _note_error(self, reason: str) -> None:
        self.status = replace(self.status, error=reason)

    def _survey(self) -> list[str]:
        """On the thread: keep within the bound, refresh the status; names of files not opened yet."""
        files = list(self._files.values())
        excess = sum(file.backlog_bytes for file in files) - self._max_bytes
        for file in files:
            if excess <= 0:
                break
            excess -= self._lose(file, min(excess, file.backlog_bytes)).size_bytes
            self._free(file)
        backlog = sum(file.backlog_bytes for file in files)
        self.status = replace(self.status, files=len(files), backlog_bytes=backlog)
        return [name for name in workers(self._folder) if name not in self._files]

    def _prepare(self, file: SpoolFile) -> Batch | None:
        """On the thread: the next batch, None where there is nothing to say."""
        # Asked before reading: what a worker wrote before it was gone is then surely read.
        is_complete = file.is_complete()
        lines = file.read_lines(self._batch_bytes)
        if bytes(lines[:1]) == b"\0":
            file.skip_hole()
            lines = file.read_lines(self._batch_bytes)
        end = file.acknowledged + len(lines)
        if is_complete and not lines and file.backlog_bytes:
            # A last line without end: the machine went down, or the disk was full, while it was written.
            self._lose(file, file.backlog_bytes)
            end = file.acknowledged
        is_final = is_complete and end == file.size_bytes
        if not lines and not is_final:
            return None
        return Batch(file.worker, file.acknowledged, is_final, pack(lines), len(lines))

    def _settle(self, file: SpoolFile, batch: Batch, upto: int) -> bool:
        """On the thread: forget what is acknowledged; whether a good part of a batch is left. -1: the batch is lost."""
        if upto < 0 and batch.size_bytes:
            self._lose(file, batch.size_bytes)
        file.acknowledge(upto)
        if batch.is_final and upto >= 0 and file.backlog_bytes == 0:
            file.delete()
            file.close()
            del self._files[file.worker]
            return False
        self._free(file)
        return file.backlog_bytes >= self._batch_bytes // 2

    def _lose(self, file: SpoolFile, least_bytes: int) -> Lost:
        lost = file.skip(least_bytes)
        self.status = replace(
            self.status,
            lost_bytes=self.status.lost_bytes + lost.size_bytes,
            lost_lines=self.status.lost_lines + lost.lines,
        )
        return lost

    def _free(self, file: SpoolFile) -> None:
        most = _MOST_FILE_BYTES
        try:
            file.free()
        except PunchingUnsupported:
            most = self._max_bytes
        if file.size_bytes > most:
            self.status = replace(self.status, outgrown=file.worker)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _be_nice() -> None:
    """On two cores, a batch must give way to a request. Linux keeps niceness per thread."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
