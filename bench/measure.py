"""What a process used: CPU seconds from its own clock, memory from the kernel's account of it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid` since its start, all threads, from `schedstat`: clock ticks are too coarse."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that ended meanwhile
            continue
    return total / 1e9


def memory_bytes(pid: int) -> int:
    """Resident memory of `pid`, shared pages divided among their users (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Pss line in smaps_rollup")


def children(pid: int) -> list[int]:
    """All processes below `pid`, itself included."""
    found = [pid]
    for listed in Path(f"/proc/{pid}/task").iterdir():
        for child in (listed / "children").read_text().split():
            found += children(int(child))
    return found


def median(values: Sequence[float]) -> float:
    """The median; rounds are few and a single bad one must not move it."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of `values` lie; the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
