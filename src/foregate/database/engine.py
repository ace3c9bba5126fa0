"""Opening a database and running work in it. Knows SQL engines, knows no product.

`Database` gives transactions; `AsyncDatabase` runs functions `fn(connection)` for asyncio code: reads in a pool of
threads, writes many in one transaction (group commit), each under a savepoint of its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.damage import is_damage
from foregate.database.rights import Rights, authorizer

T = TypeVar("T")
Work = Callable[[Connection], T]

# A writer waits this long for another process's transaction (the ingest and the worker share telemetry.db).
_BUSY_TIMEOUT_MS = 10_000
# Enough to amortise one fsync; small enough that the last of a batch does not wait long for its answer.
_BATCH_LIMIT = 64
# So many turns of the event loop bring a request that has arrived from its socket to its write.
_TURNS_TO_WRITE = 2


class Database:
    """One SQLite file opened with given rights. Safe to use from several threads, a connection for each."""

    def __init__(self, path: Path, rights: Rights | None) -> None:
        """`rights` None grants everything and is for migrations alone."""
        self.path = path
        self._engine = _create_engine(path, rights)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one snapshot for all its statements.

        Raises ForegateError(UNAVAILABLE) where the file is damaged.
        """
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
        """A write transaction: committed at the end, rolled back whole on any error.

        Raises ForegateError(UNAVAILABLE) where the disk is full or the file cannot be written, or is damaged.
        """
        connection = self.begin()
        try:
            with _public_errors():
                yield connection
            self.commit(connection)
        except BaseException:
            self.roll_back(connection)
            raise

    def begin(self) -> Connection:
        """A connection in a write transaction, for whoever cannot use `write()`: end it by one of the next two."""
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

    def commit(self, connection: Connection) -> None:
        """Commit and give the connection back. After an error, call `roll_back`."""
        with _public_errors():
            connection.exec_driver_sql("COMMIT")
        connection.close()

    def roll_back(self, connection: Connection) -> None:
        """Undo what is not committed and give the connection back."""
        try:
            if not connection.closed and _in_transaction(connection):
                connection.exec_driver_sql("ROLLBACK")
        finally:
            connection.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _damaged(self, error: DatabaseError) -> ForegateError:
        message = f"The database {self.path.name} is damaged; what to do says: foregate doctor"
        return ForegateError(ErrorCode.UNAVAILABLE, message, detail=str(error.orig))


class AsyncDatabase:
    """A `Database` for asyncio code, used from one event loop. Call `close()` when no write is under way.

    The work of writes runs on the event loop itself; only what waits, BEGIN and COMMIT, runs in a thread. A thread
    for the work was measured and turned down: its every statement gives up the interpreter's lock and gets it back
    late from a busy loop, at a third less writes per second and twice the latency.
    """

    def __init__(self, database: Database, *, readers: int = 4) -> None:
        self.database = database
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix=f"{database.path.stem}-read")
        # One thread, so that a batch's end is always before the next one's beginning.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"{database.path.stem}-write")
        self._queue: deque[_Write] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def read(self, work: Work[T]) -> T:
        """`work(connection)` in a read transaction on a thread."""

        def run() -> T:
            with self.database.read() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Work[T]) -> T:
        """`work(connection)`, committed when this returns. An error in it undoes this work alone and is raised here.

        `work` may run beside others in one transaction and must not begin, commit or roll back by itself. It runs on
        the event loop, so it is short: some hundred statements at most. A caller that is cancelled does not undo it.
        """
        loop = asyncio.get_running_loop()
        write = _Write(work, loop.create_future())
        self._queue.append(write)
        if self._writing is None:
            self._writing = loop.create_task(self._write_queued())
        return cast(T, await asyncio.shield(write.future))

    def close(self) -> None:
        """End the threads, close the connections."""
        self._writer.shutdown()
        self._readers.shutdown()
        self.database.close()

    async def _write_queued(self) -> None:
        try:
            while self._queue:
                await self._write_batch()
        finally:
            self._writing = None

    async def _write_batch(self) -> None:
        loop = asyncio.get_running_loop()
        batch: list[_Write] = []
        connection: Connection | None = None
        try:
            connection = await loop.run_in_executor(self._writer, self.database.begin)
            while len(batch) < _BATCH_LIMIT and await self._has_more():
                batch.append(self._queue.popleft())
                batch[-1].run(connection)
            await loop.run_in_executor(self._writer, self.database.commit, connection)
        except Exception as error:  # the transaction as a whole: nobody's work was kept
            batch = batch or [self._queue.popleft() for _ in range(len(self._queue))]
            for write in batch:
                write.fail(error)
        else:
            connection = None
        finally:
            if connection is not None:
                self._writer.submit(self.database.roll_back, connection)
        for write in batch:
            write.tell()

    async def _has_more(self) -> bool:
        """Whether a write waits, or one comes of what has arrived already: a commit costs more than waiting for it."""
        for _ in range(_TURNS_TO_WRITE):
            if self._queue:
                break
            await asyncio.sleep(0)
        return bool(self._queue)


class _Write:
    """One piece of work, what came of it, and who waits for it."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Work[Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None

    def run(self, connection: Connection) -> None:
        """Do the work under a savepoint. Raises only where SQLite has given up the whole transaction by itself."""
        raw = _raw(connection)
        raw.execute("SAVEPOINT work")
        try:
            with _public_errors():
                self.result = self.work(connection)
        except Exception as error:
            if not raw.in_transaction:
                raise
            self.error = error
            raw.execute("ROLLBACK TO work")
        raw.execute("RELEASE work")

    def fail(self, error: Exception) -> None:
        """The transaction failed."""
        self.error = error

    def tell(self) -> None:
        """Answer whoever waits; it may be gone."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


def _in_transaction(connection: Connection) -> bool:
    """False after an error on which SQLite has rolled back by itself (disk full, I/O error)."""
    return _raw(connection).in_transaction


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
        if any(words in text for words in ("full", "readonly", "disk I/O", "locked", "unable to open")):
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
