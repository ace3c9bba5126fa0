"""Making the views of this home's events anew, beside whatever runs. See `access/events/rebuild.py`."""

from __future__ import annotations

from contextlib import closing

from foregate.access.events.rebuild import Rebuilt, rebuild_counts, rebuild_index, rebuild_last_seen
from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.engine import Database
from foregate.database.migrate import upgrade
from foregate.database.telemetry_schema import LAST_SEEN_WRITER, REBUILD
from foregate.services.home import Home


def rebuild_last_seen_of(home: Home) -> list[Rebuilt]:
    """ "Last seen", from the log."""
    _require(home)
    with closing(Database(home.telemetry_db, LAST_SEEN_WRITER)) as database:
        return [rebuild_last_seen(database)]


def rebuild_events_of(home: Home) -> list[Rebuilt]:
    """The index by which events are found, and the counts per minute, from the log."""
    _require(home)
    with closing(Database(home.telemetry_db, REBUILD)) as database:
        return [rebuild_index(database), rebuild_counts(database)]


def _require(home: Home) -> None:
    if not home.telemetry_db.exists():
        message = f"{home.telemetry_db} is missing; start foregate up, or set FOREGATE_HOME."
        raise ForegateError(ErrorCode.UNAVAILABLE, message)
    upgrade(home.telemetry_db, "telemetry")
