"""The calls about events: Cloudflare's access requests, the tail of all decisions, counts per minute. All only read."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from foregate.access.events import store
from foregate.access.events.events import Event
from foregate.access.events.intake import Arrivals
from foregate.access.events.queries import (
    AccessRequestsQuery,
    EventsQuery,
    RollupsQuery,
    micros,
    parse_fields,
)
from foregate.access.events.scan import START, Found, Place, Wanted, parse_place, search_back, search_on
from foregate.access.events.views import (
    ACCESS_REQUEST_FIELDS,
    AccessRequestView,
    EventView,
    RollupView,
    TailInfo,
    access_request_view,
    event_view,
    moment,
)
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.operations import Call, Operations
from foregate.api.paging import PageInfo
from foregate.core.clock import to_micros
from foregate.core.decision import MEANINGS
from foregate.core.errors import invalid, not_found
from foregate.core.ids import CLIENT_ID
from foregate.database.engine import AsyncDatabase

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MINUTE = 60_000_000
# Threads of the reading pool that searches may take; the others are for what must not wait behind them.
_SEARCHES_AT_ONCE = 2


class EventsApi:
    """Handlers. `telemetry` is open with the rights INGEST; `records` gives names and says what an account owns."""

    def __init__(self, telemetry: AsyncDatabase, records: AsyncDatabase, arrivals: Arrivals) -> None:
        self._telemetry = telemetry
        self._records = records
        self._arrivals = arrivals
        self._searches = asyncio.Semaphore(_SEARCHES_AT_ONCE)

    def operations(self) -> Operations:
        """The operations."""
        operations = Operations("Access events", Family.LOGS)
        base = "/accounts/{account_id}"
        for path in ("access_requests", "access-requests"):
            operations.add(
                "GET",
                f"{base}/access/logs/{path}",
                self.access_requests,
                "List requests with a known service token",
                query=AccessRequestsQuery,
                result=AccessRequestView,
                is_list=True,
                info=TailInfo,
            )
        operations.add(
            "GET",
            f"{base}/foregate/events",
            self.tail,
            "List or follow the edges' decisions, the oldest first",
            query=EventsQuery,
            result=EventView,
            is_list=True,
            info=TailInfo,
        )
        operations.add(
            "GET",
            f"{base}/foregate/rollups",
            self.rollups,
            "Count decisions per minute, application and reason",
            query=RollupsQuery,
            result=RollupView,
            is_list=True,
        )
        return operations

    async def access_requests(self, call: Call[AccessRequestsQuery, None]) -> Answer:
        """Decisions about known tokens, in the order in which they arrived or its reverse."""
        query = call.query
        fields = parse_fields(query.fields, ACCESS_REQUEST_FIELDS)
        wanted, size, skip = query.wanted(call.account_id), query.size, (query.page - 1) * query.size

        def search(telemetry: Connection) -> Found:
            if query.direction == "desc":
                return search_back(telemetry, wanted, None, size, skip)
            return search_on(telemetry, wanted, START, size, skip)

        found = await self._search(search) if query.may_match() else Found([], START, False)
        items = await self._records.read(lambda records: _access_requests(records, found))
        # No totals, as with Cloudflare: they would mean reading every batch.
        info = TailInfo(query.page, size, len(items), 0, 0, is_complete=not found.is_cut)
        shown = [{name: value for name, value in item.items() if name in fields} for item in items]
        return Answer(shown, info=info)

    async def tail(self, call: Call[EventsQuery, None]) -> Answer:
        """The newest events, or those before or after a cursor; with `wait` as soon as there are any."""
        query = call.query
        if query.after is not None and query.before is not None:
            raise invalid("Give after or before, not both.", pointer="?before")
        if query.wait and query.after is None:
            raise invalid("wait goes with after: the cursor of an earlier answer.", pointer="?wait")
        # What reached no account's application belongs to nobody: shown to those who may see every account.
        wanted = query.wanted(call.account_id, has_unowned=call.principal.account_id is None)
        wanted = await self._records.read(lambda records: _resolved(records, wanted, query, call.account_id))
        if query.after is not None:
            found = await self._follow(wanted, parse_place(query.after, pointer="?after"), query)
            older = found.events[0][0] if found.events else found.reached
            return _answer(found.events, query, cursor=found.reached, older=older, is_cut=found.is_cut)
        before = None if query.before is None else parse_place(query.before, pointer="?before")
        found = await self._search(lambda telemetry: search_back(telemetry, wanted, before, query.limit))
        return _answer(found.events[::-1], query, cursor=found.began, older=found.reached, is_cut=found.is_cut)

    async def rollups(self, call: Call[RollupsQuery, None]) -> Answer:
        """Counts per minute, the newest first."""
        query, now = call.query, to_micros(call.at)
        until = micros(query.until, now + _MINUTE, pointer="?until")
        since = micros(query.since, until - 61 * _MINUTE, pointer="?since")
        rows = await self._telemetry.read(
            lambda telemetry: store.rollups(
                telemetry, call.account_id, since // _MINUTE, -(-until // _MINUTE), query.limit
            )
        )
        items: list[RollupView] = [
            {
                "minute": moment(row.minute * _MINUTE),
                "app_id": row.app_id,
                "outcome": MEANINGS[row.reason].outcome.value,
                "reason": row.reason.value,
                "events": row.events,
            }
            for row in rows
        ]
        return Answer(items, info=PageInfo(1, query.limit, len(items), len(items), 1))

    async def _follow(self, wanted: Wanted, after: Place, query: EventsQuery) -> Found:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + query.wait
        while True:
            coming = self._arrivals.coming()
            found = await self._search(partial(search_on, wanted=wanted, after=after, limit=query.limit))
            if found.events or found.is_cut or self._arrivals.is_over or loop.time() >= deadline:
                return found
            after = found.reached
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await coming.wait()

    async def _search(self, search: Callable[[Connection], Found]) -> Found:
        async with self._searches:
            return await self._telemetry.read(search)


def _answer(
    events: list[tuple[Place, Event]], query: EventsQuery, *, cursor: Place, older: Place, is_cut: bool
) -> Answer:
    info = TailInfo(1, query.limit, len(events), 0, 0, cursor=str(cursor), older=str(older), is_complete=not is_cut)
    return Answer([event_view(place, event) for place, event in events], info=info)


def _resolved(records: Connection, wanted: Wanted, query: EventsQuery, account_id: str) -> Wanted:
    """The search with the ids of the token and application that the query names."""
    if query.token is not None:
        is_client_id = CLIENT_ID.fullmatch(query.token) is not None
        client_ids = [query.token] if is_client_id else store.client_ids_of(records, account_id, query.token)
        if not client_ids:
            raise not_found("service token")
        wanted = replace(wanted, client_ids=frozenset(client_ids))
    if query.app is not None:
        # An id is taken as it is: the application may be deleted, its events are not.
        app_ids = (
            [query.app] if _UUID.fullmatch(query.app) else store.application_ids_of(records, account_id, query.app)
        )
        if not app_ids:
            raise not_found("application")
        wanted = replace(wanted, app_ids=frozenset(app_ids))
    return wanted


def _access_requests(records: Connection, found: Found) -> list[AccessRequestView]:
    tokens = store.token_ids(records, (event.client_id for _, event in found.events))
    applications = store.applications_of(records, (event.app_id for _, event in found.events))
    return [
        access_request_view(event, tokens[event.client_id], applications.get(event.app_id))
        for _, event in found.events
        if event.client_id in tokens
    ]
