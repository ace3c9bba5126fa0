"""What a database is to everything above it, and running work in one from asyncio code. Knows no engine, no product.

`Database` gives transactions and has two drivers: `database/sqlite.py` and `database/postgresql/`. `AsyncDatabase` runs
functions `fn(connection)` for asyncio code: reads in a pool of threads, writes many in one transaction (group commit),
each a part of it that stands or falls alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, cast

import structlog
from sqlalchemy import Connection

from foregate.core.errors import ForegateError
from foregate.database.elections import Lock

T = TypeVar("T")
Work = Callable[[Connection], T]

# Enough to amortise one fsync; small enough that the last of a batch does not wait long for its answer.
_BATCH_LIMIT = 64
# How long a watch waits at a stretch: as long as an end may have to wait for it.
_WATCH_SECONDS = 0.25
# After a database that was away.
_PAUSE_SECONDS = 1.0
# So many turns of the event loop bring a request that has arrived from its socket to its write.
_TURNS_TO_WRITE = 2


log = structlog.get_logger(__name__)


class Away(ForegateError):
    """The database cannot be used now, and may come back without anything being done here: it is worth waiting for."""


class Watch(Protocol):
    """Tells whether anybody, in this process or another, has committed to a store since the last look. For one thread.

    It may say so without need, and never fails to: where it cannot know, it says yes.
    """

    def has_changed(self) -> bool:
        """Whether there may be something new since the last look. True at the first. Waits for nothing."""
        ...

    def wait(self, seconds: float) -> bool:
        """The same, as soon as there is something new, and after so many seconds at the latest."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Database(Protocol):
    """One store opened with given rights. Safe to use from several threads, a connection for each.

    Write transactions of one store (of one user of the telemetry store) follow one another, in any number of
    processes: what a transaction has read holds until it commits. Each method raises ForegateError(UNAVAILABLE), with
    nothing half done, where the database is away, full, damaged or of another schema; the next call tries anew.
    """

    name: str
    runs_on_event_loop: bool
    """Whether a write's statements wait for nobody once it has begun, so that an event loop may run them."""

    def read(self) -> AbstractContextManager[Connection]:
        """A read transaction: one snapshot for all its statements."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """A write transaction: committed at the end, rolled back whole on any error."""
        ...

    def begin(self) -> Connection:
        """A connection in a write transaction, for whoever cannot use `write()`: end it by `commit` or `roll_back`."""
        ...

    def part(self, connection: Connection) -> AbstractContextManager[None]:
        """A part of a write transaction: an error inside undoes it alone and is raised on.

        Ask `is_whole` after an error: some take the whole transaction with them.
        """
        ...

    def is_whole(self, connection: Connection) -> bool:
        """Whether the transaction that was begun is still there."""
        ...

    def commit(self, connection: Connection) -> None:
        """Commit and give the connection back. After an error, call `roll_back`: what was written is kept or not."""
        ...

    def roll_back(self, connection: Connection) -> None:
        """Undo what is not committed and give the connection back. Raises nothing where the database is away."""
        ...

    def lock(self, name: str) -> Lock:
        """A lock of that name, which one process at a time can have. Nothing is taken yet."""
        ...

    def watch(self) -> Watch:
        """A watch of its own on this store."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class AsyncDatabase:
    """A `Database` for asyncio code, used from one event loop. Call `close()` when no write is under way.

    On SQLite the work of writes runs on the event loop itself; only what waits, BEGIN and COMMIT, runs in a thread. A
    thread for the work was measured and turned down: its every statement gives up the interpreter's lock and gets it
    back late from a busy loop, at a third less writes per second and twice the latency. On a database server every
    statement waits for an answer, which may not come: there the whole transaction runs in the thread.
    """

    def __init__(self, database: Database, *, readers: int = 4) -> None:
        self.database = database
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix=f"{database.name}-read")
        # One thread, so that a batch's end is always before the next one's beginning.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"{database.name}-write")
        self._queue: deque[_Write] = deque()
        # Of those who have followed and do no more; each closes what it looked with.
        self._watchers: list[ThreadPoolExecutor] = []
        self._writing: asyncio.Task[None] | None = None

    async def read(self, work: Work[T]) -> T:
        """`work(connection)` in a read transaction on a thread."""

        def run() -> T:
            with self.database.read() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Work[T]) -> T:
        """`work(connection)`, committed when this returns. An error in it undoes this work alone and is raised here.

        `work` may run beside others in one transaction and must not begin, commit or roll back by itself. It may run
        on the event loop, so it is short: some hundred statements at most; and it may run on a thread, so it touches
        nothing of the loop's. A caller that is cancelled does not undo it.
        """
        loop = asyncio.get_running_loop()
        write = _Write(work, loop.create_future())
        self._queue.append(write)
        if self._writing is None:
            self._writing = loop.create_task(self._write_queued())
        return cast(T, await asyncio.shield(write.future))

    async def follow(self, on_change: Callable[[], Awaitable[None]]) -> None:
        """Call `on_change` for ever: once now, and whenever anybody, in any process, may have committed something.

        Several commits make one call. One that fails for a database that is away is repeated. Runs until cancelled.
        """
        loop = asyncio.get_running_loop()
        # A thread of its own: the readers are for those who wait for an answer.
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"{self.database.name}-watch")
        watch = self.database.watch()
        is_behind = False
        try:
            while True:
                if await loop.run_in_executor(thread, watch.wait, _WATCH_SECONDS) or is_behind:
                    try:
                        await on_change()
                        is_behind = False
                    except ForegateError as error:
                        log.error("changes_not_read", store=self.database.name, error=error.message)
                        is_behind = True
                        await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            thread.submit(watch.close)
            self._watchers.append(thread)

    def close(self) -> None:
        """End the threads, close the connections."""
        # First those who only look: SQLite clears up behind the last to close a file, if that one may write.
        for thread in self._watchers:
            thread.shutdown()
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
        batch: list[_Write] = []
        try:
            if self.database.runs_on_event_loop:
                await self._write_on_loop(batch)
            else:
                await asyncio.get_running_loop().run_in_executor(self._writer, self._write_on_thread, batch)
        except Exception as error:  # the transaction as a whole: nobody's work was kept
            batch = batch or [self._queue.popleft() for _ in range(len(self._queue))]
            for write in batch:
                write.fail(error)
        for write in batch:
            write.tell()

    async def _write_on_loop(self, batch: list[_Write]) -> None:
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(self._writer, self.database.begin)
        try:
            while len(batch) < _BATCH_LIMIT and await self._has_more():
                batch.append(self._queue.popleft())
                batch[-1].run(self.database, connection)
            await loop.run_in_executor(self._writer, self.database.commit, connection)
        except BaseException:
            self._writer.submit(self.database.roll_back, connection)
            raise

    def _write_on_thread(self, batch: list[_Write]) -> None:
        """What comes in while the statements wait for the server shares the transaction."""
        connection = self.database.begin()
        try:
            while len(batch) < _BATCH_LIMIT and self._queue:
                batch.append(self._queue.popleft())
                batch[-1].run(self.database, connection)
            self.database.commit(connection)
        except BaseException:
            self.database.roll_back(connection)
            raise

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

    def run(self, database: Database, connection: Connection) -> None:
        """Do the work as a part of the transaction. Raises only where the whole transaction is lost."""
        try:
            with database.part(connection):
                self.result = self.work(connection)
        except Exception as error:
            if not database.is_whole(connection):
                raise
            self.error = error

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
