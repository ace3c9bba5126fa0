"""Last uses, read from telemetry for whoever shows tokens (`access.tokens.model.LastSeenReader`). Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from foregate.access.events import store
from foregate.access.events.consumers import LastSeen
from foregate.access.events.freshness import Freshness, assess
from foregate.access.tokens.model import LastSeenReport, Sighting
from foregate.core.clock import Clock, from_micros
from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.engine import AsyncDatabase


class TelemetryLastSeen:
    """A `LastSeenReader`. `records` says which edges there are; `telemetry` is open with the rights INGEST."""

    def __init__(self, telemetry: AsyncDatabase, records: AsyncDatabase, clock: Clock) -> None:
        self._telemetry = telemetry
        self._records = records
        self._clock = clock

    async def last_seen(self, client_ids: Sequence[str]) -> LastSeenReport:
        """See `LastSeenReader.last_seen`."""
        edges = await self._records.read(store.live_edges)
        edge_ids = [edge.id for edge in edges]

        def read(connection: Connection) -> tuple[dict[str, tuple[int, str]], Freshness]:
            # Freshness first: what it promises is then surely in the sightings.
            freshness = read_freshness(connection, edge_ids, self._clock)
            return store.sightings(connection, client_ids), freshness

        try:
            found, freshness = await self._telemetry.read(read)
        except DatabaseError as error:
            message = "What is known of last uses cannot be read now; try again."
            raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=str(error.orig)) from error
        sightings = {
            client_id: Sighting(from_micros(seen_at), edge_id) for client_id, (seen_at, edge_id) in found.items()
        }
        return LastSeenReport(sightings, freshness.accuracy_seconds, freshness.coverage)


def read_freshness(telemetry: Connection, edge_ids: Sequence[str], clock: Clock) -> Freshness:
    """How fresh "last seen" is now."""
    unread_at = store.unread_at(telemetry, LastSeen.name)
    return assess(edge_ids, store.edge_reports(telemetry), unread_at, clock())
