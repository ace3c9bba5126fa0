"""Opening a database and running work in it. Knows SQL engines, knows no product.

`Database` gives transactions; `AsyncDatabase` runs functions `fn(connection)` for asyncio code: reads in a pool of
threads, writes in one thread that commits many of them together (group commit), each under a savepoint of its own.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.rights import Rights, authorizer

T = TypeVar("T")
Work = Callable[[Connection], T]

# A writer waits this long for another process's transaction (the ingest and the worker share telemetry.db).
_BUSY_TIMEOUT_MS = 10_000
# Enough to amortise one fsync; small enough that the last of a batch does not wait long for its answer.
_BATCH_LIMIT = 256


class Database:
    """One SQLite file opened with given rights. Safe to use from several threads, a connection for each."""

    def __init__(self, path: Path, rights: Rights | None) -> None:
        """`rights` None grants everything and is for migrations alone."""
        self.path = path
        self._engine = _create_engine(path, rights)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one snapshot for all its statements."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: committed at the end, rolled back whole on any error.

        Raises ForegateError(UNAVAILABLE) where the disk is full or the file cannot be written.
        """
        with self._engine.connect() as connection:
            with _public_errors():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                with _public_errors():
                    yield connection
                    connection.exec_driver_sql("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


class AsyncDatabase:
    """A `Database` for asyncio code. `close()` finishes what is queued."""

    def __init__(self, database: Database, *, readers: int = 4) -> None:
        self.database = database
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix=f"{database.path.stem}-read")
        self._queue: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_forever, name=f"{database.path.stem}-write", daemon=True)
        self._writer.start()

    async def read(self, work: Work[T]) -> T:
        """`work(connection)` in a read transaction on a thread."""

        def run() -> T:
            with self.database.read() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Work[T]) -> T:
        """`work(connection)`, committed when this returns. An error in it undoes this work alone and is raised here.

        `work` may run beside others in one transaction and must not begin, commit or roll back by itself.
        """
        future: Future[T] = Future()
        self._queue.put((work, future))
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Finish the queued writes, end the threads, close the connections."""
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown()
        self.database.close()

    def _write_forever(self) -> None:
        is_open = True
        while is_open:
            batch = [self._queue.get()]
            while len(batch) < _BATCH_LIMIT and not self._queue.empty():
                batch.append(self._queue.get())
            is_open = None not in batch
            self._write_batch([item for item in batch if item is not None])

    def _write_batch(self, batch: list[tuple[Work[Any], Future[Any]]]) -> None:
        if not batch:
            return
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        try:
            with self.database.write() as connection:
                for work, future in batch:
                    try:
                        done.append((future, _under_savepoint(connection, work)))
                    except Exception as error:
                        if not _in_transaction(connection):
                            raise
                        failed.append((future, error))
        except Exception as error:  # the transaction as a whole: nobody's work was kept
            done, failed = [], [(future, error) for _, future in batch]
        for future, reason in failed:
            future.set_exception(reason)
        for future, result in done:
            future.set_result(result)


def _under_savepoint(connection: Connection, work: Work[T]) -> T:
    connection.exec_driver_sql("SAVEPOINT work")
    try:
        with _public_errors():
            result = work(connection)
    except BaseException:
        if _in_transaction(connection):
            connection.exec_driver_sql("ROLLBACK TO work")
            connection.exec_driver_sql("RELEASE work")
        raise
    connection.exec_driver_sql("RELEASE work")
    return result


def _roll_back(connection: Connection) -> None:
    if _in_transaction(connection):
        connection.exec_driver_sql("ROLLBACK")


def _in_transaction(connection: Connection) -> bool:
    """False after an error on which SQLite has rolled back by itself (disk full, I/O error)."""
    raw = connection.connection.dbapi_connection
    return isinstance(raw, sqlite3.Connection) and raw.in_transaction


@contextmanager
def _public_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, DatabaseError) as error:
        text = str(error.orig)
        if any(words in text for words in ("full", "readonly", "disk I/O", "locked", "unable to open", "malformed")):
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
    )

    @event.listens_for(engine, "connect")
    def _configure(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        # A migration rebuilds tables, which the keys would forbid; SQLite's manual advises the same (lang_altertable).
        raw.execute(f"PRAGMA foreign_keys={'OFF' if rights is None else 'ON'}")
        if rights is not None:
            raw.set_authorizer(authorizer(rights))

    return engine
