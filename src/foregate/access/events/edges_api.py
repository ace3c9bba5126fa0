"""The calls about edges: how far each has come, what became of a change, how well the pipeline of events runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.events import store
from foregate.access.events.consumers import EVENT_CONSUMERS
from foregate.access.events.freshness import is_reporting
from foregate.access.events.last_seen import read_freshness
from foregate.access.events.receipts import receipt_of
from foregate.access.events.reports import notes
from foregate.access.events.views import (
    ChangeView,
    ConsumerView,
    EdgeReceiptView,
    EdgeView,
    NoteView,
    PipelineView,
    WorkerView,
    moment,
)
from foregate.api.auth import Scope
from foregate.api.envelope import Answer
from foregate.api.operations import Call, Operations
from foregate.api.paging import PageInfo
from foregate.core.clock import Clock, to_micros
from foregate.core.errors import invalid, not_found
from foregate.database.engine import AsyncDatabase

_WORKERS_SHOWN = 200
_LATEST = 1e11  # Unix seconds; what an edge sends is its own word


class EdgesApi:
    """Handlers. `telemetry` is open with the rights INGEST; `records` says which edges and changes there are."""

    def __init__(self, telemetry: AsyncDatabase, records: AsyncDatabase, clock: Clock) -> None:
        self._telemetry = telemetry
        self._records = records
        self._clock = clock

    def operations(self) -> Operations:
        """The operations."""
        operations = Operations("Edges")
        base = "/accounts/{account_id}/foregate"
        operations.add("GET", f"{base}/edges", self.edges, "List edges and their states", result=EdgeView, is_list=True)
        operations.add(
            "GET", f"{base}/changes/{{seq}}", self.change, "Say what became of a change at each edge", result=ChangeView
        )
        # It tells of all accounts' events together.
        operations.add("GET", f"{base}/pipeline", self.pipeline, "Say how far events are processed",
                       scope=Scope.INSTALLATION, result=PipelineView)  # fmt: skip
        return operations

    async def edges(self, call: Call[None, None]) -> Answer:
        """Every edge that is not revoked, those that never reported included. A token that is bound to an account is
        told which records of that account an edge refused or holds, and of no others."""
        edges = await self._records.read(store.live_edges)
        end = await self._records.read(store.published_end)

        def read(telemetry: Connection) -> list[EdgeView]:
            reports = {report.edge_id: report for report in store.edge_reports(telemetry)}
            workers = store.workers(telemetry, _WORKERS_SHOWN)
            return [self._edge_view(edge, reports.get(edge.id), workers, end) for edge in edges]

        items = await self._telemetry.read(read)
        bound_to = call.principal.account_id
        if bound_to is not None:
            keys = [note["key"] for item in items for note in (*item["refused"], *item["held"])]
            own = await self._records.read(lambda records: store.keys_of(records, bound_to, keys))
            for item in items:
                item["refused"] = [note for note in item["refused"] if note["key"] in own]
                item["held"] = [note for note in item["held"] if note["key"] in own]
        return Answer(items, info=PageInfo(1, max(1, len(items)), len(items), len(items), 1))

    async def change(self, call: Call[None, None]) -> Answer:
        """The receipt of a change: `seq` is the number in the header Foregate-Change. A token that is bound to an
        account sees the changes of that account."""
        seq, bound_to = _parse_seq(call.path["seq"]), call.principal.account_id

        def look_up(records: Connection) -> tuple[store.OutboxRow | None, list[store.Edge]]:
            is_seen = bound_to is None or store.is_change_of(records, seq, bound_to)
            return store.find_change(records, seq) if is_seen else None, store.live_edges(records)

        change, edges = await self._records.read(look_up)
        if change is None:
            raise not_found("change")

        def read(telemetry: Connection) -> list[EdgeReceiptView]:
            reports = {report.edge_id: report for report in store.edge_reports(telemetry)}
            progress = store.progress(telemetry, change.sent_as or change.seq)
            return [receipt_of(edge, change, reports.get(edge.id), progress) for edge in edges]

        view: ChangeView = {
            "seq": change.seq,
            "record_key": change.record_key,
            "made_at": moment(change.made_at),
            "published_at": None if change.published_at is None else moment(change.published_at),
            "edges": await self._telemetry.read(read),
        }
        return Answer(view)

    async def pipeline(self, call: Call[None, None]) -> Answer:
        """Lag, coverage, gaps and losses on the way from a decision to what is shown of it."""
        edges = await self._records.read(store.live_edges)
        edge_ids = [edge.id for edge in edges]

        def read(telemetry: Connection) -> PipelineView:
            freshness = read_freshness(telemetry, edge_ids, self._clock)
            workers = store.workers(telemetry, _WORKERS_SHOWN)
            last, trimmed, size = store.log_extent(telemetry)
            return {
                "coverage": freshness.coverage,
                "accuracy_seconds": freshness.accuracy_seconds,
                "log": {"first_offset": trimmed + 1, "last_offset": last, "size_bytes": size},
                "consumers": [self._consumer_view(state) for state in store.consumers(telemetry, EVENT_CONSUMERS)],
                "workers": [_worker_view(worker) for worker in workers],
                "missing_events": sum(worker.missing for worker in workers if worker.is_final),
                "malformed_lines": sum(worker.malformed for worker in workers),
                "lost_bytes": sum(worker.lost_bytes for worker in workers),
            }

        return Answer(await self._telemetry.read(read))

    def _edge_view(
        self, edge: store.Edge, report: store.EdgeReport | None, workers: list[store.WorkerState], end: int
    ) -> EdgeView:
        said: dict[str, Any] = {} if report is None else report.report
        spool = said.get("spool")
        own = [worker for worker in workers if worker.edge_id == edge.id]
        return {
            "id": edge.id,
            "name": edge.name,
            "group": edge.group,
            "is_reporting": report is not None and is_reporting(report.at, self._clock()),
            "reported_at": None if report is None else moment(report.at),
            "clock_ahead_seconds": None if report is None else _clock_ahead(report),
            "applied_seq": 0 if report is None else report.applied_seq,
            "pending": end if report is None else max(0, end - report.applied_seq),
            "refused": _note_views(said, "refused"),
            "held": _note_views(said, "held"),
            "spool": spool if isinstance(spool, dict) else {},
            "lost_bytes": sum(worker.lost_bytes for worker in own),
            "missing_events": sum(worker.missing for worker in own if worker.is_final),
        }

    def _consumer_view(self, state: store.ConsumerState) -> ConsumerView:
        unread = 0 if state.unread_at is None else to_micros(self._clock()) - state.unread_at
        return {
            "name": state.name,
            "offset": state.offset,
            "lag_records": state.end - state.offset,
            "lag_seconds": round(max(0, unread) / 1e6, 3),
            "skipped": state.skipped,
            "set_aside": state.set_aside,
            "set_aside_since": None if state.aside_at is None else moment(state.aside_at),
            "set_aside_reason": state.aside_reason,
        }


def _clock_ahead(report: store.EdgeReport) -> float | None:
    said = report.report.get("at")
    if not isinstance(said, int | float) or isinstance(said, bool) or not 0 < said < _LATEST:
        return None
    return round(said - report.at / 1e6, 1)


def _note_views(report: dict[str, Any], name: str) -> list[NoteView]:
    return [{"key": note.record_key, "seq": note.seq, "reason": note.reason} for note in notes(report, name)]


def _worker_view(worker: store.WorkerState) -> WorkerView:
    return {
        "edge_id": worker.edge_id,
        "worker": worker.worker,
        "is_ended": worker.is_final,
        "events": worker.events,
        "failures": worker.failures,
        "notices": worker.notices,
        "malformed": worker.malformed,
        "missing": worker.missing if worker.is_final else 0,
        "without_line": worker.without_line,
        "lost_bytes": worker.lost_bytes,
        "heard_at": moment(worker.updated_at),
    }


def _parse_seq(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) <= 18:
        raise invalid("Give the number in the header Foregate-Change.", pointer="/seq")
    return int(text)
