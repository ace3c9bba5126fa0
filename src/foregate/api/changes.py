"""How a handler writes: one transaction, the answer kept for the caller's retry, the publisher woken after commit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from foregate.api.envelope import Answer
from foregate.api.idempotency import StillTrue, purge, run_once
from foregate.api.operations import Call
from foregate.database.engine import AsyncDatabase

_PURGED_EVERY = timedelta(minutes=1)


class Changes:
    """Writes of the API process to the records. `on_commit(seq)` is called after a commit that concerns the edges."""

    def __init__(self, database: AsyncDatabase, on_commit: Callable[[int], None]) -> None:
        self.database = database
        self._on_commit = on_commit
        self._purged_at = datetime.min.replace(tzinfo=UTC)

    async def run(
        self, call: Call[Any, Any], work: Callable[[Connection], Answer], *, still_true: StillTrue | None = None
    ) -> Answer:
        """`work(connection)` in one transaction, committed when this returns; its error undoes it whole.

        Where the call is the caller's own retry of one that was carried out, and its answer was kept
        (`Answer.is_kept_for_retry`) and still holds (`still_true`), that answer comes back and `work` does not run.
        """
        is_purging = call.at - self._purged_at >= _PURGED_EVERY
        if is_purging:
            self._purged_at = call.at

        def write(connection: Connection) -> Answer:
            if is_purging:
                purge(connection, call.at)
            return run_once(connection, call, work, still_true)

        answer = await self.database.write(write)
        if answer.change_seq is not None:
            self._on_commit(answer.change_seq)
        return answer
