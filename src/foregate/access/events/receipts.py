"""What became of a change at an edge. Pure."""

from __future__ import annotations

from foregate.access.events.reports import notes
from foregate.access.events.store import Edge, EdgeReport, OutboxRow, Progress
from foregate.access.events.views import EdgeReceiptView, moment


def receipt_of(edge: Edge, change: OutboxRow, report: EdgeReport | None, progress: Progress) -> EdgeReceiptView:
    """The edge's receipt. `progress` is about `change.sent_as`.

    An edge that has applied a later seq has applied this one, or a newer state of the same thing.
    """
    receipt: EdgeReceiptView = {"id": edge.id, "name": edge.name, "state": "pending", "at": None, "reason": ""}
    if change.sent_as is None:
        return {**receipt, "reason": "not published yet"}
    if edge.id in progress.refused:
        reason, at = progress.refused[edge.id]
        return {**receipt, "state": "refused", "at": moment(at), "reason": reason}
    held = [] if report is None else notes(report.report, "held")
    for note in held:
        if note.record_key == change.record_key and note.seq >= change.sent_as:
            return {**receipt, "state": "held", "reason": note.reason}
    if edge.id in progress.applied_at:
        return {**receipt, "state": "applied", "at": moment(progress.applied_at[edge.id])}
    return receipt if report is not None else {**receipt, "reason": "the edge has never reported"}
