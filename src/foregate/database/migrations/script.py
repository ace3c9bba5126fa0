"""Running a migration's SQL file in the migration's transaction: `0001_initial.sql`, or for PostgreSQL
`0001_initial.postgresql.sql` beside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection


def run_script(connection: Connection, path: Path) -> None:
    """Execute `path`, or the file beside it for the connection's database. Both lead to the same tables."""
    if connection.dialect.name == "postgresql":
        # Past SQLAlchemy, whose way of sending a statement takes one at a time.
        connection.connection.cursor().execute(path.with_suffix(".postgresql.sql").read_text())
        return
    statement = ""
    for line in path.read_text().splitlines(keepends=True):
        statement += line
        # A statement ends where SQLite says so, triggers with inner `;` included.
        if statement.strip() and sqlite3.complete_statement(statement):
            connection.exec_driver_sql(statement)
            statement = ""
    if statement.strip():
        raise ValueError(f"{path.name} ends within a statement")


def drop_everything(connection: Connection) -> None:
    """Drop every table but Alembic's own; indexes and triggers go with them."""
    if connection.dialect.name == "postgresql":
        connection.connection.cursor().execute(_DROP_ALL)
        return
    query = "SELECT name FROM sqlite_master WHERE type='{}' AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'"
    for kind in ("trigger", "table"):
        for (name,) in connection.exec_driver_sql(query.format(kind)).fetchall():
            connection.exec_driver_sql(f'DROP {kind.upper()} "{name}"')


_DROP_ALL = """
DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema AND tablename <> 'alembic_version'
    LOOP EXECUTE format('DROP TABLE %I CASCADE', found.tablename); END LOOP;
    FOR found IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = current_schema::regnamespace
    LOOP EXECUTE format('DROP FUNCTION %s', found.name); END LOOP;
END $$
"""
