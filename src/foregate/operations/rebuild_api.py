"""The call that sends every edge record anew: `edge-config` is made again from the records, whatever it held before.

The caller asks for one page after the other, so that no transaction is long and the publisher goes on beside it. First
come all things that the records know, then the keys that the log has and the records do not: those become tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Column, Connection, select

from foregate.api.auth import Scope
from foregate.api.envelope import Answer
from foregate.api.operations import Call, Operations
from foregate.api.parameters import QueryModel
from foregate.core.clock import Clock
from foregate.core.errors import invalid
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import enqueue
from foregate.database.records_schema import accounts, applications, edges, ingress_hostnames, service_tokens
from foregate.eventlog.model import EDGE_CONFIG, EventLog, LogAccess

# Some 20 ms of the writer's time: changes of the API wait no longer for it.
PAGE = 500
_COLUMNS: dict[str, Column[Any]] = {
    "account": accounts.c.id,
    "keys": accounts.c.id,
    "app": applications.c.id,
    "ingress": ingress_hostnames.c.hostname,
    "token": service_tokens.c.client_id,
    "edge": edges.c.id,
}
_KINDS = tuple(_COLUMNS)
_LOG = "log"


class RebuildQuery(QueryModel):
    """`after`: the `next` of the answer before; without it from the beginning."""

    after: Annotated[str, Field(max_length=300)] = ""


class RebuildApi:
    """Handler. `compile_record(connection, key)` gives a key's value now, None where it is gone; `wake` is called
    after each page."""

    def __init__(
        self,
        records: AsyncDatabase,
        telemetry: LogAccess,
        *,
        event_log: Callable[[Any], EventLog],
        compile_record: Callable[[Connection, str], dict[str, Any] | None],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._records = records
        self._telemetry = telemetry
        self._event_log = event_log
        self._compile_record = compile_record
        self._wake = wake
        self._clock = clock

    def operations(self) -> Operations:
        """The operation."""
        operations = Operations("Edges")
        operations.add(
            "POST",
            "/accounts/{account_id}/foregate/edge_config/rebuild",
            self.rebuild,
            "Send a page of all edge records anew",
            scope=Scope.INSTALLATION,
            query=RebuildQuery,
            result={
                "type": "object",
                "properties": {"records": {"type": "integer"}, "next": {"type": "string", "nullable": True}},
                "required": ["records", "next"],
            },
        )
        return operations

    async def rebuild(self, call: Call[RebuildQuery, None]) -> Answer:
        """How many records the page had, and where the next one begins: `kind/name`, or `log/seq`."""
        kind, _, name = (call.query.after or f"{_KINDS[0]}/").partition("/")
        if kind == _LOG:
            return await self._unknown(name)
        if kind not in _COLUMNS:
            raise invalid("Give the next of the answer before.", pointer="?after")
        column = _COLUMNS[kind]
        names = await self._records.read(
            lambda c: c.execute(select(column).where(column > name).order_by(column).limit(PAGE)).scalars().all()
        )
        await self._send([f"{kind}/{name}" for name in names])
        if len(names) == PAGE:
            following = f"{kind}/{names[-1]}"
        else:
            place = _KINDS.index(kind) + 1
            following = f"{_KINDS[place]}/" if place < len(_KINDS) else f"{_LOG}/0"
        return Answer({"records": len(names), "next": following})

    async def _unknown(self, after: str) -> Answer:
        """What the log has of things that are gone from the records. What came into it meanwhile is among them, and is
        passed by: it is as new as can be."""
        if not after.isdecimal() or len(after) > 18:
            raise invalid("Give the next of the answer before.", pointer="?after")
        page = await self._telemetry.read(lambda c: self._event_log(c).read(EDGE_CONFIG, int(after), limit=PAGE))
        keys = [record.key for record in page if not record.is_tombstone]
        gone = await self._records.read(lambda c: [key for key in keys if self._is_gone(c, key)])
        await self._send(gone)
        return Answer({"records": len(gone), "next": f"{_LOG}/{page[-1].offset}" if page else None})

    def _is_gone(self, connection: Connection, key: str) -> bool:
        try:
            return self._compile_record(connection, key) is None
        except Exception:  # damaged, or of a kind that nobody knows: the publisher says so of what it is asked to send
            return False

    async def _send(self, keys: Sequence[str]) -> None:
        if keys:
            now = self._clock()
            await self._records.write(lambda connection: [enqueue(connection, key, now) for key in keys])
            self._wake()
