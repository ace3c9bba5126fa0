"""One process at a time for what only one may do: the publisher, each consumer, retention. Any number may stand.

Whoever has the lock of a seat holds it; the kernel or the server gives the lock on as soon as its holder is gone. Each
holder has an epoch of its own, higher than any before, and every write under the seat looks at it in its own
transaction: one that slept, and woke when another had taken over, writes nothing. A holder that is there and does
nothing (stopped, hanging) is found out by asking: who does not answer for a while loses the seat, lock or not.
A process that is alone writes one row when it takes a seat, and nothing after that.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from sqlalchemy import Connection, text

from foregate.core.clock import Clock, to_micros, utc_now

# Those who do not hold a seat try its lock so often, ask its holder so often, and wait so long for an answer. A holder
# looks whenever somebody has written something, the question included.
TRIED_EVERY_SECONDS = 0.2
_ASKED_EVERY_SECONDS = 1.0
_PATIENCE_SECONDS = 4.0

_READ = text("SELECT epoch, asked, answered FROM leases WHERE name = :name")
_MAKE = text(
    "INSERT INTO leases (name, epoch, holder, taken_at, asked, answered) VALUES (:name, 0, '', 0, 0, 0) "
    "ON CONFLICT (name) DO NOTHING"
)
_TAKE = text(
    "UPDATE leases SET epoch = epoch + 1, holder = :holder, taken_at = :at, answered = asked WHERE name = :name"
)
_ASK = text("UPDATE leases SET asked = asked + 1 WHERE name = :name")
_ANSWER = text("UPDATE leases SET answered = asked WHERE name = :name AND epoch = :epoch")

log = structlog.get_logger(__name__)


class Unseated(Exception):
    """Another process holds the seat now. What this transaction would have written is dropped."""


class Lock(Protocol):
    """A lock of a database's that one connection or process holds at a time, and loses when it dies."""

    def acquire(self) -> bool:
        """Whether this one has it now. Waits for nobody; safe to repeat."""
        ...

    def release(self) -> None:
        """Give it back; nothing happens without it."""
        ...


class Locks(Protocol):
    """What gives locks: a database."""

    def lock(self, name: str) -> Lock:
        """The lock of that name."""
        ...


class Seat:
    """One process's standing for a seat. Used by one thread, or from one event loop in turn.

    `lock` is asked for outside of transactions, as it may wait for a connection; the rest takes the caller's own.
    """

    def __init__(
        self,
        name: str,
        locks: Locks,
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """`locks` is the store in which the lease stands."""
        self.name = name
        self._lock = locks.lock(name)
        self._clock = clock
        self._monotonic = monotonic
        self._patience_seconds = patience_seconds
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._epoch: int | None = None
        self._has_lock = False
        # The question that waits for an answer, of which epoch, and since when.
        self._asked: tuple[int, int] | None = None
        self._asked_at = 0.0
        self._stood_at = -_ASKED_EVERY_SECONDS

    @property
    def is_held(self) -> bool:
        """Whether this process holds it, as far as it knows. Only `require` knows."""
        return self._epoch is not None

    def try_lock(self) -> bool:
        """Try the lock, outside of a transaction: every TRIED_EVERY_SECONDS while the seat is not held. Whether it is
        time to `stand`. A database that is away gives no lock."""
        self._has_lock = self._lock.acquire()
        return self._has_lock or self._monotonic() - self._stood_at >= _ASKED_EVERY_SECONDS

    def stand(self, connection: Connection) -> bool:
        """Take the seat if it is free, or its holder silent; else ask the holder. Whether this process holds it now.

        Call it where `try_lock` says so, in a write transaction.
        """
        self._stood_at = self._monotonic()
        connection.execute(_MAKE, {"name": self.name})
        epoch, asked, answered = connection.execute(_READ, {"name": self.name}).one()
        if self._has_lock or self._is_silent(epoch, answered):
            who = {"name": self.name, "holder": self._holder, "at": to_micros(self._clock())}
            connection.execute(_TAKE, who)
            self._epoch, self._asked = epoch + 1, None
            log.info("seat_taken", seat=self.name, epoch=self._epoch, by_force=not self._has_lock)
            return True
        if self._asked is None or answered >= self._asked[1] or self._asked[0] != epoch:
            connection.execute(_ASK, {"name": self.name})
            self._asked, self._asked_at = (epoch, asked + 1), self._monotonic()
        return False

    def look(self, connection: Connection) -> bool:
        """Whether somebody waits for an `answer`. One who has lost the seat finds it out here. Reads one row."""
        row = connection.execute(_READ, {"name": self.name}).first()
        if row is None or row.epoch != self._epoch:
            self.resign()
            return False
        return bool(row.asked > row.answered)

    def answer(self, connection: Connection) -> None:
        """Say that this process is there. Call it where `look` says so, in a write transaction."""
        connection.execute(_ANSWER, {"name": self.name, "epoch": self._epoch})

    def require(self, connection: Connection) -> None:
        """Raises Unseated where this process does not hold the seat. Call it in the transaction that writes under it:
        users of the seat write one after another, so what it says holds until that commits."""
        row = connection.execute(_READ, {"name": self.name}).first()
        if row is None or row.epoch != self._epoch:
            raise Unseated(self.name)

    def resign(self) -> None:
        """Give the seat up, and the lock for others to take. Safe to repeat."""
        if self._epoch is not None:
            log.info("seat_left", seat=self.name, epoch=self._epoch)
        self._epoch = self._asked = None
        self._has_lock = False
        self._lock.release()

    def _is_silent(self, epoch: int, answered: int) -> bool:
        if self._asked is None or self._asked[0] != epoch or answered >= self._asked[1]:
            return False
        return self._monotonic() - self._asked_at >= self._patience_seconds
