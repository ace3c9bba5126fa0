"""Bringing a database to its newest schema, or to any revision, with Alembic. Called before a process opens it."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, inspect

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.sqlite import SqliteDatabase

TREES = ("records", "telemetry")
# The newest revision of each tree; a test compares it with the scripts, so that start-up need not import Alembic.
HEADS = {"records": "0002", "telemetry": "0002"}


def upgrade(path: Path, tree: str) -> None:
    """Make or bring up the SQLite file `path` to the newest schema. Does nothing, fast, if it is there already.

    Raises ForegateError(UNAVAILABLE) for a database that a newer Foregate wrote.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    database = SqliteDatabase(path, None)
    try:
        with database.read() as connection:
            revision = current_revision(connection)
        if revision == HEADS[tree]:
            return
        if revision is not None and revision > HEADS[tree]:
            message = f"{path} was written by a newer Foregate (schema {revision}); run that version or restore a copy."
            raise ForegateError(ErrorCode.UNAVAILABLE, message)
        with database.write() as connection:
            move(connection, tree, "head")
    finally:
        database.close()


def current_revision(connection: Connection) -> str | None:
    """The schema's revision, None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return None if row is None else str(row[0])


def move(connection: Connection, tree: str, revision: str) -> None:
    """Run the scripts of `tree` from where the database is to `revision` (`head`, `base`, a number), up or down."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations" / tree))
    config.attributes["connection"] = connection
    current = current_revision(connection)
    if revision == "base" or (revision != "head" and current is not None and revision < current):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)
