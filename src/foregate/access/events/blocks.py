"""A block: a run of log records, and what may be in it. So a query opens only the records that may hold an answer.

A block grows until it is worth opening by itself; small batches of a quiet hour share one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from foregate.access.events.summary import Summary, mark, to_micros
from foregate.core.decision import Reason

MOST_EVENTS = 4096
MOST_RECORDS = 512
MOST_BYTES = 2 << 20

# A reason's bit is its place in the enumeration, which only grows.
_BITS = {reason: 1 << place for place, reason in enumerate(Reason)}


@dataclass(frozen=True, slots=True)
class Block:
    """Records `first_offset` to `last_offset`. Times are microseconds, 0 where it has no event. `reasons` has a bit
    for each reason that occurs, `filter` the marks of all ids in any order, with a comma before each."""

    first_offset: int
    last_offset: int
    first_at: int
    last_at: int
    events: int
    raw_bytes: int
    reasons: int
    filter: bytes

    def may_take(self, other: Block) -> bool:
        """Whether `other`, which follows, should join this block."""
        return (
            self.events + other.events <= MOST_EVENTS
            and self.raw_bytes + other.raw_bytes <= MOST_BYTES
            and other.last_offset - self.first_offset < MOST_RECORDS
        )

    def joined(self, other: Block) -> Block:
        """This block and `other`, which follows it."""
        times = [at for at in (self.first_at, other.first_at) if at]
        return Block(
            self.first_offset,
            other.last_offset,
            min(times, default=0),
            max(self.last_at, other.last_at),
            self.events + other.events,
            self.raw_bytes + other.raw_bytes,
            self.reasons | other.reasons,
            _join({*_split(self.filter), *_split(other.filter)}),
        )

    def to_row(self) -> dict[str, Any]:
        """The row of `event_blocks`."""
        return {name: getattr(self, name) for name in self.__slots__}


def may_hold(filter_: bytes, identifier: str) -> bool:
    """Whether a block with this filter may hold an event with this client, application or account id. Never a false
    no."""
    return b"," + mark(identifier) in filter_


def bits_of(reasons: Iterable[Reason]) -> int:
    """The bits of `Block.reasons` for these reasons."""
    bits = 0
    for reason in reasons:
        bits |= _BITS[reason]
    return bits


def block_of(summary: Summary) -> Block:
    """The block that is this one record."""
    return Block(
        first_offset=summary.offset,
        last_offset=summary.offset,
        first_at=to_micros(summary.first) if summary.first else 0,
        last_at=to_micros(summary.last) if summary.last else 0,
        events=summary.events,
        raw_bytes=summary.size_bytes,
        reasons=bits_of(count.reason for count in summary.counts),
        filter=_join(summary.marks),
    )


def _join(marks: frozenset[bytes] | set[bytes]) -> bytes:
    return b"," + b",".join(marks) if marks else b""


def _split(joined: bytes) -> list[bytes]:
    return joined.split(b",")[1:]
