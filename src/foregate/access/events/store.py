"""The SQL that answers questions about events, edges and receipts. Reads only: of telemetry.db what the consumers
made, of records.db names and which edges there are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select, text

from foregate.core.decision import Reason
from foregate.database.records_schema import applications, audit, edges, ingress_hostnames, outbox, service_tokens
from foregate.database.telemetry_schema import last_seen
from foregate.eventlog.model import LOGIN_EVENTS

_CHUNK = 500

_REPORTS = text("SELECT edge_id, applied_seq, caught_up_at, at, report FROM edge_states")
# A consumer that has not begun has no row of its own, and yet all of the log before it.
_CONSUMER = text(
    'SELECT coalesce(c."offset", 0), coalesce(c.skipped, 0), coalesce(c.set_aside, 0), coalesce(t.last_offset, 0), '
    '(SELECT r.at FROM log_records AS r WHERE r.topic = n.topic AND r."offset" > coalesce(c."offset", 0) '
    'ORDER BY r."offset" LIMIT 1), '
    "(SELECT min(p.at) FROM poison_records AS p WHERE p.consumer = n.consumer AND p.topic = n.topic), "
    "(SELECT p.reason FROM poison_records AS p WHERE p.consumer = n.consumer AND p.topic = n.topic "
    'ORDER BY p."offset" DESC LIMIT 1) '
    "FROM (SELECT :consumer AS consumer, :topic AS topic) AS n "
    "LEFT JOIN consumer_offsets AS c ON c.consumer = n.consumer AND c.topic = n.topic "
    "LEFT JOIN log_topics AS t ON t.topic = n.topic"
)
# What the worker's intake could not take, by partition. Those consumers read topics that are not in this log.
_ASIDE = text(
    "SELECT p.consumer, p.topic, count(*), min(p.at), max(p.reason) FROM poison_records AS p "
    "WHERE p.topic <> :topic GROUP BY p.consumer, p.topic ORDER BY p.consumer, p.topic"
)
_UNREAD_AT = text(
    'SELECT at FROM log_records WHERE topic = :topic AND "offset" > coalesce((SELECT "offset" FROM consumer_offsets '
    'WHERE consumer = :consumer AND topic = :topic), 0) ORDER BY "offset" LIMIT 1'
)
_WORKERS = text(
    "SELECT p.edge_id, p.worker, p.next_byte, p.is_final, p.updated_at, n.highest, n.written, n.events, "
    "n.failures, n.notices, n.malformed, "
    "(SELECT coalesce(sum(g.end_byte - g.first_byte), 0) FROM spool_gaps AS g "
    "WHERE g.edge_id = p.edge_id AND g.worker = p.worker) AS lost_bytes "
    "FROM spool_positions AS p LEFT JOIN worker_numbers AS n ON n.edge_id = p.edge_id AND n.worker = p.worker "
    "ORDER BY p.updated_at DESC LIMIT :limit"
)
_TOPIC = text("SELECT last_offset, trimmed_offset, size_bytes FROM log_topics WHERE topic = :topic")
_ROLLUPS = text(
    "SELECT minute, app_id, reason, events FROM rollups WHERE minute >= :first AND minute < :end "
    "AND account_id = :account ORDER BY minute DESC, app_id, reason LIMIT :limit"
)
_APPLIED_AT = text("SELECT edge_id, min(at) FROM edge_progress WHERE applied_seq >= :seq GROUP BY edge_id")
_REFUSALS = text("SELECT edge_id, reason, at FROM edge_refusals WHERE seq = :seq")
_SEEN = select(last_seen.c.client_id, last_seen.c.seen_at, last_seen.c.edge_id).where(
    last_seen.c.client_id.in_(bindparam("ids", expanding=True))
)
_NAMES = select(service_tokens.c.client_id, service_tokens.c.id).where(
    service_tokens.c.client_id.in_(bindparam("ids", expanding=True))
)
_APPLICATIONS = select(applications.c.id, applications.c.name, applications.c.body).where(
    applications.c.id.in_(bindparam("ids", expanding=True))
)
_EDGES = (
    select(edges.c.id, edges.c.name, edges.c.group_name)
    .where(edges.c.revoked_at.is_(None))
    .order_by(edges.c.created_at, edges.c.id)
)


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """The newest word of an edge. Times are microseconds; `report` as it was sent."""

    edge_id: str
    applied_seq: int
    caught_up_at: int
    at: int
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """How far a consumer is. `unread_at`: when the oldest record it has not read was taken in, None without one.
    `set_aside` counts for ever; of those that the log still holds, `aside_at` is when the first was, and `aside_reason`
    why the last was."""

    name: str
    offset: int
    skipped: int
    set_aside: int
    end: int
    unread_at: int | None
    aside_at: int | None
    aside_reason: str | None


@dataclass(frozen=True, slots=True)
class MessagesAside:
    """Messages of a topic that a consumer has set aside, the first at `since`, and why one of them was."""

    consumer: str
    topic: str
    count: int
    since: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What arrived of a worker. `highest` is its highest request number, -1 before the first; `written` how many lines
    it says to have written for requests and failed connections."""

    edge_id: str
    worker: str
    taken_bytes: int
    is_final: bool
    updated_at: int
    highest: int
    written: int
    events: int
    failures: int
    notices: int
    malformed: int
    lost_bytes: int

    @property
    def missing(self) -> int:
        """Lines that were written and have not arrived: on their way as long as the worker lives, then lost."""
        return max(0, self.written - self.events - self.failures - self.malformed)

    @property
    def without_line(self) -> int:
        """Request numbers for which no line was written: requests that are open, or were cut off when the worker ended,
        and connections of the agent's own."""
        lines = max(self.written, self.events + self.failures + self.malformed)
        return max(0, self.highest + 1 - lines - self.notices)


