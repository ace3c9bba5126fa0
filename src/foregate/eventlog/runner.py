"""Running consumers over the log: what a consumer makes of records and its offset are written in one transaction.

So a crash between the two cannot happen, and every record counts once. Consumers at the same offset go through the log
side by side; one that fails stops nobody else. A record that a consumer cannot take is set aside for it: counted,
pointed at, and left in the log. `run` is for a worker process; should two of them run the same consumers, each record
still counts once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError, OperationalError

from foregate.core.clock import Clock, to_micros
from foregate.core.errors import ErrorCode, ForegateError
from foregate.eventlog.consumer import Chore, Consumer, Job, Source
from foregate.eventlog.model import LogRecord
from foregate.eventlog.seating import Seating
from foregate.eventlog.sql import SqlSource
from foregate.eventlog.troubles import Troubles

# One read of the log: what a round holds in memory at a time.
READ_BYTES = 4 << 20
READ_RECORDS = 1000
# A round ends here at the latest, so that what it found is seen, and a stop is heeded, within seconds: some 1.5 million
# events. The longer a round, the fewer rows are written for as many events.
ROUND_READS = 20
# How often an idle worker looks for news.
IDLE_SECONDS = 0.1
# After a round that caught up: several batches under one commit, and "last seen" still well within its two seconds.
PAUSE_SECONDS = 0.25
# So often a result that cannot be stored is tried whole; then record by record, to find the one at fault.
TRIES = 4
_LONGEST_WAIT_ROUNDS = 100
_CHORE_EVERY_SECONDS = 5
# A log that cannot be read now is tried again after that, so that what is said of it stays little.
_AWAY_SECONDS = 1.0

_OFFSET = text('SELECT "offset" FROM consumer_offsets WHERE consumer = :consumer AND topic = :topic')
_ADVANCE = text(
    'INSERT INTO consumer_offsets (consumer, topic, "offset", skipped, set_aside, updated_at) '
    "VALUES (:consumer, :topic, :offset, :skipped, :set_aside, :at) "
    'ON CONFLICT (consumer, topic) DO UPDATE SET "offset" = excluded."offset", '
    "skipped = consumer_offsets.skipped + excluded.skipped, "
    "set_aside = consumer_offsets.set_aside + excluded.set_aside, updated_at = excluded.updated_at"
)
_SET_ASIDE = text(
    'INSERT INTO poison_records (consumer, topic, "offset", reason, at) '
    "VALUES (:consumer, :topic, :offset, :reason, :at)"
)


def run(
    jobs: Sequence[Job], chores: Sequence[Chore], stop: threading.Event, clock: Clock, troubles: Troubles | None = None
) -> None:
    """Take `jobs`, all on one log, forward and do `chores` until `stop` is set; then finish the round and return.
    Blocks its thread.

    Idle, it looks for news ten times a second. Errors of a job or a chore are logged, told and tried again; nothing is
    lost by a kill at any moment. Of several processes that run the same jobs, one at a time has each (its seat).
    """
    log = structlog.get_logger("foregate.eventlog")
    troubles = troubles or Troubles(lambda _: None)
    runner = Runner(jobs, clock, troubles, lambda job: job.may_run)
    seating = Seating(list(jobs))
    # One look will do, as all are on one log.
    sources = [runner.source(job) for job in jobs[:1]]
    log_name = next((source.name for source in sources), "log")
    # Not by the clock: one that was ahead and is put right must not keep chores waiting until it is there again.
    turn, next_chores_at = Turn(moved=True), time.monotonic()
    while not stop.is_set():
        # Asked in any case, so that it takes note of what it has seen.
        has_news = any([source.has_changed() for source in sources])
        taken = _keep(seating, has_news=has_news)
        if has_news or taken or turn.moved or turn.has_failed:
            try:
                runner.begin_anew(taken)
                turn = runner.round()
                troubles.worked(log_name)
            except (ForegateError, DatabaseError) as error:
                log.error("log_unreadable", error=_why(error))
                troubles.failed(log_name, _why(error), to_micros(clock()))
                turn = Turn(has_failed=True)
                stop.wait(_AWAY_SECONDS)
        if time.monotonic() >= next_chores_at:
            has_more = _do(chores, log, troubles, to_micros(clock()))
            # A chore with more to do comes again after the next round, so that the two take turns.
            next_chores_at = time.monotonic() + (0 if has_more else _CHORE_EVERY_SECONDS)
        stop.wait(0 if turn.is_behind else PAUSE_SECONDS if turn.moved else IDLE_SECONDS)
    seating.leave()
    for source in sources:
        source.close()


def _keep(seating: Seating, *, has_news: bool) -> list[Job]:
    try:
        return seating.keep(has_news=has_news)
    except (ForegateError, DatabaseError):  # the round that comes says what is the matter
        return []


def _do(chores: Sequence[Chore], log: Any, troubles: Troubles, now: int) -> bool:
    has_more = False
    for chore in chores:
        try:
            has_more = chore.step() or has_more
            troubles.worked(chore.name)
        except (ForegateError, DatabaseError) as error:
            log.error("chore_failed", chore=chore.name, error=_why(error))
            troubles.failed(chore.name, _why(error), now)
    return has_more


class Overtaken(Exception):
    """Another worker runs the same consumer and has come further. What was made here is dropped."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How a round went: whether any job moved, whether more was there than a round takes, whether a job has to be
    tried again without anything new."""

    moved: bool = False
    is_behind: bool = False
    has_failed: bool = False


@dataclass(slots=True)
class _Progress:
    """`has_failed`: the last try did. `failures`: tries that failed through the records. `careful_until`: up to
    there records are taken singly, as one among them cannot be stored."""

    offset: int
    has_failed: bool = False
    failures: int = 0
    careful_until: int = 0
    rounds_to_wait: int = 0

    @property
    def is_careful(self) -> bool:
        return self.offset < self.careful_until


class Runner:
    """Takes jobs forward, round by round, but for those that `may_run` leaves to others. Used by one thread."""

    def __init__(
        self,
        jobs: Sequence[Job],
        clock: Clock,
        troubles: Troubles | None = None,
        may_run: Callable[[Job], bool] = lambda _: True,
    ) -> None:
        self._jobs = jobs
        self._may_run = may_run
        self._clock = clock
        self._troubles = troubles or Troubles(lambda _: None)
        self._log = structlog.get_logger("foregate.eventlog")
        self._progress: dict[str, _Progress] = {}
        self._sources: dict[int, Source] = {}

    def begin_anew(self, jobs: Sequence[Job]) -> None:
        """Another process has run these since: where they stand is asked for again."""
        for job in jobs:
            self._progress.pop(job.consumer.name, None)

    def round(self) -> Turn:
        """Let every job take what is there, up to a bound. A job that fails is tried again in a later round.

        Raises only where the log itself cannot be read.
        """
        turns = [self._take(group) for group in self._side_by_side()]
        has_failed = any(progress.has_failed for progress in self._progress.values())
        return Turn(any(turn.moved for turn in turns), any(turn.is_behind for turn in turns), has_failed)

    def source(self, job: Job) -> Source:
        """Where the job's records come from."""
        if job.source is not None:
            return job.source
        return self._sources.setdefault(id(job), SqlSource(job.database))

    def _side_by_side(self) -> list[list[Job]]:
        groups: dict[tuple[str, int, bool], list[Job]] = {}
        for job in filter(self._may_run, self._jobs):
            progress = self._of(job)
            if progress.rounds_to_wait:
                progress.rounds_to_wait -= 1
            else:
                groups.setdefault((job.consumer.topic, progress.offset, progress.is_careful), []).append(job)
        return list(groups.values())

    def _take(self, group: list[Job]) -> Turn:
        progress = self._of(group[0])
        topic = group[0].consumer.topic
        reads = _Reads(self.source(group[0]), topic, progress.offset, is_careful=progress.is_careful)
        portions = [_Portion(job) for job in group]
        for records in reads:
            for record in records:
                for portion in portions:
                    portion.add(record)
        if not reads.records:
            return Turn()
        moved = any([self._store(portion, reads) for portion in portions])
        return Turn(moved, moved and reads.is_cut)

    def _store(self, portion: _Portion, reads: _Reads) -> bool:
        name, progress = portion.job.consumer.name, self._of(portion.job)
        try:
            portion.store(reads, to_micros(self._clock()))
        except Overtaken:
            self._log.error("consumer_overtaken", consumer=name, offset=progress.offset)
            del self._progress[name]
            self._troubles.worked(name)
            return False
        except Exception as error:
            self._log.exception("consumer_failed", consumer=name, offset=progress.offset, failures=progress.failures)
            if _blames_records(error):
                progress.failures += 1
                if progress.failures >= TRIES:
                    progress.careful_until = max(progress.careful_until, reads.offset)
                if progress.failures > TRIES and reads.records == 1:
                    return self._give_up(portion, reads, error)
            self._troubles.failed(name, _why(error), to_micros(self._clock()))
            progress.has_failed = True
            progress.rounds_to_wait = min(2 ** (progress.failures + 1), _LONGEST_WAIT_ROUNDS)
            return False
        self._moved(portion, reads)
        return True

    def _give_up(self, portion: _Portion, reads: _Reads, error: Exception) -> bool:
        portion.give_up(reads.offset, error)
        portion.store(reads, to_micros(self._clock()))
        self._moved(portion, reads)
        return True

    def _moved(self, portion: _Portion, reads: _Reads) -> None:
        name, progress = portion.job.consumer.name, self._of(portion.job)
        for offset, reason in portion.set_aside:
            self._log.error("record_set_aside", consumer=name, offset=offset, reason=reason)
        if reads.skipped:
            self._log.error("records_skipped", consumer=name, records=reads.skipped)
        self._troubles.worked(name)
        progress.offset = reads.offset
        progress.has_failed = False
        if not progress.is_careful:
            progress.failures = 0

    def _of(self, job: Job) -> _Progress:
        found = self._progress.get(job.consumer.name)
        if found is None:
            with job.database.read() as connection:
                found = self._progress[job.consumer.name] = _Progress(offset_of(connection, job.consumer))
        return found


