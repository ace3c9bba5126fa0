"""Asking a database from outside, without rights to change it and without a trace: `foregate status` and `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, NullPool, create_engine

from foregate.database.damage import open_read_only


@contextmanager
def look_into(path: Path) -> Iterator[Connection]:
    """A read-only connection to the SQLite file `path`, in one snapshot. sqlalchemy.exc.DatabaseError where it is
    absent, damaged or no database; nothing is made anew."""
    engine = create_engine(
        "sqlite://", creator=lambda: open_read_only(path), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
    finally:
        engine.dispose()