@dataclass(frozen=True, slots=True)
class Rollup:
    """Events of one minute (whole minutes since 1970), application and reason."""

    minute: int
    app_id: str
    reason: Reason
    events: int


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that is not revoked. `group` is empty where it is in none."""

    id: str
    name: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Application:
    """What an event's application is called."""

    id: str
    name: str
    domain: str


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A change on its way. `sent_as`: the seq under which the key's state was published, this one or a later one of
    the same moment; None until then."""

    seq: int
    record_key: str
    made_at: int
    published_at: int | None
    sent_as: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """What edges said about one seq: when each had applied it, and which refused it when and why."""

    applied_at: dict[str, int]
    refused: dict[str, tuple[str, int]]


def sightings(telemetry: Connection, client_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """When (microseconds) and at which edge each of these was last seen; without those never seen."""
    found: dict[str, tuple[int, str]] = {}
    for start in range(0, len(client_ids), _CHUNK):
        rows = telemetry.execute(_SEEN, {"ids": client_ids[start : start + _CHUNK]})
        found.update({client_id: (seen_at, edge_id) for client_id, seen_at, edge_id in rows})
    return found


def edge_reports(telemetry: Connection) -> list[EdgeReport]:
    """The newest report of each edge."""
    rows = telemetry.execute(_REPORTS)
    return [
        EdgeReport(edge_id, applied_seq, caught_up_at, at, orjson.loads(report))
        for edge_id, applied_seq, caught_up_at, at, report in rows
    ]


def consumers(telemetry: Connection, names: Iterable[str]) -> list[ConsumerState]:
    """The consumers of events of these names, those that have not begun included."""
    return [
        ConsumerState(name, *telemetry.execute(_CONSUMER, {"consumer": name, "topic": LOGIN_EVENTS}).one())
        for name in names
    ]


def messages_aside(telemetry: Connection) -> list[MessagesAside]:
    """What could not be taken in from topics outside of this log."""
    return [MessagesAside(*row) for row in telemetry.execute(_ASIDE, {"topic": LOGIN_EVENTS})]


def unread_at(telemetry: Connection, consumer: str) -> int | None:
    """When the oldest batch that `consumer` has not read was taken in, None if it has read all."""
    found = telemetry.execute(_UNREAD_AT, {"topic": LOGIN_EVENTS, "consumer": consumer}).scalar()
    return None if found is None else int(found)


def workers(telemetry: Connection, limit: int) -> list[WorkerState]:
    """The workers heard of last."""
    found = []
    for row in telemetry.execute(_WORKERS, {"limit": limit}):
        edge_id, worker, taken, is_final, at, highest, *counts, lost = row
        written, events, failures, notices, malformed = (count or 0 for count in counts)
        numbers = (-1 if highest is None else highest, written, events, failures, notices, malformed)
        found.append(WorkerState(edge_id, worker, taken, bool(is_final), at, *numbers, int(lost)))
    return found


def log_extent(telemetry: Connection) -> tuple[int, int, int]:
    """Of `login-events`: last offset, last one trimmed, bytes kept."""
    row = telemetry.execute(_TOPIC, {"topic": LOGIN_EVENTS}).first()
    return (0, 0, 0) if row is None else (row[0], row[1], row[2])


def rollups(telemetry: Connection, account_id: str, first_minute: int, end_minute: int, limit: int) -> list[Rollup]:
    """Counts of the account from `first_minute` to before `end_minute`, the newest first."""
    range_ = {"first": first_minute, "end": end_minute, "account": account_id, "limit": limit}
    return [
        Rollup(minute, app_id, Reason(reason), events)
        for minute, app_id, reason, events in telemetry.execute(_ROLLUPS, range_)
    ]


def progress(telemetry: Connection, seq: int) -> Progress:
    """What edges said about the record with this seq."""
    applied = telemetry.execute(_APPLIED_AT, {"seq": seq})
    refused = telemetry.execute(_REFUSALS, {"seq": seq})
    return Progress(
        {edge_id: at for edge_id, at in applied}, {edge_id: (reason, at) for edge_id, reason, at in refused}
    )


def published_end(records: Connection) -> int:
    """The highest seq that the log has, 0 before the first."""
    published = select(outbox.c.seq).where(outbox.c.published_at.is_not(None))
    return int(records.execute(published.order_by(outbox.c.seq.desc()).limit(1)).scalar() or 0)


def live_edges(records: Connection) -> list[Edge]:
    """The edges that are not revoked, the oldest first."""
    return [Edge(*row) for row in records.execute(_EDGES)]


def token_ids(records: Connection, client_ids: Iterable[str]) -> dict[str, str]:
    """Token ids by client id, deleted tokens included."""
    wanted = sorted(set(client_ids))
    found: dict[str, str] = {}
    for start in range(0, len(wanted), _CHUNK):
        rows = records.execute(_NAMES, {"ids": wanted[start : start + _CHUNK]})
        found.update({client_id: token_id for client_id, token_id in rows})
    return found


def applications_of(records: Connection, app_ids: Iterable[str]) -> dict[str, Application]:
    """Those of the applications that still exist, by id."""
    rows = records.execute(_APPLICATIONS, {"ids": sorted(set(app_ids))})
    return {app_id: Application(app_id, name, json.loads(body).get("domain") or "") for app_id, name, body in rows}


def application_ids_of(records: Connection, account_id: str, application: str) -> list[str]:
    """The ids of the account's applications with this name."""
    columns = applications.c
    query = select(columns.id).where(columns.account_id == account_id, columns.name == application)
    return [row[0] for row in records.execute(query.limit(100))]


