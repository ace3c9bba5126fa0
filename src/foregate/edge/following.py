"""What the agent does with the feed: records into the state, changes into HAProxy, and word of it to the control plane.

The state lives on one thread; `in_state` is the only way to it. The feed client calls one method at a time.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from foregate.core.records import RecordRefused, open_record
from foregate.edge import base_map, wire
from foregate.edge.compiler import entry_form
from foregate.edge.engine import Engine
from foregate.edge.feed_client import Expelled, FeedBroken
from foregate.edge.feed_lines import SnapshotEnd
from foregate.edge.identity import EdgeIdentity
from foregate.edge.intake import Intake, Taken, TokenEntry
from foregate.edge.parsing import parse_edge
from foregate.edge.paths import EdgePaths
from foregate.edge.rollout import EDGE_KIND, Checks, claimed_key
from foregate.edge.sealing import SealBroken
from foregate.edge.secrets import EdgeSecrets, keep_secrets
from foregate.edge.signing import open_signer
from foregate.edge.state import State, StateDamaged
from foregate.edge.token_maps import TokenMaps

T = TypeVar("T")
log = structlog.get_logger(__name__)

# How often a feed that brings more than folds can take is looked at again.
_BACKPRESSURE_SECONDS = 0.1


class StateThread:
    """A `State` and the one thread that may use it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._thread = ThreadPoolExecutor(1, "state")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(state, *arguments)`, after what was asked for before.

        OSError where the disk does not do its part (it is full, say): nothing was kept, and a later try may do better.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._state, *arguments)
        except sqlite3.OperationalError as error:
            raise OSError(f"the edge's state cannot be used: {error}") from error

    def close(self) -> None:
        """Finish what was asked for and close the file."""
        self._thread.submit(self._state.close)
        self._thread.shutdown()


class Following:
    """The agent's `FeedHandler`. `prepare` before each connection: it fetches the secrets."""

    def __init__(
        self,
        *,
        paths: EdgePaths,
        identity: EdgeIdentity,
        state: StateThread,
        fetch_secrets: Callable[[], Awaitable[bytes]],
        engine: Engine,
        maps: TokenMaps,
        token_entry: TokenEntry,
        on_change: Callable[[], None],
    ) -> None:
        """`fetch_secrets`: see `Link`. `on_change` is called when there is something to report."""
        self._paths = paths
        self._identity = identity
        self._state = state
        self._fetch_secrets = fetch_secrets
        self._engine = engine
        self._maps = maps
        self._token_entry = token_entry
        self._on_change = on_change
        self._intake: Intake | None = None
        self._cursor = 0
        self._is_complete = False
        # Why records of this connection could not be kept, or ''.
        self.problem = ""

    async def start(self) -> None:
        """Serve what is on disk, if the edge has ever been given the whole state."""
        self._cursor = await self._state.run(State.number, "cursor")
        self._is_complete = bool(await self._state.run(State.number, "is_complete"))
        try:
            secrets = self._identity.open(self._paths.secrets.read_bytes())
            problem = ""
        except FileNotFoundError:
            secrets, problem = None, "they are missing" if self._is_complete else ""
        except SealBroken as error:
            secrets, problem = None, str(error)
        if secrets is not None:
            await self._know(secrets)
        elif problem:
            self.problem = "the edge's secrets on its disk cannot be used; the control plane is asked for them"
            log.error("secrets_not_usable", reason=problem)

    def cursor(self) -> int:
        """See `FeedHandler.cursor`."""
        return self._cursor

    async def prepare(self) -> None:
        """Before each connection. FeedBroken where the secrets cannot be had."""
        # Whoever finds a record damaged on the disk puts the position kept there back.
        self._cursor = await self._state.run(State.number, "cursor")
        await self._take_secrets(await self._fetch_secrets())
        self.problem = ""
        if self._intake is not None:
            self._intake.abandon_snapshot()

    async def take(self, records: list[dict[str, object]]) -> None:
        """See `FeedHandler.take`."""
        await self._take_own(records)
        before = self._cursor
        try:
            # Once something could not be kept, nothing after it may be, or it would never be asked for again.
            taken = None if self.problem else await self._change(lambda intake: intake.take(records))
        except FeedBroken as error:
            taken, self.problem = None, str(error)
            log.error("records_not_kept", reason=self.problem)
        if taken is None:
            # A revocation does not wait for a disk.
            revoked = await self._ask(lambda intake: intake.revocations(records))
            await self._maps.push(revoked, must_recheck=True, is_kept=False)
            return
        await self._bring(taken, before)
        while self._maps.is_full:  # noqa: ASYNC110 (a fold ends seldom, and here nobody waits but the feed)
            await asyncio.sleep(_BACKPRESSURE_SECONDS)

    async def begin_snapshot(self) -> None:
        """See `FeedHandler.begin_snapshot`."""
        await self._change(Intake.begin_snapshot)

    async def end_snapshot(self, end: SnapshotEnd) -> None:
        """See `FeedHandler.end_snapshot`."""
        if self.problem:
            raise FeedBroken(self.problem)
        before = self._cursor
        taken = await self._change(lambda intake: intake.end_snapshot(end.seq, end.records))
        await self._bring(taken, before)
        await self._complete()

    async def passed(self, seq: int) -> None:
        """See `FeedHandler.passed`."""
        if not self.problem:
            before = self._cursor
            await self._bring(await self._change(lambda intake: intake.passed(seq)), before)

    async def caught_up(self, seq: int) -> None:
        """See `FeedHandler.caught_up`. Where something could not be kept, this is the moment to ask for it again."""
        if self.problem:
            raise FeedBroken(self.problem)
        await self._change(lambda _: None)  # whether the position still holds
        if seq and seq <= self._cursor:
            await self._complete()

    async def _take_own(self, records: list[dict[str, object]]) -> None:
        """What records say of this edge itself: that it is expelled, or other secrets. Looked at before the rest of
        the batch, which may need them."""
        own = f"{EDGE_KIND}/{self._identity.edge_id}"
        for wire_record in records:
            if claimed_key(wire_record) != own or self._intake is None:
                continue
            try:
                record = open_record(self._intake.checks.mac_key, wire_record)
                value = parse_edge(record.value) if record.value is not None else None
            except RecordRefused as error:
                log.error("record_refused", key=own, reason=str(error))
                continue
            if value is not None and value.is_expelled:
                raise Expelled
            if value is not None:
                await self._take_secrets(value.sealed)

    async def _take_secrets(self, sealed: bytes) -> None:
        """Go on with these, if they are others. FeedBroken where they are not this edge's, or cannot be kept."""
        try:
            secrets = self._identity.open(sealed)
        except SealBroken as error:
            raise FeedBroken("the control plane's secrets do not open under this edge's key") from error
        known = self._engine.secrets
        if known is not None and (secrets == known or secrets.is_older_than(known)):
            return
        try:
            await asyncio.to_thread(keep_secrets, self._paths.secrets, sealed)
            await self._know(secrets)
        except OSError as error:
            raise FeedBroken(str(error)) from error

    async def _bring(self, taken: Taken, before: int) -> None:
        """From the state into HAProxy, and to those who want to know."""
        if taken.tokens:
            await self._maps.push(taken.tokens, must_recheck=taken.must_recheck)
            self._engine.wake()
        if taken.keys and self._is_complete:
            self._engine.want_worker("records changed", before)
        for note in taken.notes:
            log.error("record_refused", key=note.key, seq=note.seq, reason=note.reason)
        self._cursor = taken.cursor
        self._on_change()

    async def _change(self, work: Callable[[Intake], T]) -> T:
        """What the feed brings, into the state. FeedBroken where the disk refuses it, or has lost what came before."""
        cursor = self._cursor

        def change(intake: Intake) -> T:
            if intake.position() < cursor:
                raise FeedBroken("records were damaged on the edge's disk; all are asked for again")
            return work(intake)

        return await self._ask(change)

    async def _ask(self, work: Callable[[Intake], T]) -> T:
        if self._intake is None:
            raise RuntimeError("records before secrets")
        intake = self._intake
        try:
            return await self._state.run(lambda _: work(intake))
        except OSError as error:
            raise FeedBroken(str(error)) from error

    async def _complete(self) -> None:
        """The edge has been given everything once; from now on it may serve from its disk alone."""
        if not self._is_complete:
            try:
                await self._state.run(_set_complete)
            except OSError as error:
                raise FeedBroken(str(error)) from error
            self._is_complete = True
            self._engine.want_worker("the first whole state is here")

    async def _know(self, secrets: EdgeSecrets) -> None:
        """Go on with these secrets; what waited for them is looked at again."""
        old = self._engine.secrets

        def check_keys(value: wire.KeysValue) -> None:
            open_signer(secrets.sealing_key, value)

        with suppress(OSError):  # a full disk: it is claimed another time
            await self._state.run(_claim, secrets.record_mac_key)
        form = entry_form(self._token_entry)
        await self._state.run(base_map.renew, form, secrets.record_mac_key, self._token_entry)
        self._engine.secrets = secrets
        checks = Checks(secrets.record_mac_key, frozenset(secrets.peppers), check_keys)
        if self._intake is None:
            self._intake = Intake(await self._state.run(lambda state: state), checks, self._token_entry)
        self._intake.checks = checks
        if old is not None:
            log.info("secrets_changed", peppers=sorted(secrets.peppers))
            self._engine.want_worker("the edge's secrets changed")
        elif self._is_complete:
            self._engine.want_worker("the edge starts")
        before = self._cursor
        await self._bring(await self._change(Intake.retry_held), before)


def _set_complete(state: State) -> None:
    with state.transaction():
        state.set_number("is_complete", 1)


def _claim(state: State, mac_key: bytes) -> None:
    """The state belongs to the control plane with this key: to serve it under another's peppers would turn every token
    away. StateDamaged where it is another's."""
    mark = hmac.digest(mac_key, b"foregate edge state", "sha256").hex()
    known = state.text("sealed_by")
    if known and known != mark:
        raise StateDamaged("its records are sealed under another key")
    if not known:
        with state.transaction():
            state.set_text("sealed_by", mark)
