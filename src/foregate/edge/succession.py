"""How a worker goes, and how another takes its place: single steps, for the fleet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from foregate.engines.haproxy.control import ControlError
from foregate.engines.haproxy.process import Running, Worker

# A connection between two requests is closed once none was answered on any for so many looks.
_QUIET_LOOKS, _LOOK_SECONDS = 3, 0.05


def point(link: Path, target: Path) -> None:
    """Have `link` lead to `target`, at one moment."""
    beside = link.with_suffix(".new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)


async def is_stopping(worker: Worker) -> bool:
    try:
        return (await worker.control.info()).get("Stopping") == "1"
    except ControlError:  # it ends just now
        return True


async def drain_and_close(worker: Running, deadline_seconds: float) -> None:
    if not isinstance(worker, Worker):  # nobody can say whether anything is open on its connections
        await worker.kill()
        return
    draining = asyncio.create_task(worker.drain(deadline_seconds))
    quiet = 0
    while not draining.done() and quiet < _QUIET_LOOKS:
        await asyncio.wait([draining], timeout=_LOOK_SECONDS)
        try:
            quiet = quiet + 1 if await worker.control.requests() == 0 else 0
        except ControlError:
            break
    if not draining.done() and quiet:
        await worker.kill()
    await draining
