"""A store in PostgreSQL: opened by users of given rights, and brought to its newest schema by the one who owns it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.migrate import HEADS, current_revision, move
from foregate.database.postgresql.address import Address
from foregate.database.postgresql.driver import PostgresqlDatabase
from foregate.database.postgresql.link import Login
from foregate.database.postgresql.roles import MIGRATION, TREES, Passwords, grants, role_of
from foregate.database.rights import Rights

# A step waits no longer than this for a table that the running product uses, so that nobody queues up behind it.
_STEP_LOCK = "SET LOCAL lock_timeout = '1s'"
_TRIES = 20


@dataclass(frozen=True, slots=True)
class PostgresqlStore:
    """See `stores.Store`. `tree` is its schema, too."""

    address: Address
    tree: str
    passwords: Passwords

    @property
    def where(self) -> str:
        """See `Store.where`."""
        return f"{self.address.where}, schema {self.tree}"

    def exists(self) -> bool:
        """See `Store.exists`."""
        return True

    def open(self, rights: Rights) -> PostgresqlDatabase:
        """See `Store.open`."""
        return PostgresqlDatabase(self._login(rights.user))

    def open_as_owner(self) -> PostgresqlDatabase:
        """See `Store.open_as_owner`. Its statements may take as long as they need."""
        return PostgresqlDatabase(self._login(MIGRATION), has_limits=False)

    def upgrade(self) -> None:
        """See `Store.upgrade`. Only a home with the password of the owner can; others find it done, or say so."""
        with self.look_into() as connection:
            revision = current_revision(connection)
        if revision == HEADS[self.tree]:
            return
        if revision is not None and revision > HEADS[self.tree]:
            message = f"{self.where} was written by a newer Foregate (schema {revision}); run that version."
            raise ForegateError(ErrorCode.UNAVAILABLE, message)
        if not self.passwords.path(MIGRATION).exists():
            message = f"{self.where} has the schema of an older Foregate; run: foregate database setup"
            raise ForegateError(ErrorCode.UNAVAILABLE, message)
        self.migrate()

    def migrate(self) -> str | None:
        """Run the steps that are missing and give every role its rights, as one transaction. Safe to repeat and to run
        beside a product and beside itself. The revision before, None for an empty schema."""
        owner = self.open_as_owner()
        try:
            for is_last in [False] * (_TRIES - 1) + [True]:
                try:
                    return self._migrate(owner)
                except ForegateError as error:
                    is_busy = isinstance(error.__cause__, psycopg.errors.LockNotAvailable)
                    if is_last or not is_busy:
                        raise
            raise AssertionError
        finally:
            owner.close()

    def _migrate(self, owner: PostgresqlDatabase) -> str | None:
        with owner.write() as connection:
            connection.exec_driver_sql(_STEP_LOCK)
            before = current_revision(connection)
            move(connection, self.tree, "head")
            for statement in grants(self.address.database, self.tree):
                connection.exec_driver_sql(statement)
        return before

    @contextmanager
    def look_into(self) -> Iterator[Connection]:
        """See `Store.look_into`. As the first of its users whose password this home has: all of them may read this."""
        all_rights = TREES[self.tree]
        known = (rights for rights in all_rights if self.passwords.path(rights.user).exists())
        database = self.open(next(known, all_rights[0]))
        try:
            with database.read() as connection:
                yield connection
        finally:
            database.close()

    def _login(self, user: str) -> Login:
        role = role_of(self.address.database, user)
        return Login(self.address, role, self.passwords.read(user), self.tree)
