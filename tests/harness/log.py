"""All events that a control plane has taken in, read from its log as it lies on disk, and the gaps it has counted."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from foregate.database.telemetry_schema import log_records as log_records_table
from foregate.services.settings import load
from foregate.services.stores import stores_of
from harness.product import Foregate


def logged_events(foregate: Foregate) -> Iterator[dict[str, Any]]:
    """Every event line, in the order of the log."""
    for lines in event_batches(foregate):
        for line in lines.splitlines():
            if line.startswith(b"{"):
                yield json.loads(line)


def event_batches(foregate: Foregate) -> Iterator[bytes]:
    """The lines of every batch."""
    for _, topic, value in log_records(foregate):
        if topic == "login-events":
            yield zlib.decompress(value.partition(b"\n")[2])


def log_records(foregate: Foregate) -> list[tuple[int, str, bytes]]:
    """Offset, topic and value of every record of the log."""
    columns = log_records_table.c
    query = select(columns.offset, columns.topic, columns.value).order_by(columns.offset)
    with stores_of(load(foregate.environment)).telemetry.look_into() as connection:
        return [tuple(row) for row in connection.execute(query)]


def counted_gaps(foregate: Foregate) -> int:
    """How many events the control plane knows to be missing, by its own count."""
    return sum(int(edge["missing_events"]) for edge in foregate.api().result("GET", "/foregate/edges"))


def lost_bytes(foregate: Foregate) -> int:
    """How many bytes of spool files are gone for ever, by the control plane's own count."""
    return sum(int(edge["lost_bytes"]) for edge in foregate.api().result("GET", "/foregate/edges"))
