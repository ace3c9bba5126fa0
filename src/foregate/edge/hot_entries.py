"""What workers remember of tokens lately let through: adds entries to their hot maps, within a bound. asyncio.

An entry is added after the request it comes from was answered, many at a time, so nobody waits for it. Between judging
a token and adding its entry the token may change: what is added is compared with the maps at that moment, as an entry
for a token that has changed would outlive its revocation.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from foregate.edge.fleet import Fleet
from foregate.edge.token_maps import TokenMaps
from foregate.engines.haproxy.control import Control, ControlError, TokenMap
from foregate.engines.haproxy.dump import dump_map
from foregate.engines.haproxy.maps import HOT, MapLine

log = structlog.get_logger(__name__)

# An entry takes about 1.2 KB in HAProxy, and an edge with a million tokens has some 150 MB to spare for all of them.
_MOST_ENTRIES = 110_000
_GATHER_SECONDS = 0.02
# Changing an entry takes a time that grows with the map (10 ms at 100,000): beyond this, begin with an empty one.
_MOST_CHANGES = 2_000
_SMALL_MAP = 10_000
_CLIENT_ID_LENGTH = 39


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry to be remembered. `entry`: the token's, by which it was judged; `stamp`: `TokenMaps.folds` before that.

    `line` is what goes into the map."""

    client_id: str
    entry: str = field(repr=False)
    stamp: int
    line: MapLine


@dataclass(slots=True)
class _Hot:
    """One worker's hot map: a hash of the value by key, and how many were changed since it was last empty."""

    values: dict[str, int] = field(default_factory=dict)
    changes: int = 0
    waiting: list[Candidate] = field(default_factory=list)


class HotEntries:
    """The hot maps of all workers, by process."""

    def __init__(self, fleet: Fleet, maps: TokenMaps, *, most_entries: int = _MOST_ENTRIES) -> None:
        self._fleet = fleet
        self._maps = maps
        self._most_entries = most_entries
        self._hots: dict[int, _Hot] = {}
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._copied: dict[str, int] = {}

    def add(self, process: int, candidate: Candidate) -> None:
        """Have the worker `process` remember this, soon. Nothing where it is gone by then."""
        self._hots.setdefault(process, _Hot()).waiting.append(candidate)
        self._woken.set()

    async def run(self) -> None:
        """Add what is to be added, for ever."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._woken.clear()
            for process in [process for process, hot in self._hots.items() if hot.waiting]:
                await self._flush(process)

    async def clear(self) -> None:
        """Forget all entries of the worker that serves, those included that wait. Raises ControlError."""
        async with self._lock:
            if self._fleet.current is not None:
                self._hots.pop(self._fleet.current.identity.pid, None)
                await self._empty(self._fleet.current.identity.pid, self._fleet.current.control)

    async def write_copy(self, path: Path, socket: Path | None) -> None:
        """A hot map for a worker that starts, from the worker on `socket` (None: begin with none). See `copied`.

        Left out: what has ended, and tokens that changed since the last fold, as the new worker's overlay may not hold
        them. A copy that breaks off is as good as none.
        """
        self._copied = {}
        now = time.time()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            if socket is None:
                return
            try:
                async for part in dump_map(socket, TokenMap.HOT):
                    kept = [entry for entry in part if self._is_worth_copying(entry[1], now)]
                    file.writelines(f"{key} {value}\n" for key, value in kept)
                    self._copied.update((key, hash(value)) for key, value in kept)
            except ControlError as error:
                log.warning("hot_entries_not_copied", reason=str(error))

    def copied(self, process: int) -> None:
        """The worker that starts with the last copy is `process`."""
        waiting = self._hots[process].waiting if process in self._hots else []
        self._hots[process] = _Hot(values=self._copied, waiting=waiting)
        self._copied = {}

    def _is_worth_copying(self, value: str, now: float) -> bool:
        client = value.partition('"id":"')[2][:_CLIENT_ID_LENGTH]
        until = value[: HOT.words_at]
        return until.isdecimal() and int(until) > now and not self._maps.has_changed(client)

    async def _flush(self, process: int) -> None:
        async with self._lock:
            hot = self._hots[process]
            waiting, hot.waiting = hot.waiting, []
            control = self._fleet.control_of(process)
            if control is None:  # gone, or not known yet: it will ask again
                del self._hots[process]
                return
            try:
                await self._put(control, process, hot, waiting)
            except ControlError as error:
                log.warning("hot_entries_lost", reason=str(error))

    async def _put(self, control: Control, process: int, hot: _Hot, waiting: list[Candidate]) -> None:
        lines = {c.line.key: c.line for c in waiting if self._maps.is_current(c.client_id, c.entry, c.stamp)}
        values = {key: hash(line.value) for key, line in lines.items()}
        # Two requests may ask before the first answer is in the map.
        news = {key for key, value in values.items() if hot.values.get(key) != value}
        known = news & hot.values.keys()
        hot.changes += len(known)
        is_worn = hot.changes > _MOST_CHANGES and len(hot.values) > _SMALL_MAP
        if is_worn or len(hot.values) + len(news) > self._most_entries:
            await self._empty(process, control)
            hot, known, news = self._hots[process], set(), set(lines)
        await control.put_hot([lines[key] for key in known])
        await control.add_hot(lines[key] for key in news - known)
        hot.values.update((key, values[key]) for key in news)

    async def _empty(self, process: int, control: Control) -> None:
        waiting = self._hots[process].waiting if process in self._hots else []
        self._hots[process] = _Hot(waiting=waiting)
        await control.replace(TokenMap.HOT, [])