def _blames_records(error: Exception) -> bool:
    """Whether the records may be at fault. A database that is full, busy or of another schema says nothing about them;
    set aside, they would never be counted once it is put right."""
    is_outage = isinstance(error, ForegateError) and error.code is ErrorCode.UNAVAILABLE
    return not (is_outage or isinstance(error, OperationalError))


def offset_of(connection: Connection, consumer: Consumer) -> int:
    """The offset of the last record that a consumer has made something of, 0 before the first."""
    who = {"consumer": consumer.name, "topic": consumer.topic}
    return int(connection.execute(_OFFSET, who).scalar() or 0)


class _Reads:
    """A round's records after `began_at`, read piece by piece. Afterwards `offset` is the last one's; `skipped` counts
    records that had been trimmed before they were read; `is_cut` says that more may be there."""

    def __init__(self, source: Source, topic: str, offset: int, *, is_careful: bool) -> None:
        self._source = source
        self._topic = topic
        self._limit, self._most = (1, 1) if is_careful else (READ_RECORDS, ROUND_READS)
        self.began_at = self.offset = offset
        self.records = 0
        self.skipped = 0
        self.is_cut = True

    def __iter__(self) -> Iterator[list[LogRecord]]:
        for _ in range(self._most):
            found = self._read()
            if not found:
                self.is_cut = False
                return
            self.skipped += found[0].offset - self.offset - 1
            self.records += len(found)
            self.offset = found[-1].offset
            yield found
            if len(found) < self._limit and sum(len(record.value) for record in found) < READ_BYTES:
                self.is_cut = False
                return

    def _read(self) -> list[LogRecord]:
        return self._source.read(self._topic, self.offset, limit=self._limit, max_bytes=READ_BYTES)


