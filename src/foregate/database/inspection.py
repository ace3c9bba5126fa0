"""Looking into a database from outside, without rights to change it and without a trace: `foregate status`, `doctor`.

A product that runs on it is not disturbed: a reader of a WAL holds up nobody (sqlite.org/wal.html).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DatabaseError

_PATIENCE_SECONDS = 2


@contextmanager
def look_into(path: Path) -> Iterator[Connection]:
    """A read-only connection to the SQLite file `path`, in one snapshot. sqlalchemy.exc.DatabaseError where it is
    absent, damaged or no database; nothing is made anew."""
    engine = create_engine("sqlite://", creator=lambda: _open(path), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
    finally:
        engine.dispose()


def find_damage(path: Path) -> str:
    """What is wrong with the file as a database (`PRAGMA quick_check`), in SQLite's words; empty if nothing is."""
    try:
        with look_into(path) as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    except DatabaseError as error:
        return str(error.orig)
    return "" if found == "ok" else " ".join(found.split())


def _open(path: Path) -> sqlite3.Connection:
    # Without a WAL beside it nobody has it open: then it is read as it lies there, and no WAL is left behind.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    raw = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=_PATIENCE_SECONDS)
    raw.isolation_level = None
    return raw
