"""What a consumer of the log is, and the chores beside it. `eventlog/runner.py` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from foregate.database.elections import Seat
from foregate.database.engine import Database
from foregate.eventlog.model import LogRecord


class Consumer(Protocol):
    """Makes something of a kept topic's records. `name` stands in the database for ever."""

    name: str
    topic: str

    def begin(self) -> Any:
        """An empty gathering."""
        ...

    def add(self, gathered: Any, record: LogRecord) -> None:
        """Take one record into the gathering, without I/O. An error sets the record aside, and must leave the
        gathering as it was."""
        ...

    def finish(self, gathered: Any) -> Any:
        """What there is to store, made before the transaction begins, which holds up other writers."""
        ...

    def store(self, connection: Connection, finished: Any) -> None:
        """Write it, in the transaction that moves the offset. An error undoes that transaction, and the same records
        come again."""
        ...


class Chore(Protocol):
    """Housekeeping beside the consumers."""

    name: str

    def step(self) -> bool:
        """Do a little, some milliseconds' worth. Whether more is left to do now."""
        ...


class Source(Protocol):
    """Where records are read. Used by one thread. `name` is what it is called where it cannot be read."""

    name: str

    def read(self, topic: str, after: int, *, limit: int, max_bytes: int) -> list[LogRecord]:
        """See `EventLog.read`."""
        ...

    def has_changed(self) -> bool:
        """Whether there may be something new since the last look. Cheap; True at the first look."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """A consumer, the database opened with the rights that it needs and no others, and where its records come from: the
    log in that database, unless it is said. It runs while its seat is held; without a seat, always."""

    consumer: Consumer
    database: Database
    seat: Seat | None = None
    source: Source | None = None

    @property
    def may_run(self) -> bool:
        """Whether it is this process's to run."""
        return self.seat is None or self.seat.is_held
