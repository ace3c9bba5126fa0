"""What a supervisor does before it starts its own children: it waits for the remains of one that was killed.

API and worker end by themselves when their supervisor dies. The edge goes on; its agent is asked to hand over
(SIGUSR1: exit and leave HAProxy running), and the next agent adopts HAProxy. The echo service sees to itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence, Set
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError
from foregate.services.engines import find_workers
from foregate.services.holder import find_holder
from foregate.services.home import Home
from foregate.services.local_edges import LocalEdge
from foregate.services.ports import find_port_holder, is_free
from foregate.services.process import find_locks
from foregate.services.settings import PREFIX, Settings

# More than a child's drain: whoever still holds its lock after this hangs.
_PATIENCE_SECONDS = 17.0
_ASKED_EVERY_SECONDS = 0.05


async def take_over(home: Home, found: Sequence[LocalEdge], wanted: Set[str], say: Callable[[str], None]) -> None:
    """Wait until no process of an earlier supervisor holds api, worker or edge; kill what does not let go.

    `found`: the edges that an earlier run may have had; those that are not `wanted` are ended with their HAProxy.
    """
    for edge in found:
        holder = find_holder(edge.lock)
        if holder is not None and holder.pid:
            is_wanted = edge.name in wanted
            say(f"foregate: {'taking over' if is_wanted else 'ending'} {edge.name} of an earlier run ({holder.pid})")
            os.kill(holder.pid, signal.SIGUSR1 if is_wanted else signal.SIGTERM)
    for lock in (*find_locks(home, "api", "worker"), *(edge.lock for edge in found)):
        await _wait_until_free(lock, say)


def require_ports(settings: Settings, edges: Sequence[LocalEdge]) -> None:
    """ForegateError(UNAVAILABLE) where another program has one of our ports. An edge may have its own already."""
    wanted = [(settings.api_host, settings.api_port, "API_PORT")]
    if settings.feed_bind:
        wanted.append((settings.feed_bind, settings.feed_port, "FEED_PORT"))
    for edge in edges:
        wanted.append((settings.bind, edge.settings.http_port, "HTTP_PORT"))
        wanted.append((settings.bind, edge.settings.https_port, "HTTPS_PORT"))
    workers = {pid for edge in edges for pid in find_workers(settings, edge.home)}
    for host, port, name in wanted:
        if is_free(host, port):
            continue
        holder = find_port_holder(port)
        if holder is not None and holder.pid in workers:
            continue
        who = f"process {holder.pid} ({holder.name})" if holder else "another program"
        raise ForegateError(
            ErrorCode.UNAVAILABLE, f"Port {port} is taken by {who}; free it or set {PREFIX}{name} to another port."
        )


async def _wait_until_free(lock: Path, say: Callable[[str], None]) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _until_free(lock)
    except TimeoutError:
        holder = find_holder(lock)
        if holder is not None and holder.pid:
            say(f"foregate: {lock.stem} of an earlier run (process {holder.pid}) does not end; killing it")
            os.kill(holder.pid, signal.SIGKILL)
        await _until_free(lock)


async def _until_free(lock: Path) -> None:
    while find_holder(lock) is not None:  # noqa: ASYNC110 (the kernel tells nobody when a lock is dropped)
        await asyncio.sleep(_ASKED_EVERY_SECONDS)
