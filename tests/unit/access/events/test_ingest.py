"""Taking in: each byte of a spool file once, whatever comes how often and in which order; gaps are counted."""

from __future__ import annotations

from itertools import permutations

import pytest

from event_lines import NOON, NOON_MICROS, Telemetry, batch, line
from foregate.access.events.batch import read_batch
from foregate.access.events.ingest import Receipt
from foregate.eventlog.model import LOGIN_EVENTS
from foregate.eventlog.sql import SqlLog

LINES = [line(number) for number in range(6)]
ALL = b"".join(LINES)
SIZE = len(LINES[0])


def kept(telemetry: Telemetry) -> dict[int, bytes]:
    """What stands in the log, by first byte."""
    with telemetry.ingest.read() as connection:
        records = SqlLog(connection).read(LOGIN_EVENTS, 0)
    batches = [read_batch(record) for record in records]
    return {one.start: one.lines for one in batches}


def gaps(telemetry: Telemetry) -> list[tuple[object, ...]]:
    return list(telemetry.rows("SELECT first_byte, end_byte FROM spool_gaps ORDER BY first_byte"))


def position(telemetry: Telemetry, worker: str = "w1") -> tuple[object, ...]:
    return telemetry.rows(f"SELECT next_byte, is_final FROM spool_positions WHERE worker = '{worker}'")[0]


def test_batch_is_kept_whole_and_the_next_byte_is_told(telemetry: Telemetry) -> None:
    assert telemetry.take(batch(ALL)) == [Receipt(len(ALL), len(ALL), 0, 0)]
    assert kept(telemetry) == {0: ALL}
    assert telemetry.rows("SELECT topic, key, at FROM log_records") == [("login-events", "edge-1/w1", NOON_MICROS)]


def test_batch_sent_again_is_dropped(telemetry: Telemetry) -> None:
    first, again = telemetry.take(batch(ALL), batch(ALL))
    assert again == Receipt(first.next_byte, 0, len(ALL), 0)
    assert kept(telemetry) == {0: ALL}


def test_of_an_overlapping_batch_the_new_part_is_kept(telemetry: Telemetry) -> None:
    _, later = telemetry.take(batch(ALL[: 2 * SIZE]), batch(ALL[SIZE : 4 * SIZE], start=SIZE))
    assert later == Receipt(4 * SIZE, 2 * SIZE, SIZE, 0)
    assert kept(telemetry) == {0: ALL[: 2 * SIZE], 2 * SIZE: ALL[2 * SIZE : 4 * SIZE]}


def test_jump_is_a_gap_counted_in_bytes(telemetry: Telemetry) -> None:
    _, later = telemetry.take(batch(LINES[0]), batch(ALL[3 * SIZE :], start=3 * SIZE))
    assert later.lost == 2 * SIZE
    assert gaps(telemetry) == [(SIZE, 3 * SIZE)]
    assert position(telemetry) == (6 * SIZE, 0)


@pytest.mark.parametrize(
    ("start", "end", "left"),
    [(1, 5, []), (1, 2, [(2, 5)]), (4, 5, [(1, 4)]), (2, 4, [(1, 2), (4, 5)]), (0, 6, [])],
    ids=["whole", "head", "tail", "middle", "more than it"],
)
def test_bytes_that_arrive_late_close_their_gap(
    telemetry: Telemetry, start: int, end: int, left: list[tuple[int, int]]
) -> None:
    telemetry.take(batch(LINES[0]), batch(LINES[5], start=5 * SIZE))
    late = batch(ALL[start * SIZE : end * SIZE], start=start * SIZE)
    telemetry.take(late)
    telemetry.take(late)
    assert gaps(telemetry) == [(first * SIZE, last * SIZE) for first, last in left]
    whole = kept(telemetry)
    assert sum(len(lines) for lines in whole.values()) == 6 * SIZE - sum(
        last - first for first, last in gaps(telemetry)
    )  # type: ignore[operator]
    assert all(ALL[first : first + len(lines)] == lines for first, lines in whole.items())


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_order_of_batches_makes_no_difference(telemetry: Telemetry, order: tuple[int, ...]) -> None:
    parts = [batch(ALL[2 * part * SIZE : 2 * (part + 1) * SIZE], start=2 * part * SIZE) for part in range(3)]
    telemetry.take(*(parts[part] for part in order))
    assert b"".join(lines for _, lines in sorted(kept(telemetry).items())) == ALL
    assert gaps(telemetry) == []
    assert position(telemetry) == (len(ALL), 0)


def test_workers_and_edges_are_counted_apart(telemetry: Telemetry) -> None:
    telemetry.take(batch(ALL, worker="w1"), batch(ALL, worker="w2"), batch(ALL, edge="edge-2"))
    assert len(telemetry.rows("SELECT * FROM log_records")) == 3
    assert len(telemetry.rows("SELECT * FROM spool_positions")) == 3


def test_end_of_a_file_is_kept_also_without_lines(telemetry: Telemetry) -> None:
    telemetry.take(batch(ALL), batch(b"", start=len(ALL), is_final=True), batch(ALL))
    assert position(telemetry) == (len(ALL), 1)
    assert kept(telemetry) == {0: ALL}


def test_lines_lost_before_the_end_of_a_file_are_a_gap(telemetry: Telemetry) -> None:
    telemetry.take(batch(ALL), batch(b"", start=len(ALL) + 100, is_final=True))
    assert gaps(telemetry) == [(len(ALL), len(ALL) + 100)]


def test_question_where_a_file_stands_changes_nothing(telemetry: Telemetry) -> None:
    telemetry.take(batch(ALL))
    before = telemetry.rows("SELECT * FROM spool_positions")
    assert telemetry.take(batch(b"", start=0), now=NOON.replace(hour=13))[0].next_byte == len(ALL)
    assert telemetry.rows("SELECT * FROM spool_positions") == before


def test_batch_that_begins_within_a_line_loses_no_other_line(telemetry: Telemetry) -> None:
    telemetry.take(batch(ALL[: 2 * SIZE]), batch(ALL[SIZE - 10 :], start=SIZE - 10))
    telemetry.consume()
    assert telemetry.rows("SELECT events, malformed, highest FROM worker_numbers") == [(6, 0, 5)]
