"""Batches: what an edge may send, and how they stand in the log."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from event_lines import batch, line
from foregate.access.events.batch import (
    MAX_BODY_BYTES,
    MAX_RAW_BYTES,
    UnreadableBatch,
    parse_batch,
    read_batch,
    to_value,
)
from foregate.core.errors import ErrorCode, ForegateError
from foregate.eventlog.model import LogRecord

GOLDEN = Path(__file__).parents[3] / "golden" / "events"
LINES = line(0) + line(1, path="/später") + line(2)


def record(value: bytes) -> LogRecord:
    return LogRecord("login-events", 4, "edge-1/w1", value, 1000)


def test_batch_comes_back_from_the_log_as_it_was() -> None:
    sent = batch(LINES, start=512)
    found = read_batch(record(to_value(sent, 512, 512 + len(LINES))))
    assert (found.offset, found.at, found.edge_id, found.worker) == (4, 1000, "edge-1", "w1")
    assert (found.start, found.lines) == (512, LINES)


def test_part_of_a_batch_can_be_stored() -> None:
    sent = batch(LINES, start=100)
    first = len(line(0))
    found = read_batch(record(to_value(sent, 100 + first, sent.end)))
    assert (found.start, found.lines) == (100 + first, LINES[first:])


@pytest.mark.parametrize("version", [1])
def test_stored_batch_of_every_version_can_be_read(version: int) -> None:
    found = read_batch(record((GOLDEN / f"batch.{version}.bin").read_bytes()))
    assert (found.edge_id, found.worker, found.start) == ("edge-1", "w1", 512)
    assert found.lines == (GOLDEN / "lines.txt").read_bytes()


def test_empty_body_is_no_lines() -> None:
    assert parse_batch("e", "w", 5, True, b"").lines == b""
    assert parse_batch("e", "w", 5, True, zlib.compress(b"")).lines == b""


@pytest.mark.parametrize(
    ("worker", "start", "body"),
    [
        ("", 0, b""),
        ("../w", 0, b""),
        ("w" * 65, 0, b""),
        ("w", -1, b""),
        ("w", 2**61, b""),
        ("w", 0, b"not zlib"),
        ("w", 0, zlib.compress(LINES)[:-3]),
        ("w", 0, zlib.compress(LINES) + b"more"),
        ("w", 0, zlib.compress(LINES[:-1])),
    ],
    ids=["no worker", "path", "long", "negative", "far", "garbage", "cut", "trailing", "half a line"],
)
def test_what_is_no_batch_is_refused(worker: str, start: int, body: bytes) -> None:
    with pytest.raises(ForegateError) as refused:
        parse_batch("e", worker, start, False, body)
    assert refused.value.code is ErrorCode.INVALID_INPUT


@pytest.mark.parametrize(
    "body", [zlib.compress(b"\n" * (MAX_RAW_BYTES + 1)), b"x" * (MAX_BODY_BYTES + 1)], ids=["unpacked", "packed"]
)
def test_too_much_at_once_is_refused_without_unpacking_it_all(body: bytes) -> None:
    with pytest.raises(ForegateError) as refused:
        parse_batch("e", "w", 0, False, body)
    assert refused.value.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}\n",
        b'{"v":2}\nxxxx',
        b"\n" + zlib.compress(LINES),
        b'{"v":1,"edge":"e","worker":"w","start":0,"size":3}\n' + zlib.compress(LINES),
        b'{"v":1,"edge":"e","worker":"w","start":0,"size":-3}\n' + zlib.compress(LINES),
        b'{"v":1,"edge":"e","worker":"w","start":0,"size":9}\n\0\1\2',
        b"[1]\n" + zlib.compress(LINES),
    ],
)
def test_record_that_is_no_batch_is_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableBatch):
        read_batch(record(value))
