"""Making the views of this home's events anew, beside whatever runs. See `access/events/rebuild.py`."""

from __future__ import annotations

from contextlib import closing

from foregate.access.events.rebuild import Rebuilt, rebuild_counts, rebuild_index, rebuild_last_seen
from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.stores import Store
from foregate.database.telemetry_schema import LAST_SEEN_WRITER, REBUILD
from foregate.services.settings import Settings
from foregate.services.stores import stores_of


def rebuild_last_seen_of(settings: Settings) -> list[Rebuilt]:
    """ "Last seen", from the log."""
    with closing(_telemetry(settings).open(LAST_SEEN_WRITER)) as database:
        return [rebuild_last_seen(database)]


def rebuild_events_of(settings: Settings) -> list[Rebuilt]:
    """The index by which events are found, and the counts per minute, from the log."""
    with closing(_telemetry(settings).open(REBUILD)) as database:
        return [rebuild_index(database), rebuild_counts(database)]


def _telemetry(settings: Settings) -> Store:
    telemetry = stores_of(settings).telemetry
    if not telemetry.exists():
        message = f"{telemetry.where} is missing; start foregate up, or set FOREGATE_HOME."
        raise ForegateError(ErrorCode.UNAVAILABLE, message)
    telemetry.upgrade()
    return telemetry
