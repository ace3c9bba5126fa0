"""Brings the state into HAProxy: builds a new worker when anything but tokens changed, folds, replaces one that died.

One loop does it all, one thing at a time; token changes do not wait for it (`token_maps.py`). What HAProxy refuses is
found out record by record, and the rest goes into force.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from foregate.core.clock import utc_now
from foregate.core.errors import ErrorCode, ForegateError
from foregate.edge import base_map, config_records, late_file
from foregate.edge.certificates import Certificates
from foregate.edge.compiler import CannotCompile, Compiler
from foregate.edge.config_records import ConfigRecords, Loaded
from foregate.edge.fleet import Fleet, Outfit, new_name
from foregate.edge.hot_entries import HotEntries
from foregate.edge.paths import EdgePaths
from foregate.edge.roster import Memory
from foregate.edge.secrets import EdgeSecrets
from foregate.edge.state import State
from foregate.edge.token_maps import MOST_FOLDED_IN_PLACE, TokenMaps
from foregate.engines.haproxy.control import ControlError, TokenMap
from foregate.engines.haproxy.maps import MapLine
from foregate.engines.haproxy.process import ConfigurationRefused, Worker, WorkerFailed
from foregate.engines.haproxy.render import form

log = structlog.get_logger(__name__)

# Changes of one moment (an application, its policies, its ingress) make one worker.
_DEBOUNCE_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass(slots=True)
class _Wishes:
    """What the loop has to do. `since`: the cursor before the first change that no worker is being built for yet;
    `building`: the same of the worker that is being built; `launching`: the cursor when its overlay was handed over."""

    worker: str = ""
    since: int | None = 0
    building: int | None = None
    launching: int | None = None
    event: asyncio.Event = field(default_factory=asyncio.Event)


class Engine:
    """`run()` until cancelled; `want_worker` and `wake` ask for something to be done."""

    def __init__(
        self,
        *,
        paths: EdgePaths,
        fleet: Fleet,
        maps: TokenMaps,
        compiler: Compiler,
        certificates: Certificates,
        hot: HotEntries,
        in_state: Callable[..., Awaitable[Any]],
        cursor: Callable[[], int],
        on_build: Callable[[ConfigRecords], None],
    ) -> None:
        """`in_state(fn, *arguments)` runs `fn(state, *arguments)` where the state lives. `cursor`: the seq up to which
        workers were told of tokens. `on_build` is called with the records of a worker once it serves."""
        self._paths = paths
        self._fleet = fleet
        self._maps = maps
        self._compiler = compiler
        self._certificates = certificates
        self._hot = hot
        self._in_state = in_state
        self._cursor = cursor
        self._keys = ""  # of the records compiled last
        self._overlay_task: asyncio.Task[None] | None = None
        self._on_build = on_build
        self._wishes = _Wishes()
        self._base: base_map.BaseMap | None = None
        self._busy = asyncio.Lock()
        self.secrets: EdgeSecrets | None = None
        self.error = ""
        self.problems: tuple[str, ...] = ()

    def want_worker(self, reason: str, cursor: int | None = None) -> None:
        """Build a new worker. `cursor`: where the feed stood before the change that asks for it."""
        self._wishes.worker = self._wishes.worker or reason
        if cursor is not None and self._wishes.since is None:
            self._wishes.since = cursor
        self._wishes.event.set()

    def wake(self) -> None:
        """Look whether a fold is due."""
        if self._maps.wants_fold:
            self._wishes.event.set()

    def in_force(self, cursor: int) -> int:
        """Up to which seq everything is in force, where the feed was followed to `cursor`; 0 where nothing serves."""
        if self._fleet.current is None:
            return 0
        waiting = (self._wishes.since, self._wishes.building, self._wishes.launching)
        return min(cursor, *(seq for seq in waiting if seq is not None), cursor)

    async def run(self) -> None:
        """Do what is wanted, for ever. What fails is tried again."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await self._wishes.event.wait()
            await asyncio.sleep(_DEBOUNCE_SECONDS if self._fleet.current else 0)
            self._wishes.event.clear()
            try:
                async with self._busy:
                    await self._do_wishes()
                pause = _FIRST_PAUSE_SECONDS
            except (WorkerFailed, ConfigurationRefused, ControlError, ForegateError, OSError) as error:
                self.error = _describe(error)
                log.error("engine_failed", reason=self.error)
                self._wishes.event.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def settle(self, seconds: float) -> None:
        """Wait until nothing is half done, and let nothing begin; so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._busy.acquire()
        except TimeoutError:
            log.warning("engine_still_busy")

    async def accepted_records(self) -> ConfigRecords:
        """What the engine took last: the records that a worker of an earlier agent runs on."""
        loaded: Loaded = await self._in_state(config_records.load, self._mac_key())
        return config_records.arrange(config_records.with_predecessors(loaded, set(loaded.pending)))

    async def renew_certificates(self) -> None:
        """A new worker, if certificates had to be renewed."""
        if self.secrets is None:
            return
        loaded = await self._in_state(config_records.load, self._mac_key())
        if await self._ensure_certificates(config_records.arrange(loaded.newest)):
            self.want_worker("certificates were renewed")

    async def _do_wishes(self) -> None:
        if self.secrets is None:
            return
        if self._wishes.worker:
            reason, self._wishes.worker = self._wishes.worker, ""
            try:
                await self._build(reason)
            except BaseException:
                self._wishes.worker = self._wishes.worker or reason
                raise
        elif self._maps.wants_fold:
            await self._fold()

    async def _build(self, reason: str) -> None:
        started = time.monotonic()
        if self._base is None:
            await self._find_base()
        loaded: Loaded = await self._in_state(config_records.load, self._mac_key())
        if self._wishes.building is None:
            self._wishes.building = self._wishes.since
        self._wishes.since = None
        before = self._fleet.memory.keys
        refused = await self._start(loaded)
        await self._in_state(config_records.settle, loaded, refused)
        self._wishes.building = None
        self.error = ""
        log.info("worker_built", why=reason, seconds=round(time.monotonic() - started, 3), refused=len(refused))
        self._on_build(config_records.arrange(config_records.with_predecessors(loaded, set(refused))))
        await self._forget_what_others_signed(before)

    async def _forget_what_others_signed(self, before: str) -> None:
        """A worker that serves is asked about before its keys are in force: what was signed until then, by the keys
        `before`, must not be remembered for as long as it holds."""
        worker = self._fleet.current
        if worker is None or self._fleet.memory.keys == before:
            return
        try:
            await self._hot.clear()
            await worker.control.raise_generation(self._fleet.next_generation())
        except ControlError as error:
            await self._fleet.give_up(worker.control, f"it could not be made to forget: {error}")

    async def _start(self, loaded: Loaded) -> dict[str, str]:
        """Start a worker with as much of `loaded` as the compiler and HAProxy take; what was refused, and why."""
        refused: dict[str, str] = {}
        try:
            files = await self._compile(loaded, refused, name := new_name(time.time()))
            await self._launch(name, files)
        except ConfigurationRefused as error:
            suspects = [key for key in loaded.pending if key not in refused]
            if not suspects:
                raise
            log.warning("configuration_refused", suspects=len(suspects), output=error.output)
            await self._find_culprits(loaded, refused, suspects)
            files = await self._compile(loaded, refused, name := new_name(time.time()))
            await self._launch(name, files)
        return refused

    async def _compile(self, loaded: Loaded, refused: dict[str, str], name: str) -> Mapping[str, str]:
        """The files of a worker; keys that do not compile are added to `refused`."""
        while True:
            records = config_records.arrange(config_records.with_predecessors(loaded, set(refused)))
            self._keys = _fingerprint(records, await self._in_state(State.text, "id"))
            await self._ensure_certificates(records)
            versions = tuple(sorted(self._known_secrets().peppers, reverse=True))
            try:
                return await asyncio.to_thread(self._compiler.files, records, self._paths.worker_socket(name), versions)
            except CannotCompile as error:
                if error.key in refused:
                    message = "The edge's records cannot be compiled; its last good configuration stays."
                    raise ForegateError(ErrorCode.INTERNAL, message, detail=error.reason) from error
                refused[error.key] = error.reason

    async def _find_culprits(self, loaded: Loaded, refused: dict[str, str], suspects: list[str]) -> None:
        """Add to `refused` those of `suspects` that HAProxy refuses, by halves: k culprits of n cost k log n checks."""
        good: set[str] = set(loaded.pending) - set(suspects) - set(refused)

        async def judge(group: list[str]) -> None:
            left_out = set(loaded.pending) - good - set(group)
            trial = {key: "" for key in left_out}
            try:
                files = await self._compile(loaded, trial, name := new_name(time.time()))
                refused.update({key: reason for key, reason in trial.items() if key not in left_out})
                await self._fleet.check(name, self._outfit(files))
                good.update(group)
            except ConfigurationRefused as error:
                if len(group) == 1:
                    refused[group[0]] = f"HAProxy refuses it: {_first_alert(error.output)}"
                    return
                middle = len(group) // 2
                await judge(group[:middle])
                await judge(group[middle:])

        await judge(suspects)

    async def _launch(self, name: str, files: Mapping[str, str]) -> None:
        try:
            await self._fleet.start(name, self._outfit(files))
            if self._fleet.current is not None and self._base is not None:
                self._hot.copied(self._fleet.current.identity.pid)
                await self._maps.end_launch(self._base)
        finally:
            if self._overlay_task is not None:
                self._overlay_task.cancel()
            self._maps.let_go()
            self._wishes.launching = None

    def _outfit(self, files: Mapping[str, str]) -> Outfit:
        fold = self._base.fold if self._base else 0
        return Outfit(files, self._write_maps, Memory(fold, self._keys), self._known_secrets().peppers)

    async def _write_maps(self, folder: Path) -> None:
        if self._base is None:
            raise RuntimeError("a worker needs a base map")
        os.makedirs(folder, 0o700)
        os.link(self._base.path, folder / TokenMap.BASE)
        pipe = late_file.make(folder / TokenMap.OVERLAY)
        # A token revoked while HAProxy reads the big base map must not be let in again by the new worker; what comes
        # after the overlay was read is told as soon as it answers.
        self._overlay_task = asyncio.create_task(late_file.hand_over(pipe, self._take_overlay))
        await self._hot.write_copy(folder / TokenMap.HOT, self._remembering())

    def _remembering(self) -> Path | None:
        """The socket of the worker whose hot entries may be copied: what changed since the oldest of them is known, and
        they were signed by keys that are still the current ones."""
        current, memory = self._fleet.current, self._fleet.memory
        if current is None or memory.keys != self._keys or memory.fold < self._maps.since:
            return None
        return Path(current.identity.socket)

    def _take_overlay(self) -> str:
        """The overlay for the worker that starts; what changes from here on is not in force before it was told."""
        self._wishes.launching = self._cursor()
        return self._maps.begin_launch()

    async def _find_base(self) -> None:
        base = await self._in_state(base_map.find, self._paths.maps, self._mac_key())
        if base is None:
            await self._write_base()
            self._maps.since = self._base.fold if self._base else 0
        else:
            self._base = base
            self._maps.load(await self._in_state(lambda state: list(state.changed_tokens())), base)

    async def _write_base(self) -> None:
        """Write a new base map and make it the one of workers that start; the overlay still has everything."""
        self._maps.begin_fold()
        try:
            fold = await self._in_state(base_map.begin)
            base, mac = await asyncio.to_thread(_write_apart, self._paths, fold, self._mac_key())
            await self._in_state(base_map.adopt, base, mac)
        except BaseException:
            self._maps.abandon_fold()
            raise
        self._base = base
        if base.damaged:
            log.error("tokens_damaged_on_disk", count=len(base.damaged))
            await self._in_state(base_map.repair, base.damaged, self._mac_key(), self._compiler.token_entry)
            changed = dict(await self._in_state(lambda state: list(state.changed_tokens())))
            await self._maps.push({key: changed.get(key) for key in base.damaged}, must_recheck=True)

    async def _fold(self) -> None:
        """Move the overlay into the base, on disk and in the worker that serves, or in a new one."""
        await self._write_base()
        worker, base = self._fleet.current, self._base
        if worker is None or base is None:
            return
        if base.tokens > MOST_FOLDED_IN_PLACE:
            await self._build("the overlay is folded")
        else:
            await self._fold_in_place(worker, base)
        self.wake()

    async def _fold_in_place(self, worker: Worker, base: base_map.BaseMap) -> None:
        try:
            # In this order: a remembered assertion must not outlive what only the overlay says (`Control.replace`).
            await self._hot.clear()
            with base.path.open() as file:
                await worker.control.replace(TokenMap.BASE, (MapLine(*line.split()) for line in file))
            await self._maps.end_fold(base)
            self._fleet.folded(base.fold)
        except ControlError as error:
            await self._fleet.give_up(worker.control, f"the fold failed: {error}")

    async def _ensure_certificates(self, records: ConfigRecords) -> bool:
        hosts = list(self._compiler.hosts(records))
        outcome = await asyncio.to_thread(self._certificates.ensure, hosts, utc_now())
        self.problems = outcome.problems
        return outcome.has_changed

    def _known_secrets(self) -> EdgeSecrets:
        if self.secrets is None:
            raise RuntimeError("the edge has no secrets yet")
        return self.secrets

    def _mac_key(self) -> bytes:
        return self._known_secrets().record_mac_key


def _write_apart(paths: EdgePaths, fold: int, mac_key: bytes) -> tuple[base_map.BaseMap, str]:
    """Over a connection of its own, so that changes do not wait."""
    state = State(paths.state)
    try:
        return base_map.write(state, paths.maps, fold, mac_key)
    finally:
        state.close()


def _fingerprint(records: ConfigRecords, state: str) -> str:
    """Stands for the keys that sign and whom they name as issuer, for how a worker remembers what they signed, and for
    the state that its base maps are numbered in."""
    issuers = {account_id: account.auth_domain for account_id, account in records.accounts.items()}
    current = sorted((name, keys.keys[0].kid, issuers.get(name, "")) for name, keys in records.keys.items())
    return hashlib.sha256(repr((form(), state, current)).encode()).hexdigest()[:16]


def _first_alert(output: str) -> str:
    """HAProxy's first complaint, without the file's place."""
    lines = [line for line in output.splitlines() if line.startswith("[ALERT]")]
    return (lines[0] if lines else output.strip())[:300]


def _describe(error: Exception) -> str:
    detail = getattr(error, "output", "") or getattr(error, "detail", "")
    return f"{error} ({_first_alert(detail)})" if detail else str(error)
