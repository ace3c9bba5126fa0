"""Which workers run, on disk for the next agent: it finds them by this, whenever this one is killed.

A roster that cannot be read, or could not be written, costs what workers remember, not the workers: whoever reads it
looks at the machine's processes too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from foregate.core.masterkey import write_private
from foregate.engines.haproxy.process import Identity


@dataclass(frozen=True, slots=True)
class Memory:
    """How old what a worker remembers can be: not from before base map number `fold`, nor signed by other keys than
    those that `keys` stands for."""

    fold: int = 0
    keys: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A worker. Process 0: it is being started. `memory`: of the one that serves. `hands_over`: it drains, and judges
    nobody any more."""

    identity: Identity
    memory: Memory = Memory()
    hands_over: bool = False


def read(path: Path) -> list[Entry]:
    """The workers, in the order in which they were written; none where the file is missing or damaged."""
    try:
        return [
            Entry(Identity(**found["identity"]), Memory(**found["memory"]), bool(found["hands_over"]))
            for found in orjson.loads(path.read_bytes())
        ]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write it, whole or not at all. OSError where the disk refuses."""
    write_private(path, orjson.dumps([asdict(entry) for entry in entries]))
