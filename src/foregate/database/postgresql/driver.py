"""A store in one schema of a PostgreSQL database, for several machines. Its rights are held by the role's grants.

Writers of one user follow one another, as on SQLite: each transaction takes an advisory lock first, so that what a
product has read holds until it commits, and the numbers of changes become visible in their order. No two users write
the same rows but those of the log's extent, which serve as a lock themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from zlib import crc32

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from foregate.database.postgresql.errors import away, explain
from foregate.database.postgresql.link import Link, Login, NoAnswer, connect

# The first half of every advisory lock of ours: other programs in the same database have their own numbers.
LOCKS = crc32(b"foregate") & 0x7FFFFFFF
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A notification may be lost with its connection: so often somebody who waits looks without one.
_LOOKED_EVERY_SECONDS = 5.0


class PostgresqlDatabase:
    """See `engine.Database`."""

    runs_on_event_loop = False

    def __init__(self, login: Login, *, has_limits: bool = True) -> None:
        """Without limits for migrations alone."""
        self.name = login.schema
        self._login = login
        self._where = login.address.where
        self._write = f"BEGIN; SELECT pg_advisory_xact_lock({LOCKS}, {lock_number(login.role)})"
        self._commit = f"NOTIFY {_channel(login)}; COMMIT"
        # Set while the server hangs: then one at a time finds out how long it takes, and the others are told at once.
        self._is_silent = False
        self._probe = threading.Lock()
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect(login, has_limits=has_limits),
            pool_size=8,
            max_overflow=8,
            # We begin and end transactions ourselves.
            isolation_level="AUTOCOMMIT",
            # Errors go to the log: a statement's values (names, digests) do not.
            hide_parameters=True,
            use_native_hstore=False,
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `Database.read`."""
        connection = self._begin(_READ)
        try:
            with self._public_errors():
                yield connection
        finally:
            self.roll_back(connection)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See `Database.write`."""
        connection = self.begin()
        try:
            with self._public_errors():
                yield connection
            self.commit(connection)
        except BaseException:
            self.roll_back(connection)
            raise

    def begin(self) -> Connection:
        """See `Database.begin`."""
        return self._begin(self._write)

    @contextmanager
    def part(self, connection: Connection) -> Iterator[None]:
        """See `Database.part`."""
        self._run(connection, "SAVEPOINT part")
        try:
            with self._public_errors():
                yield
        except Exception:
            if _is_open(connection):
                self._run(connection, "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
            raise
        self._run(connection, "RELEASE SAVEPOINT part")

    def is_whole(self, connection: Connection) -> bool:
        """See `Database.is_whole`: one whose connection is lost is not, nor one that failed outside of a part."""
        return _is_open(connection) and _raw(connection).info.transaction_status is TransactionStatus.INTRANS

    def commit(self, connection: Connection) -> None:
        """See `Database.commit`."""
        self._run(connection, self._commit)
        connection.close()

    def roll_back(self, connection: Connection) -> None:
        """See `Database.roll_back`."""
        is_clean = _is_open(connection)
        try:
            if is_clean:
                _raw(connection).rollback()
            elif not connection.closed and not connection.invalidated:
                connection.invalidate()
        except psycopg.Error:
            is_clean = False
        if not is_clean and not connection.closed:
            # One that is lost SQLAlchemy would roll back once more as it closes it, and raise what comes of that.
            connection.invalidate()
        connection.close()

    def lock(self, name: str) -> PostgresqlLock:
        """See `Database.lock`."""
        return PostgresqlLock(self._login, name)

    def watch(self) -> PostgresqlWatch:
        """See `Database.watch`."""
        return PostgresqlWatch(self._login)

    def close(self) -> None:
        """See `Database.close`."""
        self._engine.dispose()

    def _begin(self, statement: str) -> Connection:
        """A connection on which `statement` began a transaction."""
        if not self._is_silent:
            return self._begin_at_once(statement)
        if not self._probe.acquire(blocking=False):
            raise away(self._where, "it hangs, and another one waits for it")
        try:
            connection = self._begin_at_once(statement)
            self._is_silent = False
            return connection
        finally:
            self._probe.release()

    def _begin_at_once(self, statement: str) -> Connection:
        """Idle connections do not outlive a restart of the server, so one that fails here is no answer yet: nothing has
        been done on it."""
        for is_last in (False, True):
            with self._public_errors():
                connection = self._engine.connect()
            # Should it be lost, SQLAlchemy then refuses to go on with another one in its place.
            connection.begin()
            try:
                _raw(connection).execute(statement, prepare=False)
                return connection
            except psycopg.Error as error:
                is_lost = _raw(connection).closed
                self.roll_back(connection)
                if is_last or not is_lost or isinstance(error, NoAnswer):
                    self._raise(error)
                self._engine.dispose()
            except BaseException:
                self.roll_back(connection)
                raise
        raise AssertionError

    def _run(self, connection: Connection, statements: str) -> None:
        with self._public_errors():
            _raw(connection).execute(statements, prepare=False)

    @contextmanager
    def _public_errors(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, DBAPIError) as error:
            self._raise(error)

    def _raise(self, error: psycopg.Error | DBAPIError) -> NoReturn:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, NoAnswer | psycopg.errors.ConnectionTimeout):
            self._is_silent = True
        explained = explain(error, self._where)
        if explained is None:
            raise error
        raise explained from error


class PostgresqlLock:
    """See `elections.Lock`: an advisory lock of a session on a connection of its own."""

    def __init__(self, login: Login, name: str) -> None:
        self._login = login
        self._take = f"SELECT pg_try_advisory_lock({LOCKS}, {lock_number(f'{login.schema}/{name}')})"
        self._link: Link | None = None
        self._is_held = False

    def acquire(self) -> bool:
        """See `Lock.acquire`. A server that is away gives no lock, and takes the one that it gave."""
        try:
            if self._link is None:
                self._link = connect(self._login)
            row = self._link.execute("SELECT true" if self._is_held else self._take).fetchone()
        except psycopg.Error:
            self.release()
            return False
        self._is_held = bool(row and row[0])
        return self._is_held

    def release(self) -> None:
        """See `Lock.release`."""
        if self._link is not None:
            self._link.close()
            self._link = None
        self._is_held = False


class PostgresqlWatch:
    """See `engine.Watch`. Listens on a connection of its own."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._link: Link | None = None
        self._looked_at = 0.0

    def has_changed(self) -> bool:
        """See `Watch.has_changed`."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """See `Watch.wait`."""
        try:
            if self._link is None:
                self._link = connect(self._login)
                self._link.execute(f"LISTEN {_channel(self._login)}")
                return self._is_news(True)
            found = [*self._link.notifies(timeout=seconds, stop_after=1), *self._link.notifies(timeout=0)]
        except psycopg.Error:
            # What was committed meanwhile nobody tells: whoever waits looks for itself.
            self.close()
            time.sleep(min(seconds, 1.0))
            return True
        return self._is_news(bool(found))

    def close(self) -> None:
        """See `Watch.close`."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _is_news(self, has_heard: bool) -> bool:
        now = time.monotonic()
        if not has_heard and now - self._looked_at < _LOOKED_EVERY_SECONDS:
            return False
        self._looked_at = now
        return True


def lock_number(name: str) -> int:
    """The second half of the advisory lock of this name."""
    return crc32(name.encode()) & 0x7FFFFFFF


def _channel(login: Login) -> str:
    return f"foregate_{login.schema}"


def _is_open(connection: Connection) -> bool:
    return not (connection.closed or connection.invalidated or _raw(connection).closed)


def _raw(connection: Connection) -> Link:
    raw = connection.connection.driver_connection
    if not isinstance(raw, Link):
        raise TypeError("not a connection to PostgreSQL")
    return raw
