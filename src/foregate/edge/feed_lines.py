"""The lines of the feed, as both ends know them: one JSON object a line. Pure.

A record is its wire object. Beside records stand `{"snapshot_begin": seq}`, `{"snapshot_end": seq, "records": n}`,
`{"heartbeat": seq, "at": unix}` and, from version 2 on, `{"passed": seq}`. What is none of these is garbage, with a
reason; a reader never fails on a line. A reader says which version it knows, and gets no line of a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

# The longest line is an application with many policies; beyond this the stream is not a feed at all.
MAX_LINE_BYTES = 8 * 2**20
HEARTBEAT_SECONDS = 5.0
FEED_VERSION = 2


@dataclass(frozen=True, slots=True)
class RecordLine:
    """A record as sent; neither form nor MAC has been looked at."""

    wire: dict[str, object]


@dataclass(frozen=True, slots=True)
class SnapshotBegin:
    """All live records follow, up to `SnapshotEnd`."""

    seq: int


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The snapshot is whole as of `seq`. `records`: how many it held, None where the sender does not say."""

    seq: int
    records: int | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Everything up to `seq` has been sent on this stream. `at`: the control plane's clock, Unix seconds."""

    seq: int
    at: float


@dataclass(frozen=True, slots=True)
class Passed:
    """Everything up to `seq` has been sent or is of no concern to this edge."""

    seq: int


@dataclass(frozen=True, slots=True)
class Garbage:
    """A line that is no line of a feed."""

    reason: str


Line = RecordLine | SnapshotBegin | SnapshotEnd | Heartbeat | Passed | Garbage


def parse_line(text: bytes) -> Line:
    """One line without its newline. Safe on any input."""
    try:
        found = orjson.loads(text)
    except ValueError:
        return Garbage("not JSON")
    if not isinstance(found, dict):
        return Garbage("not an object")
    if "key" in found:
        return RecordLine(found)
    if "heartbeat" in found:
        at = found.get("at")
        return _with_seq(found, "heartbeat") or Heartbeat(found["heartbeat"], at if isinstance(at, int | float) else 0)
    if "passed" in found:
        return _with_seq(found, "passed") or Passed(found["passed"])
    if "snapshot_begin" in found:
        return _with_seq(found, "snapshot_begin") or SnapshotBegin(found["snapshot_begin"])
    if "snapshot_end" in found:
        records = found.get("records")
        return _with_seq(found, "snapshot_end") or SnapshotEnd(
            found["snapshot_end"], records if isinstance(records, int) else None
        )
    return Garbage("an object of no known kind")


def encode_line(line: SnapshotBegin | SnapshotEnd | Heartbeat | Passed) -> bytes:
    """The line with its newline."""
    match line:
        case SnapshotBegin(seq):
            return orjson.dumps({"snapshot_begin": seq}) + b"\n"
        case SnapshotEnd(seq, records):
            return orjson.dumps({"snapshot_end": seq, "records": records}) + b"\n"
        case Heartbeat(seq, at):
            return orjson.dumps({"heartbeat": seq, "at": at}) + b"\n"
        case Passed(seq):
            return orjson.dumps({"passed": seq}) + b"\n"


def _with_seq(found: dict[str, object], name: str) -> Garbage | None:
    seq = found[name]
    is_seq = isinstance(seq, int) and not isinstance(seq, bool) and 0 <= seq < 2**63
    return None if is_seq else Garbage(f"malformed {name}")
