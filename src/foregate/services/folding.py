"""How well events are folded, seen from outside the worker: what it says keeps failing, what its consumers could not
take, and what they have not read. Written by the worker into the home, and read off the telemetry store, so that a
worker that never began, or cannot, is seen as well. Read by `foregate status` and `foregate doctor`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import DatabaseError

from foregate.access.events import store
from foregate.access.events.consumers import EVENT_CONSUMERS
from foregate.core.clock import format_time, from_micros, to_micros
from foregate.core.errors import ForegateError
from foregate.core.masterkey import write_private
from foregate.database.stores import Store
from foregate.eventlog.troubles import Trouble
from foregate.services.holder import find_holder
from foregate.services.home import Home
from foregate.services.process import find_locks

# A worker is two seconds behind at full load; one that starts anew, or has a day to catch up with, is soon past this.
_PATIENCE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Failure:
    """What the worker tries again and again: a consumer, a chore, or reading the log."""

    name: str
    since: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """One consumer. `unread` batches of events, the oldest since `unread_since`; `set_aside` in all, those that the log
    still holds since `set_aside_since` and the last for `set_aside_reason`. Times are RFC 3339."""

    name: str
    unread: int
    unread_since: str | None
    set_aside: int
    set_aside_since: str | None
    set_aside_reason: str | None


@dataclass(frozen=True, slots=True)
class Folding:
    """All of it. `problems` are sentences, none if all is well."""

    consumers: tuple[ConsumerReport, ...]
    failing: tuple[Failure, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs: member names are a promise (docs/reference/cli.md)."""
        return asdict(self)


def tell(home: Home, worker: str, troubles: tuple[Trouble, ...]) -> None:
    """A worker's word on what keeps failing. Where it cannot be written it is in the worker's log alone."""
    found = [asdict(Failure(one.name, format_time(from_micros(one.since)), one.reason)) for one in troubles]
    try:
        write_private(home.troubles(worker), json.dumps(found).encode())
    except OSError as error:
        structlog.get_logger("foregate.worker").error("troubles_not_told", error=error.strerror)


def read_folding(home: Home, telemetry: Store, now: datetime) -> Folding:
    """How it is now. Never fails, starts nothing and needs nothing to run."""
    failing = tuple(failure for worker in _workers(home) for failure in _failing(home, worker))
    problems = [f"{one.name} keeps failing since {one.since}: {one.reason}" for one in failing]
    states: list[store.ConsumerState] = []
    aside: list[store.MessagesAside] = []
    if telemetry.exists():
        try:
            with telemetry.look_into() as connection:
                states = store.consumers(connection, EVENT_CONSUMERS)
                aside = store.messages_aside(connection)
        except DatabaseError as error:
            problems.append(f"{telemetry.where} cannot be read: {error.orig}")
        except ForegateError as error:
            problems.append(error.message)
    consumers = tuple(_report(state) for state in states)
    problems += [sentence for state in states for sentence in _sentences(state, now)]
    problems += [
        f"{found.consumer} has set aside {found.count} messages of {found.topic.partition('@')[0]}, the first at "
        f"{format_time(from_micros(found.since))}: {found.reason}"
        for found in aside
    ]
    return Folding(consumers, failing, tuple(problems))


def _workers(home: Home) -> list[str]:
    """Those that run: what one has left that was killed says nothing of now."""
    return [lock.stem for lock in find_locks(home, "worker") if find_holder(lock) is not None]


def _failing(home: Home, worker: str) -> tuple[Failure, ...]:
    try:
        return tuple(Failure(**found) for found in json.loads(home.troubles(worker).read_text()))
    except (OSError, ValueError, TypeError):
        return ()


def _report(state: store.ConsumerState) -> ConsumerReport:
    unread = 0 if state.unread_at is None else state.end - state.offset
    unread_since, aside_since = (
        None if at is None else format_time(from_micros(at)) for at in (state.unread_at, state.aside_at)
    )
    return ConsumerReport(state.name, unread, unread_since, state.set_aside, aside_since, state.aside_reason)


def _sentences(state: store.ConsumerState, now: datetime) -> Iterator[str]:
    report = _report(state)
    if state.unread_at is not None and state.unread_at < to_micros(now - _PATIENCE):
        yield f"{state.name} is behind: {report.unread} batches unread, the oldest since {report.unread_since}"
    if state.aside_at is not None:
        yield (
            f"{state.name} has set aside {state.set_aside} batches of events, the first of those still in the log "
            f"at {report.set_aside_since}: {state.aside_reason}"
        )
