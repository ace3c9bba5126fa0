"""Which stores a home has: files in it, or a PostgreSQL database that the settings name. Nothing else asks which."""

from __future__ import annotations

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.migrate import HEADS, current_revision
from foregate.database.stores import SqliteStore, Stores
from foregate.services.home import Home
from foregate.services.settings import Settings


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
