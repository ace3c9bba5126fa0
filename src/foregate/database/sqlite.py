"""A store in one SQLite file: the default, on one machine. Its rights are held by SQLite's authorizer.

Any number of processes may open the file; SQLite itself has them write one after another.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.locks import try_lock
from foregate.database.carrying import FENCE, MOVED
from foregate.database.damage import is_damage
from foregate.database.engine import Away
from foregate.database.rights import Rights, authorizer

# A writer waits this long for another process's transaction (the ingest and the worker share telemetry.db).
_BUSY_TIMEOUT_MS = 10_000
# How often somebody who waits for a change looks at the file, for some 10 us.
_LOOKED_EVERY_SECONDS = 0.1


class SqliteDatabase:
    """See `engine.Database`."""

    runs_on_event_loop = True

    def __init__(self, path: Path, rights: Rights | None) -> None:
        """`rights` None grants everything and is for migrations alone."""
        self.path = path
        self.name = path.stem
        self._engine = _create_engine(path, rights)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `Database.read`."""
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    yield connection
                finally:
                    connection.exec_driver_sql("ROLLBACK")
        except DatabaseError as error:
            if not is_damage(error):
                raise
            raise self._damaged(error) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See `Database.write`."""
        connection = self.begin()
        try:
            with _public_errors():
                yield connection
            self.commit(connection)
        except BaseException:
            self.roll_back(connection)
            raise

    def begin(self) -> Connection:
        """See `Database.begin`."""
        try:
            connection = self._engine.connect()
        except DatabaseError as error:
            if not is_damage(error):
                raise
            raise self._damaged(error) from error
        try:
            with _public_errors():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def part(self, connection: Connection) -> Iterator[None]:
        """See `Database.part`."""
        raw = _raw(connection)
        raw.execute("SAVEPOINT part")
        try:
            with _public_errors():
                yield
        except Exception:
            if raw.in_transaction:
                raw.execute("ROLLBACK TO part")
                raw.execute("RELEASE part")
            raise
        raw.execute("RELEASE part")

    def is_whole(self, connection: Connection) -> bool:
        """See `Database.is_whole`: after some errors (disk full, I/O error) SQLite has rolled back by itself."""
        return _raw(connection).in_transaction

    def commit(self, connection: Connection) -> None:
        """See `Database.commit`."""
        with _public_errors():
            connection.exec_driver_sql("COMMIT")
        connection.close()

    def roll_back(self, connection: Connection) -> None:
        """See `Database.roll_back`."""
        try:
            if not connection.closed and self.is_whole(connection):
                connection.exec_driver_sql("ROLLBACK")
        finally:
            connection.close()

    def lock(self, name: str) -> SqliteLock:
        """See `Database.lock`."""
        return SqliteLock(self.path.with_name(f"{self.path.name}.{name.replace('/', '-')}.lock"))

    def watch(self) -> SqliteWatch:
        """See `Database.watch`."""
        return SqliteWatch(self.path)

    def close(self) -> None:
        """See `Database.close`."""
        self._engine.dispose()

    def _damaged(self, error: DatabaseError) -> ForegateError:
        message = f"The database {self.path.name} is damaged; what to do says: foregate doctor"
        return ForegateError(ErrorCode.UNAVAILABLE, message, detail=str(error.orig))


class SqliteLock:
    """See `elections.Lock`: a file beside the database, locked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """See `Lock.acquire`."""
        if self._descriptor is None:
            self._descriptor = try_lock(self._path)
        return self._descriptor is not None

    def release(self) -> None:
        """See `Lock.release`."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


class SqliteWatch:
    """See `engine.Watch`. Reads the file's change counter and nothing else, in some 10 us.

    Source: sqlite.org/pragma.html#pragma_data_version.
    """

    def __init__(self, path: Path) -> None:
        self._raw = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        self._version = -1

    def has_changed(self) -> bool:
        """See `Watch.has_changed`."""
        try:
            version = int(self._raw.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return True
        changed, self._version = version != self._version, version
        return changed

    def wait(self, seconds: float) -> bool:
        """See `Watch.wait`. SQLite wakes nobody, so it looks again and again."""
        ends = time.monotonic() + seconds
        while not self.has_changed():
            if time.monotonic() >= ends:
                return False
            time.sleep(_LOOKED_EVERY_SECONDS)
        return True

    def close(self) -> None:
        """See `Watch.close`."""
        self._raw.close()


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError("not a connection to SQLite")
    return raw


@contextmanager
def _public_errors() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        text = str(error.orig if isinstance(error, DatabaseError) else error)
        if is_damage(error):
            message = "The database is damaged; what to do says: foregate doctor"
            raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=text) from error
        if FENCE in text:
            raise Away(ErrorCode.UNAVAILABLE, MOVED, detail=text) from error
        if "locked" in text:
            message = "The database is busy: another process has been writing for ten seconds. Try again."
            raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=text) from error
        if any(words in text for words in ("full", "readonly", "disk I/O", "unable to open")):
            message = "The database cannot be written now; check the disk's space and rights, then try again."
            raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=text) from error
        raise


def _create_engine(path: Path, rights: Rights | None) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "timeout": _BUSY_TIMEOUT_MS / 1000},
        pool_size=8,
        max_overflow=8,
        # We begin and end transactions ourselves; the pool must not add a rollback of its own.
        isolation_level="AUTOCOMMIT",
        # Errors go to the log: a statement's values (names, digests) do not.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _configure(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        # What a savepoint keeps for its undoing stays in memory; in a file it costs 50 system calls for each write.
        raw.execute("PRAGMA temp_store=MEMORY")
        # So that INSERT OR REPLACE fires the triggers that forbid a delete (sqlite.org/lang_conflict.html).
        raw.execute("PRAGMA recursive_triggers=ON")
        # 32 MB instead of 4: pages that many commits touch are copied back once, and commits wait a third less in all.
        raw.execute("PRAGMA wal_autocheckpoint=8000")
        # A migration rebuilds tables, which the keys would forbid; SQLite's manual advises the same (lang_altertable).
        raw.execute(f"PRAGMA foreign_keys={'OFF' if rights is None else 'ON'}")
        if rights is not None:
            raw.set_authorizer(authorizer(rights))

    return engine
