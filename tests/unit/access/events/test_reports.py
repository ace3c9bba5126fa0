"""Reports of edges, receipts, and how good "last seen" is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from event_lines import NOON, NOON_MICROS, Telemetry, later
from foregate.access.events.freshness import Freshness, assess
from foregate.access.events.receipts import receipt_of
from foregate.access.events.reports import Note, notes, take_report
from foregate.access.events.store import Edge, EdgeReport, OutboxRow, Progress, edge_reports, progress

IDLE = {"files": 1, "backlog_bytes": 0, "lost_bytes": 0, "lost_lines": 0, "error": "", "outgrown": ""}
STUCK = {**IDLE, "backlog_bytes": 50_000_000, "error": "the control plane has 1, not 2 bytes"}


def said(telemetry: Telemetry, applied: int, second: float = 0, edge: str = "edge-1", **rest: Any) -> None:
    report = {"applied_seq": applied, "refused": [], "held": [], "at": 0, "worker": "w", "spool": IDLE, **rest}
    with telemetry.ingest.write() as connection:
        take_report(connection, edge, report, later(second))


def test_newest_report_is_kept_whole(telemetry: Telemetry) -> None:
    said(telemetry, 4)
    said(telemetry, 7, second=5, more={"from": "a newer edge"})
    with telemetry.ingest.read() as connection:
        (found,) = edge_reports(connection)
    assert (found.edge_id, found.applied_seq, found.at) == ("edge-1", 7, NOON_MICROS + 5_000_000)
    assert found.report["more"] == {"from": "a newer edge"}


def test_moment_of_each_step_is_kept_once(telemetry: Telemetry) -> None:
    for second, applied in ((0, 4), (1, 4), (2, 9), (3, 9)):
        said(telemetry, applied, second)
    rows = telemetry.rows("SELECT applied_seq, at FROM edge_progress ORDER BY 1")
    assert rows == [(4, NOON_MICROS), (9, NOON_MICROS + 2_000_000)]


def test_edge_that_starts_from_nothing_again_says_so_and_its_receipts_stay(telemetry: Telemetry) -> None:
    said(telemetry, 9)
    said(telemetry, 0, 1)
    said(telemetry, 9, 2)
    assert telemetry.rows("SELECT applied_seq FROM edge_states") == [(9,)]
    assert telemetry.rows("SELECT at FROM edge_progress WHERE applied_seq = 9") == [(NOON_MICROS,)]


def test_refusals_are_kept_with_their_first_moment(telemetry: Telemetry) -> None:
    refused = [{"key": "token/x", "seq": 3, "reason": "the MAC does not fit"}]
    said(telemetry, 3, 0, refused=refused)
    said(telemetry, 4, 5, refused=refused)
    with telemetry.ingest.read() as connection:
        assert progress(connection, 3).refused == {"edge-1": ("the MAC does not fit", NOON_MICROS)}


@pytest.mark.parametrize(
    "items",
    [None, "x", 7, {}, [None], [[]], [{"key": 1, "seq": 2}], [{"key": "k", "seq": "2"}], [{"key": "k", "seq": -1}]],
)
def test_malformed_parts_of_a_report_count_as_not_said(telemetry: Telemetry, items: object) -> None:
    said(telemetry, 1, refused=items, held=items, spool=items)
    assert notes({"refused": items}, "refused") == []
    assert telemetry.rows("SELECT * FROM edge_refusals") == []


@pytest.mark.parametrize(
    ("spool", "expected"),
    [(IDLE, 10), (STUCK, 0), ({**IDLE, "error": "away"}, 0), ({**IDLE, "backlog_bytes": 5_000_000}, 10), (None, 0)],
)
def test_edge_is_caught_up_while_its_spool_flows(telemetry: Telemetry, spool: object, expected: int) -> None:
    said(telemetry, 1, 0)
    said(telemetry, 1, 10, spool=spool)
    assert telemetry.rows("SELECT caught_up_at FROM edge_states") == [(NOON_MICROS + expected * 1_000_000,)]


def report(edge: str, second: float, caught_up: float | None = None) -> EdgeReport:
    at = NOON_MICROS + round(second * 1e6)
    return EdgeReport(edge, 1, at if caught_up is None else NOON_MICROS + round(caught_up * 1e6), at, {})


@pytest.mark.parametrize(
    ("edges", "reports", "unread_second", "expected"),
    [
        (["a"], [report("a", 98)], None, Freshness(1.0, 3.0)),
        (["a", "b"], [report("a", 98), report("b", 99)], None, Freshness(1.0, 3.0)),
        (["a", "b"], [report("a", 98), report("b", 69)], None, Freshness(0.5, 3.0)),
        (["a", "b", "c"], [report("a", 99)], None, Freshness(0.3333, 2.0)),
        (["a"], [report("a", 98, caught_up=40)], None, Freshness(1.0, 61.0)),
        (["a"], [report("a", 98)], 90, Freshness(1.0, 13.0)),
        (["a"], [report("a", 60)], None, Freshness(0.0, None)),
        (["a"], [report("revoked", 99)], None, Freshness(0.0, None)),
        ([], [], None, Freshness(0.0, None)),
        (["a"], [report("a", 101)], None, Freshness(1.0, 1.0)),
    ],
    ids=["one", "worst", "silent", "share", "stuck", "lag", "none", "revoked", "no edges", "clock"],
)
def test_freshness(
    edges: list[str], reports: list[EdgeReport], unread_second: float | None, expected: Freshness
) -> None:
    unread = None if unread_second is None else NOON_MICROS + round(unread_second * 1e6)
    assert assess(edges, reports, unread, NOON + timedelta(seconds=100)) == expected


def test_edge_that_never_flowed_is_not_known_to_be_accurate() -> None:
    never = EdgeReport("a", 1, 0, NOON_MICROS, {})
    assert assess(["a"], [never], None, NOON) == Freshness(1.0, None)


EDGE = Edge("a", "first")
KEY = "token/" + "0" * 32 + ".access"
AT = NOON_MICROS + 1_500_000
NOTHING = Progress({}, {})


def change(sent_as: int | None = 5) -> OutboxRow:
    return OutboxRow(5, KEY, NOON_MICROS, None if sent_as is None else AT, sent_as)


def with_held(seq: int) -> EdgeReport:
    note = {"key": KEY, "seq": seq, "reason": "too many at once"}
    return EdgeReport("a", 9, 0, 0, {"held": [note]})


@pytest.mark.parametrize(
    ("sent_as", "heard", "known", "state"),
    [
        (None, report("a", 1), NOTHING, "pending"),
        (None, report("a", 1), Progress({"a": AT}, {}), "pending"),
        (5, report("a", 1), NOTHING, "pending"),
        (5, None, NOTHING, "pending"),
        (5, report("a", 1), Progress({"a": AT}, {}), "applied"),
        (5, report("a", 1), Progress({"b": AT}, {}), "pending"),
        (5, report("a", 1), Progress({"a": AT}, {"a": ("bad", AT)}), "refused"),
        (5, with_held(5), Progress({"a": AT}, {}), "held"),
        (5, with_held(4), Progress({"a": AT}, {}), "applied"),
    ],
)
def test_receipt_says_what_became_of_a_change(
    sent_as: int | None, heard: EdgeReport | None, known: Progress, state: str
) -> None:
    found = receipt_of(EDGE, change(sent_as), heard, known)
    assert (found["id"], found["name"], found["state"]) == ("a", "first", state)
    assert (found["at"] == "2026-09-25T12:00:01.500Z") is (state in ("applied", "refused"))
    assert bool(found["reason"]) or state in ("applied", "pending")


def test_notes_are_read_as_they_were_said() -> None:
    assert notes({"held": [{"key": KEY, "seq": 3, "reason": "r"}]}, "held") == [Note(KEY, 3, "r")]
