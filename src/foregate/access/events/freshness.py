"""How good "last seen" is: which edges report, and how far behind the request what we know may be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from foregate.access.events.store import EdgeReport
from foregate.core.clock import to_micros

# An edge reports every few seconds; one that was silent so long may be answering requests that we do not hear of.
REPORTING = timedelta(seconds=30)
# From a decision to its line in the log: the pause between two batches, and the way here.
ON_ITS_WAY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Freshness:
    """`coverage`: the share of edges that report, 0 to 1. A use at one of them that is younger than `accuracy_seconds`
    may be missing; None if that is not known."""

    coverage: float
    accuracy_seconds: float | None


def assess(edge_ids: Collection[str], reports: Iterable[EdgeReport], unread_at: int | None, now: datetime) -> Freshness:
    """The freshness of what a consumer has made, whose oldest unread batch was taken in at `unread_at` (None: it has
    read all). `edge_ids` are the edges that count."""
    micros = to_micros(now)
    heard = [report for report in reports if report.edge_id in edge_ids and is_reporting(report.at, now)]
    if not heard:
        return Freshness(0.0, None)
    coverage = round(len(heard) / len(edge_ids), 4)
    caught_up_at = min(report.caught_up_at for report in heard)
    if caught_up_at == 0:
        return Freshness(coverage, None)
    log_lag = 0 if unread_at is None else micros - unread_at
    lag_seconds = (max(0, micros - caught_up_at) + max(0, log_lag)) / 1e6
    return Freshness(coverage, round(lag_seconds + ON_ITS_WAY_SECONDS, 1))


def is_reporting(report_at: int, now: datetime) -> bool:
    """Whether an edge whose newest report is of `report_at` (microseconds) counts as reporting."""
    return to_micros(now) - report_at <= REPORTING // timedelta(microseconds=1)
