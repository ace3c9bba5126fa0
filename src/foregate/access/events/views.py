"""How events, counts, edges and receipts stand in answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from foregate.access.events.events import Event
from foregate.access.events.scan import Place
from foregate.access.events.store import Application
from foregate.api.paging import PageInfo
from foregate.core.clock import from_micros
from foregate.core.decision import Outcome


class AccessRequestView(TypedDict, total=False):
    """An item of Cloudflare's access requests, and what Foregate adds: the token and the reason."""

    action: str
    allowed: bool
    app_domain: str
    app_name: str
    app_type: str
    app_uid: str
    connection: str
    country: str
    created_at: str
    ip_address: str
    ray_id: str
    user_email: str
    user_id: str
    service_token_id: str
    client_id: str
    reason: str


class EventView(TypedDict):
    """A decision of an edge. `id` is also its cursor; `client_id` as presented, known or not; `end` how the exchange
    ended, in HAProxy's letters."""

    id: str
    at: str
    ray_id: str
    outcome: str
    reason: str
    status: int
    app_id: str
    policy_id: str
    client_id: str
    host: str
    ip: str
    method: str
    path: str
    end: str


class RollupView(TypedDict):
    """Events of one minute."""

    minute: str
    app_id: str
    outcome: str
    reason: str
    events: int


class NoteView(TypedDict):
    """A record that an edge refuses or holds back."""

    key: str
    seq: int
    reason: str


class EdgeView(TypedDict):
    """An edge. `pending` says how many seqs it is behind what was published; `spool` is its own word on what waits
    there; `lost_bytes` and `missing_events` are what never arrived. `clock_ahead_seconds`: its clock less the control
    plane's at its last word, which took some milliseconds to come; null without one."""

    id: str
    name: str
    group: str
    is_reporting: bool
    reported_at: str | None
    clock_ahead_seconds: float | None
    applied_seq: int
    pending: int
    refused: list[NoteView]
    held: list[NoteView]
    spool: dict[str, Any]
    lost_bytes: int
    missing_events: int


class EdgeReceiptView(TypedDict):
    """What became of a change at an edge: `applied`, `pending`, `refused` or `held`."""

    id: str
    name: str
    state: str
    at: str | None
    reason: str


class ChangeView(TypedDict):
    """A change on its way to the edges."""

    seq: int
    record_key: str
    made_at: str
    published_at: str | None
    edges: list[EdgeReceiptView]


class ConsumerView(TypedDict):
    """A consumer of events. `skipped` records were dropped before it read them, `set_aside` ones it could not take;
    since when and why is known as long as the log holds them."""

    name: str
    offset: int
    lag_records: int
    lag_seconds: float
    skipped: int
    set_aside: int
    set_aside_since: str | None
    set_aside_reason: str | None


class WorkerView(TypedDict):
    """What arrived of an HAProxy worker. `failures` are connections that failed before a request. `missing` lines were
    written and never arrived (0 until the worker has ended: they may be on their way). `without_line` are request
    numbers that no line was written for: requests that are open, or were cut off when the worker ended, and connections
    of the agent's own."""

    edge_id: str
    worker: str
    is_ended: bool
    events: int
    failures: int
    notices: int
    malformed: int
    missing: int
    without_line: int
    lost_bytes: int
    heard_at: str


class LogView(TypedDict):
    """The kept batches."""

    first_offset: int
    last_offset: int
    size_bytes: int


class PipelineView(TypedDict):
    """How well decisions become what is shown."""

    coverage: float
    accuracy_seconds: float | None
    log: LogView
    consumers: list[ConsumerView]
    workers: list[WorkerView]
    missing_events: int
    malformed_lines: int
    lost_bytes: int


@dataclass(frozen=True, slots=True)
class TailInfo(PageInfo):
    """`result_info` of events. `cursor`: what comes `after` this answer; `older`: what lies `before` it. With
    `is_complete` false the search ended for lack of time; go on from the cursor."""

    cursor: str = ""
    older: str = ""
    is_complete: bool = True


def event_view(place: Place, event: Event) -> EventView:
    """One event."""
    return {
        "id": str(place),
        "at": moment(event.at),
        "ray_id": event.ray_id,
        "outcome": event.outcome.value,
        "reason": event.reason.value,
        "status": event.status,
        "app_id": event.app_id,
        "policy_id": event.policy_id,
        "client_id": event.client_id,
        "host": event.host,
        "ip": event.ip,
        "method": event.method,
        "path": event.path,
        "end": event.end,
    }


def access_request_view(event: Event, token_id: str, application: Application | None) -> AccessRequestView:
    """One event of a known token."""
    return {
        "action": "login",
        "allowed": event.outcome is Outcome.ALLOWED,
        "app_domain": event.host if application is None or not application.domain else application.domain,
        "app_name": "" if application is None else application.name,
        "app_type": "self_hosted",
        "app_uid": event.app_id,
        "connection": "service_token",
        "country": "",
        "created_at": moment(event.at),
        "ip_address": event.ip,
        "ray_id": event.ray_id,
        "user_email": "",
        "user_id": "",
        "service_token_id": token_id,
        "client_id": event.client_id,
        "reason": event.reason.value,
    }


ACCESS_REQUEST_FIELDS = frozenset(AccessRequestView.__annotations__)


def moment(micros: int) -> str:
    """RFC 3339 with milliseconds, in UTC: events are closer together than seconds."""
    at: datetime = from_micros(micros)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
