"""Which stores a home has: files in it, or a PostgreSQL database that the settings name. Nothing else asks which."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

import structlog

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.engine import Away
from foregate.database.migrate import HEADS, current_revision
from foregate.database.stores import SqliteStore, Stores
from foregate.services.home import Home
from foregate.services.settings import Settings

T = TypeVar("T")
_TRIED_EVERY_SECONDS = 1.0


def stores_of(settings: Settings) -> Stores:
    """The home's stores; nothing is opened yet. ForegateError(UNAVAILABLE) where PostgreSQL's driver is missing."""
    home = Home(settings.home)
    if settings.database is None:
        return Stores(SqliteStore(home.records_db, "records"), SqliteStore(home.telemetry_db, "telemetry"))
    require_driver()
    from foregate.database.postgresql.roles import Passwords
    from foregate.database.postgresql.store import PostgresqlStore

    passwords = Passwords(home.database)
    records, telemetry = (PostgresqlStore(settings.database, tree, passwords) for tree in ("records", "telemetry"))
    return Stores(records, telemetry)


async def when_there(step: Callable[[], T], told: asyncio.Event) -> T | None:
    """The result of `step`, run on a thread, as soon as the stores are there: a database that is away at the start is
    waited for. None where the process is told to end meanwhile. Other errors are raised at once."""
    log = structlog.get_logger("foregate.stores")
    while not told.is_set():
        try:
            return await asyncio.to_thread(step)
        except Away as error:
            log.error("database_away", error=error.message, detail=error.detail)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TRIED_EVERY_SECONDS):
                await told.wait()
    return None


def look_at(stores: Stores) -> str:
    """Where they are and at which schema, in words. ForegateError(UNAVAILABLE) where they cannot be used."""
    found = []
    for store in (stores.records, stores.telemetry):
        with store.look_into() as connection:
            revision = current_revision(connection)
        if revision != HEADS[store.tree]:
            message = f"{store.where} has the schema {revision or 'of nothing'}, and {HEADS[store.tree]} is wanted; "
            raise ForegateError(ErrorCode.UNAVAILABLE, f"{message}run the newest Foregate, or: foregate database setup")
        found.append(f"{store.where} at {revision}")
    return "; ".join(found)


def require_driver() -> None:
    """ForegateError(UNAVAILABLE) where what speaks to PostgreSQL is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        message = "PostgreSQL needs a driver that is not here; install it: pip install 'foregate[postgresql]'"
        raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=str(error)) from error
