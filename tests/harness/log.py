"""All events that a control plane has taken in, read from its log as it lies on disk, and the gaps it has counted."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any

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
    with _telemetry(foregate) as connection:
        return connection.execute("SELECT offset, topic, value FROM log_records ORDER BY offset").fetchall()


def counted_gaps(foregate: Foregate) -> int:
    """How many events the control plane knows to be missing, by its own count."""
    return sum(int(edge["missing_events"]) for edge in foregate.api().result("GET", "/foregate/edges"))


def lost_bytes(foregate: Foregate) -> int:
    """How many bytes of spool files are gone for ever, by the control plane's own count."""
    return sum(int(edge["lost_bytes"]) for edge in foregate.api().result("GET", "/foregate/edges"))


def _telemetry(foregate: Foregate) -> closing[sqlite3.Connection]:
    path = foregate.home / "telemetry.db"
    return closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10))
