"""Running a migration's SQL file, statement by statement, in the migration's transaction."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection


def run_script(connection: Connection, path: Path) -> None:
    """Execute each statement of `path`. A statement ends where SQLite says so, triggers with inner `;` included."""
    statement = ""
    for line in path.read_text().splitlines(keepends=True):
        statement += line
        if statement.strip() and sqlite3.complete_statement(statement):
            connection.exec_driver_sql(statement)
            statement = ""
    if statement.strip():
        raise ValueError(f"{path.name} ends within a statement")


def drop_everything(connection: Connection) -> None:
    """Drop every table but Alembic's own; indexes and triggers go with them."""
    query = "SELECT name FROM sqlite_master WHERE type='{}' AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'"
    for kind in ("trigger", "table"):
        for (name,) in connection.exec_driver_sql(query.format(kind)).fetchall():
            connection.exec_driver_sql(f'DROP {kind.upper()} "{name}"')
