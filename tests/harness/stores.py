"""Stores as tests want them: empty ones of the newest schema, and what is in one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, MetaData, select

from foregate.database.stores import SqliteStore, Stores


def sqlite_stores(folder: Path) -> Stores:
    """Both, in `folder`."""
    found = Stores(*(SqliteStore(folder / f"{tree}.db", tree) for tree in ("records", "telemetry")))
    found.records.upgrade()
    found.telemetry.upgrade()
    return found


def content_of(connection: Connection, metadata: MetaData) -> bytes:
    """Every value of every row, texts and bytes as they are."""
    found = []
    for table in metadata.tables.values():
        for row in connection.execute(select(table)):
            found += [value if isinstance(value, bytes) else str(value).encode() for value in row]
    return b"\n".join(found)
