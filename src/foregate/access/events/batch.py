"""A batch of event lines: how an edge sends it, and how it stands in the log.

A log record's value is one line of JSON about the batch, a newline, and the raw lines under zlib. Parsing what an edge
sent happens outside of any transaction; nothing of it is trusted before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.edge.event_message import VERSION, encode
from foregate.eventlog.model import LogRecord
from foregate.eventlog.packing import TooLong, Unpackable, pack, unpack, unpack_known

# An agent sends about four mebibytes of lines at a time; this bounds what a broken one can make us unpack.
MAX_RAW_BYTES = 16 << 20
MAX_BODY_BYTES = 8 << 20
_WORKER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EDGE = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A spool file of a million terabytes is a mistake.
_MAX_POSITION = 2**60


@dataclass(frozen=True, slots=True)
class SpoolBatch:
    """`size_bytes` of whole lines of a worker's spool file from byte `start` on. `is_final`: the file ends with them.

    `packed` is the lines under zlib as the edge sent them, so that a batch taken whole is not packed again.
    """

    edge_id: str
    worker: str
    start: int
    size_bytes: int
    is_final: bool
    packed: bytes

    @property
    def end(self) -> int:
        """The first byte after the batch."""
        return self.start + self.size_bytes

    @property
    def lines(self) -> bytes:
        """The lines, unpacked at each call. Raises UnreadableBatch."""
        try:
            return unpack_known(self.packed, self.size_bytes) if self.size_bytes else b""
        except Unpackable as error:
            raise UnreadableBatch(f"the batch cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as it stands in the log. `at`: when it was taken in, microseconds since 1970."""

    offset: int
    at: int
    edge_id: str
    worker: str
    start: int
    lines: bytes


class UnreadableBatch(Exception):
    """A log record that is no batch. A bug or damage on disk; the text holds nothing of its content."""


def parse_batch(edge_id: str, worker: str, start: int, is_final: bool, body: bytes) -> SpoolBatch:
    """What an edge sent. An empty body is no lines, as at the end of a file.

    Raises ForegateError: INVALID_INPUT for a wrong form, TOO_LARGE for too much at once.
    """
    if not _WORKER.fullmatch(worker):
        raise invalid("worker must be 1 to 64 letters, digits, dots, hyphens or underscores.", pointer="worker")
    if not 0 <= start < _MAX_POSITION:
        raise invalid("offset must be a byte's place in the spool file.", pointer="offset")
    if len(body) > MAX_BODY_BYTES:
        raise ForegateError(ErrorCode.TOO_LARGE, f"Send at most {MAX_BODY_BYTES} bytes at once.")
    lines = _unpack(body) if body else b""
    if lines and not lines.endswith(b"\n"):
        raise invalid("A batch holds whole lines; the last one has no end.")
    return SpoolBatch(edge_id, worker, start, len(lines), is_final, body)


def to_value(batch: SpoolBatch, start: int, end: int) -> bytes:
    """The log record's value for the bytes `start` to `end` (places in the spool file) of the batch."""
    is_whole = start == batch.start and end == batch.end
    packed = batch.packed if is_whole else pack(batch.lines[start - batch.start : end - batch.start])
    about = {"v": VERSION, "edge": batch.edge_id, "worker": batch.worker, "start": start, "size": end - start}
    return orjson.dumps(about) + b"\n" + packed


def to_message(batch: SpoolBatch) -> bytes:
    """The batch on its way to whoever takes it in: as it stands in the log, and whether the file ends with it."""
    return encode(batch.edge_id, batch.worker, batch.start, batch.size_bytes, batch.packed, is_final=batch.is_final)


def read_message(message: bytes) -> SpoolBatch:
    """The inverse. The lines themselves are not looked at. Raises UnreadableBatch."""
    head, _, packed = message.partition(b"\n")
    try:
        about = orjson.loads(head)
        found = SpoolBatch(
            about["edge"], about["worker"], about["start"], about["size"], bool(about.get("final")), packed
        )
        if about["v"] != VERSION:
            raise UnreadableBatch("unknown batch version")
        is_good = (
            _EDGE.fullmatch(found.edge_id)
            and _WORKER.fullmatch(found.worker)
            and type(found.start) is type(found.size_bytes) is int
            and 0 <= found.start < _MAX_POSITION
            and 0 <= found.size_bytes <= MAX_RAW_BYTES
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UnreadableBatch(f"the batch cannot be read: {type(error).__name__}") from error
    if not is_good:
        raise UnreadableBatch("the batch says what no edge says")
    return found


def read_batch(record: LogRecord) -> StoredBatch:
    """The batch in a log record. Raises UnreadableBatch."""
    head, _, packed = record.value.partition(b"\n")
    try:
        about = orjson.loads(head)
        if about["v"] != VERSION:
            raise UnreadableBatch("unknown batch version")
        lines = unpack_known(packed, about["size"])
        return StoredBatch(record.offset, record.at, about["edge"], about["worker"], about["start"], lines)
    except (orjson.JSONDecodeError, KeyError, TypeError, Unpackable) as error:
        raise UnreadableBatch(f"the batch cannot be read: {type(error).__name__}") from error


def each_line(lines: bytes) -> Iterator[tuple[int, bytes]]:
    """Each line with its newline, and its first byte's place."""
    start = 0
    while start < len(lines):
        end = lines.find(b"\n", start) + 1 or len(lines)
        yield start, lines[start:end]
        start = end


def _unpack(body: bytes) -> bytes:
    try:
        return unpack(body, most_bytes=MAX_RAW_BYTES)
    except Unpackable:
        raise invalid("The body must be one zlib stream, whole.") from None
    except TooLong:
        raise ForegateError(ErrorCode.TOO_LARGE, f"Send at most {MAX_RAW_BYTES} bytes of lines at once.") from None
