"""The two stores, records and telemetry, wherever they are kept. Knows no SQL engine; `services/` chooses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from foregate.database.engine import Database
from foregate.database.inspection import look_into
from foregate.database.migrate import upgrade
from foregate.database.rights import Rights
from foregate.database.sqlite import SqliteDatabase


class Store(Protocol):
    """One of the two."""

    @property
    def tree(self) -> str:
        """`records` or `telemetry`."""
        ...

    @property
    def where(self) -> str:
        """Where it is, in words for people."""
        ...

    def exists(self) -> bool:
        """Whether it was ever made, as far as one can tell without asking it."""
        ...

    def open(self, rights: Rights) -> Database:
        """The store, for a user of these rights and no others."""
        ...

    def open_as_owner(self) -> Database:
        """The store with all rights, for whoever changes or carries the whole of it, and for nobody else."""
        ...

    def upgrade(self) -> None:
        """Bring it to the newest schema; fast if it is there already. Safe to call from several processes at once.

        Raises ForegateError(UNAVAILABLE) for a store that a newer Foregate wrote, or that cannot be changed from here.
        """
        ...

    def look_into(self) -> AbstractContextManager[Connection]:
        """A snapshot to read, from outside: without a trace, and without making anything that is not there."""
        ...


@dataclass(frozen=True, slots=True)
class SqliteStore:
    """See `Store`: a file."""

    path: Path
    tree: str

    @property
    def where(self) -> str:
        """See `Store.where`."""
        return str(self.path)

    def exists(self) -> bool:
        """See `Store.exists`."""
        return self.path.exists()

    def open(self, rights: Rights) -> SqliteDatabase:
        """See `Store.open`."""
        return SqliteDatabase(self.path, rights)

    def open_as_owner(self) -> SqliteDatabase:
        """See `Store.open_as_owner`."""
        return SqliteDatabase(self.path, None)

    def upgrade(self) -> None:
        """See `Store.upgrade`."""
        upgrade(self.path, self.tree)

    @contextmanager
    def look_into(self) -> Iterator[Connection]:
        """See `Store.look_into`."""
        with look_into(self.path) as connection:
            yield connection


@dataclass(frozen=True, slots=True)
class Stores:
    """Both."""

    records: Store
    telemetry: Store