@dataclass(slots=True)
class _Portion:
    """What one job makes of a round's records."""

    job: Job
    set_aside: list[tuple[int, str]] = field(default_factory=list)
    gathered: Any = None

    def __post_init__(self) -> None:
        self.gathered = self.job.consumer.begin()

    def add(self, record: LogRecord) -> None:
        try:
            self.job.consumer.add(self.gathered, record)
        except Exception as error:
            self.set_aside.append((record.offset, _why(error)))

    def give_up(self, offset: int, error: Exception) -> None:
        self.gathered = self.job.consumer.begin()
        self.set_aside = [(offset, _why(error))]

    def store(self, reads: _Reads, at: int) -> None:
        consumer = self.job.consumer
        who = {"consumer": consumer.name, "topic": consumer.topic, "at": at}
        finished = consumer.finish(self.gathered)
        with self.job.database.write() as connection:
            if offset_of(connection, self.job.consumer) != reads.began_at:
                raise Overtaken
            consumer.store(connection, finished)
            for offset, reason in self.set_aside:
                connection.execute(_SET_ASIDE, {**who, "offset": offset, "reason": reason})
            counts = {"skipped": reads.skipped, "set_aside": len(self.set_aside)}
            connection.execute(_ADVANCE, {**who, "offset": reads.offset, **counts})


def _why(error: Exception) -> str:
    """The error in words that quote no record: of errors not our own, the class alone."""
    name = type(error).__name__
    return f"{name}: {error}"[:200] if type(error).__module__.startswith("foregate.") else name