def client_ids_of(records: Connection, account_id: str, token: str) -> list[str]:
    """The client ids of the account's token with this id or name (several may share a name), deleted ones included."""
    tokens = service_tokens.c
    query = select(tokens.client_id).where(
        tokens.account_id == account_id, (tokens.id == token) | (tokens.name == token)
    )
    return [row[0] for row in records.execute(query.limit(100))]


def is_change_of(records: Connection, seq: int, account_id: str) -> bool:
    """Whether the change that was answered with `seq` is the account's. Newest first, as those are asked about."""
    mine = (audit.c.account_id == account_id) & (audit.c.change_seq == seq)
    return records.execute(select(audit.c.id).where(mine).order_by(audit.c.id.desc()).limit(1)).first() is not None


def keys_of(records: Connection, account_id: str, keys: Iterable[str]) -> frozenset[str]:
    """Those record keys that are about things of the account as it is now."""
    names: dict[str, list[str]] = {}
    for key in keys:
        kind, _, name = key.partition("/")
        names.setdefault(kind, []).append(name)
    found = {f"{kind}/{account_id}" for kind in ("account", "keys") if account_id in names.get(kind, ())}
    for kind, column in (
        ("token", service_tokens.c.client_id),
        ("app", applications.c.id),
        ("ingress", ingress_hostnames.c.hostname),
    ):
        mine = column.table.c.account_id == account_id
        rows = records.execute(select(column).where(mine, column.in_(names.get(kind, []))))
        found |= {f"{kind}/{name}" for (name,) in rows}
    return frozenset(found)


def find_change(records: Connection, seq: int) -> OutboxRow | None:
    """The outbox row with this seq."""
    columns = outbox.c
    row = records.execute(select(outbox).where(columns.seq == seq)).first()
    if row is None:
        return None
    sent_as = None
    if row.published_at is not None:
        # Rows of one key that were published at one moment went out as one record, under the last one's seq.
        together = select(columns.seq).where(
            columns.published_at == row.published_at, columns.record_key == row.record_key
        )
        sent_as = max(other for (other,) in records.execute(together))
    return OutboxRow(row.seq, row.record_key, row.enqueued_at, row.published_at, sent_as)
