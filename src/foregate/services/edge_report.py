"""What the edge of this home says is wrong, from the report that its agent leaves in the home; for people."""

from __future__ import annotations

import json
from typing import Any

from foregate.services.home import Home

_SHOWN = 3


def edge_problems(home: Home) -> tuple[str, ...] | None:
    """Sentences, none if all is well; None where no agent reports. Whatever the file holds, this never fails."""
    try:
        report = json.loads((home.edge / "status.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict):
        return None
    said = tuple(str(text) for text in _list(report, "problems"))
    return said + _notes(report, "refused", "refuses") + _notes(report, "held", "holds back")


def _notes(report: dict[str, Any], name: str, verb: str) -> tuple[str, ...]:
    """The latest few. A note without a key is about all that was sent."""
    notes = [note for note in _list(report, name) if isinstance(note, dict)]
    more = len(notes) - _SHOWN
    shown = tuple(
        f"it {verb} {note['key']}: {note.get('reason')}" if note.get("key") else str(note.get("reason"))
        for note in notes[-_SHOWN:]
    )
    return (*shown, f"it {verb} {more} more") if more > 0 else shown


def _list(report: dict[str, Any], name: str) -> list[Any]:
    found = report.get(name)
    return found if isinstance(found, list) else []
