"""Standing for seats from the worker's thread, so that of several workers one runs a consumer or a chore at a time.

That is thrift, not safety: a consumer's result counts once because its offset moves in the same transaction.
"""

from __future__ import annotations

import time

from foregate.database.elections import Seat
from foregate.database.engine import Database
from foregate.eventlog.consumer import Chore, Job

# A round may take some seconds, within which nobody answers: longer than that before a worker counts as silent.
PATIENCE_SECONDS = 15.0
# How often a holder looks whether it is asked for, where there is much news; how often the others try.
_LOOKED_EVERY_SECONDS = 0.5


def keep(seat: Seat, database: Database) -> bool:
    """Stand for the seat, or answer whoever asks for its holder. Whether this process holds it now. Call it often."""
    if seat.is_held:
        with database.read() as connection:
            is_asked = seat.look(connection)
        if is_asked:
            with database.write() as connection:
                seat.answer(connection)
    elif seat.try_lock():
        with database.write() as connection:
            seat.stand(connection)
    return seat.is_held


class Seating:
    """The seats of a worker's jobs."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = [job for job in jobs if job.seat is not None]
        self._next_at = 0.0

    def keep(self, *, has_news: bool) -> list[Job]:
        """Keep all of them; the jobs that this process may run from now on and could not before. Without news a
        holder is not asked for, and nothing is read."""
        now = time.monotonic()
        if now < self._next_at:
            return []
        self._next_at = now + _LOOKED_EVERY_SECONDS
        taken = []
        for job in self._jobs:
            seat = job.seat
            if seat is not None and (has_news or not seat.is_held):
                was_held = seat.is_held
                if keep(seat, job.database) and not was_held:
                    taken.append(job)
        return taken

    def leave(self) -> None:
        """Give all seats up, for others to take at once."""
        for job in self._jobs:
            if job.seat is not None:
                job.seat.resign()


class SeatedChore:
    """A chore that one worker at a time does."""

    def __init__(self, chore: Chore, database: Database) -> None:
        self.name = chore.name
        self._chore = chore
        self._database = database
        self._seat = Seat(f"chore/{chore.name}", database, patience_seconds=PATIENCE_SECONDS)

    def step(self) -> bool:
        """See `Chore.step`."""
        return keep(self._seat, self._database) and self._chore.step()

    def leave(self) -> None:
        """Let another worker do it."""
        self._seat.resign()
