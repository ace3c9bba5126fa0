"""Taking in what edges have put into topics of Kafka: batches of events, and reports. Run by the worker.

Whatever is sent again is dropped, in the transaction in which the offset moves: a batch by its place in the spool file,
a report because it says what is known. So a kill at any moment loses nothing and counts nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from foregate.access.events.batch import SpoolBatch, UnreadableBatch, read_message
from foregate.access.events.ingest import take_in
from foregate.access.events.reports import take_report
from foregate.core.clock import Clock, from_micros
from foregate.eventlog.model import LogRecord


class EventCarrier:
    """A consumer of one partition of the events: its batches go into the log that is asked and folded."""

    def __init__(self, topic: str, clock: Clock) -> None:
        self.name = "event-intake"
        self.topic = topic
        self._clock = clock

    def begin(self) -> list[SpoolBatch]:
        """No batches."""
        return []

    def add(self, gathered: list[SpoolBatch], record: LogRecord) -> None:
        """See `Consumer.add`. Raises UnreadableBatch."""
        gathered.append(read_message(record.value))

    def finish(self, gathered: list[SpoolBatch]) -> list[SpoolBatch]:
        """The batches."""
        return gathered

    def store(self, connection: Connection, finished: list[SpoolBatch]) -> None:
        """See `Consumer.store`."""
        for batch in finished:
            take_in(connection, batch, self._clock())


@dataclass(frozen=True, slots=True)
class SentReport:
    """A report of an edge, and when Kafka got it, in microseconds."""

    edge_id: str
    report: dict[str, Any]
    at: int


class ReportCarrier:
    """A consumer of the edges' reports."""

    def __init__(self, topic: str) -> None:
        self.name = "report-intake"
        self.topic = topic

    def begin(self) -> list[SentReport]:
        """No reports."""
        return []

    def add(self, gathered: list[SentReport], record: LogRecord) -> None:
        """See `Consumer.add`. Raises UnreadableBatch."""
        gathered.append(_read_report(record))

    def finish(self, gathered: list[SentReport]) -> list[SentReport]:
        """The reports."""
        return gathered

    def store(self, connection: Connection, finished: list[SentReport]) -> None:
        """See `Consumer.store`."""
        for sent in finished:
            take_report(connection, sent.edge_id, sent.report, from_micros(sent.at))


def _read_report(record: LogRecord) -> SentReport:
    """The key is the edge's id."""
    try:
        report = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        raise UnreadableBatch("the report is not JSON") from None
    applied = report.get("applied_seq") if isinstance(report, dict) else None
    if not record.key or type(applied) is not int or not 0 <= applied < 2**63:
        raise UnreadableBatch("the report says what no edge says")
    return SentReport(record.key, report, record.at)
