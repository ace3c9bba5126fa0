"""Who may do what to which table: on PostgreSQL enforced by grants (`postgresql/roles.py`), on SQLite by its authorizer
callback on every connection.

The callback sees each statement when it is prepared, so that a forbidden one never runs, hand-written SQL included.
A `Rights` value is written down in the schema module of its database, beside the tables.
Source: sqlite.org/c3ref/set_authorizer.html.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]

_ALWAYS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_RECURSIVE}
)
_PRAGMAS = frozenset({"journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_checkpoint", "data_version"})
_SYSTEM_TABLES = frozenset({"sqlite_master", "sqlite_schema", "sqlite_sequence", "alembic_version"})


@dataclass(frozen=True, slots=True)
class TableRights:
    """Rights on one table. `updatable` names the columns that UPDATE may set."""

    may_read: bool = True
    may_insert: bool = False
    may_delete: bool = False
    updatable: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Rights:
    """What one user of a database may do, by table. A table that is not named may not even be read."""

    user: str
    tables: Mapping[str, TableRights]


def authorizer(rights: Rights) -> Authorizer:
    """The callback for `sqlite3.Connection.set_authorizer` that grants exactly `rights`."""

    def decide(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
        allowed = _is_allowed(rights, action, first or "", second or "")
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    return decide


def _is_allowed(rights: Rights, action: int, first: str, second: str) -> bool:
    if action in _ALWAYS:
        return True
    if action == sqlite3.SQLITE_FUNCTION:
        return second.lower() not in ("load_extension", "writefile", "readfile")
    if action == sqlite3.SQLITE_PRAGMA:
        return first.lower() in _PRAGMAS
    if action == sqlite3.SQLITE_READ and first in _SYSTEM_TABLES:
        return True
    if action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE) and first == "sqlite_sequence":
        return True
    table = rights.tables.get(first)
    if table is None:
        return False
    match action:
        case sqlite3.SQLITE_READ:
            return table.may_read
        case sqlite3.SQLITE_INSERT:
            return table.may_insert
        case sqlite3.SQLITE_DELETE:
            return table.may_delete
        case sqlite3.SQLITE_UPDATE:
            return second in table.updatable
        case _:
            return False
