"""Keeps the token maps of running workers in step with the state: changes go into the overlay at once, and the
overlay is folded into the base now and then. asyncio.

A worker that cannot be told of a change must not go on: it is given up. What is pushed is always the newest known of a
token, never what it was when a push was asked for, so pushes may overlap with starts and folds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

import structlog

from foregate.edge.base_map import BaseMap
from foregate.edge.fleet import Fleet
from foregate.engines.haproxy.control import Control, ControlError, TokenMap
from foregate.engines.haproxy.maps import TOMBSTONE, MapLine, overlay_text

log = structlog.get_logger(__name__)

# Changing an entry takes HAProxy a time that grows with the overlay (1 ms at 10,000); folding takes one that grows with
# the base. So the overlay may grow with the base, within bounds.
_LEAST_OVERLAY = 10_000
_MOST_OVERLAY = 50_000
_SHARE_OF_BASE = 20
# A token in the overlay is judged by a somewhat longer way, so it should not stay there for ever.
_QUIET_SECONDS = 10.0
_LONG_QUIET_SECONDS = 60.0
# Replacing a worker's base map leaves HAProxy with twice the memory for good; beyond this, a new worker is cheaper.
MOST_FOLDED_IN_PLACE = 100_000
# How long changes wait, in all, for a worker that is taking over (see `push`). That takes it 40 to 110 ms, measured on
# a busy machine; a revocation must not wait for one that hangs.
_MOST_HELD_SECONDS = 0.5


class TokenMaps:
    """The overlay as every worker should have it. Bound to one event loop."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._overlay: dict[str, str | None] = {}
        self._since_fold: set[str] | None = None
        self._since_launch: set[str] | None = None
        self._launch_over = asyncio.Event()
        self._launch_over.set()
        self._held_until = 0.0
        self._unkept: set[str] = set()
        self._is_tracking = False
        self._lock = asyncio.Lock()
        self._base_tokens = 0
        # The overlay holds every change since the base map of this number was begun.
        self.since = 0
        self._changed_at = time.monotonic()
        # How often the overlay was emptied into the base: until the next time, every change since is in the overlay.
        self.folds = 0

    def load(self, changed: Iterable[tuple[str, str | None]], base: BaseMap) -> None:
        """What has changed since `base`, which is in force, was begun."""
        self._is_tracking = True
        self._overlay = dict(changed)
        self._base_tokens = base.tokens
        self.since = base.fold

    @property
    def wants_fold(self) -> bool:
        """Whether the overlay has grown enough to be worth a fold, or a small one may be had in a quiet moment."""
        size, base = len(self._overlay), self._base_tokens
        if size > min(max(_LEAST_OVERLAY, base // _SHARE_OF_BASE), _MOST_OVERLAY):
            return True
        quiet = time.monotonic() - self._changed_at
        is_worth_it = (quiet > _QUIET_SECONDS and size * 100 >= base) or quiet > _LONG_QUIET_SECONDS
        return size > 0 and base <= MOST_FOLDED_IN_PLACE and is_worth_it

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a fold that the feed should wait too."""
        return len(self._overlay) > 4 * _MOST_OVERLAY

    def has_changed(self, client_id: str) -> bool:
        """Whether the overlay speaks of a token: whatever was known of it at the last fold may be wrong."""
        return client_id in self._overlay

    def is_current(self, client_id: str, entry: str, stamp: int) -> bool:
        """Whether a token's entry is still what it was when it was read, after `folds` was seen to be `stamp`."""
        return stamp == self.folds and self._overlay.get(client_id, entry) == entry

    async def push(self, tokens: dict[str, str | None], *, must_recheck: bool, is_kept: bool = True) -> None:
        """Tell every worker of changed tokens; in force when this returns.

        `must_recheck`: connections may remember something of them (not so if all are new). `is_kept`: the state on disk
        has them; one that has not survives folds until it is pushed again.

        While a worker takes over, no other is told: if this agent were killed then, nobody could tell the new one, and
        who was turned away already would be let in again. It waits `_MOST_HELD_SECONDS` at most.
        """
        if not self._is_tracking:
            return  # nothing was ever served: the first base map will hold it all
        self._changed_at = time.monotonic()
        self._unkept = self._unkept - tokens.keys() if is_kept else self._unkept | tokens.keys()
        known = self._overlay.keys() & tokens.keys()
        self._overlay.update(tokens)
        for collected in (self._since_fold, self._since_launch):
            if collected is not None:
                collected.update(tokens)
        was_held = await self._held()
        async with self._lock:
            for control in self._fleet.controls():
                # Only of the worker that serves is it known for sure what its overlay lacks.
                is_sure = self._fleet.is_sound(control) and self._since_launch is None and not was_held
                fresh = tokens.keys() - known if is_sure else set()
                await self._tell(control, tokens, fresh, must_recheck)

    def begin_launch(self) -> str:
        """The overlay as a map file for a worker that starts; what is pushed from here on is missing in it, and waits
        for `let_go`."""
        self._since_launch = set()
        self._launch_over.clear()
        self._held_until = asyncio.get_running_loop().time() + _MOST_HELD_SECONDS
        # In the middle of a fold, the base that it starts from holds the rest.
        client_ids = self._overlay if self._since_fold is None else self._since_fold | self._unkept
        return overlay_text(self._lines(client_ids))

    async def end_launch(self, base: BaseMap) -> None:
        """The worker serves: tell it what it missed. Its base ends a fold that was in progress."""
        async with self._lock:
            missed, self._since_launch = self._since_launch or set(), None
            if missed and self._fleet.current is not None:
                await self._tell(self._fleet.current.control, missed, set(), True)
            if self._since_fold is not None:
                self._forget_folded(base)

    def let_go(self) -> None:
        """The worker serves and knows all, or it never will: changes wait no longer. Safe to repeat."""
        self._launch_over.set()

    async def _held(self) -> bool:
        """Wait while a worker takes over. Whether there was one."""
        if self._launch_over.is_set():
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._held_until):
                await self._launch_over.wait()
        return True

    def begin_fold(self) -> None:
        """Call before the state is told that a base map is begun: what is pushed from here on may be missing in it."""
        self._is_tracking = True
        self._since_fold = set()

    def abandon_fold(self) -> None:
        """The base map did not come to be."""
        self._since_fold = None

    async def end_fold(self, base: BaseMap) -> None:
        """The base map begun last is in force, here and in the current worker: the overlay keeps what came after."""
        async with self._lock:
            self._forget_folded(base)
            if self._fleet.current is not None:
                await self._fleet.current.control.replace(TokenMap.OVERLAY, list(self._lines(self._overlay)))

    def _forget_folded(self, base: BaseMap) -> None:
        kept, self._since_fold = (self._since_fold or set()) | self._unkept, None
        self.folds += 1
        self.load([(client_id, self._overlay[client_id]) for client_id in kept], base)
        log.info("tokens_folded", base=base.tokens, overlay=len(kept))

    async def _tell(self, control: Control, client_ids: Iterable[str], fresh: set[str], must_recheck: bool) -> None:
        try:
            await control.add_overlay(self._lines(fresh))
            await control.put_overlay(list(self._lines(set(client_ids) - fresh)))
            if must_recheck:
                await control.raise_generation(self._fleet.next_generation())
        except ControlError as error:
            await self._fleet.give_up(control, str(error))

    def _lines(self, client_ids: Iterable[str]) -> Iterator[MapLine]:
        for client_id in client_ids:
            if client_id in self._overlay:
                entry = self._overlay[client_id]
                yield MapLine(client_id, TOMBSTONE if entry is None else entry)
