"""What `make chaos` leaves: a table for people, a JSON file for programs. Failures stand in both."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.invariants import Figures
from harness.strikes import Blow, Strike


@dataclass(slots=True)
class Run:
    """One seed on one database. `failure`: '' or what did not hold, and `at` after which strike."""

    database: str
    seed: int
    strikes: list[Strike] = field(default_factory=list)
    figures: Figures | None = None
    failure: str = ""
    at: str = ""
    took_seconds: float = 0

    def to_json(self) -> dict[str, Any]:
        """Everything, strikes in their order."""
        strikes = [
            {**asdict(strike), "blows": {name: blow.value for name, blow in strike.blows.items()}}
            for strike in self.strikes
        ]
        figures = None if self.figures is None else asdict(self.figures)
        return {
            "database": self.database,
            "seed": self.seed,
            "failure": self.failure,
            "failed_after": self.at,
            "took_seconds": self.took_seconds,
            "figures": figures,
            "strikes": strikes,
        }


def write(folder: Path, runs: list[Run]) -> None:
    """Write `chaos.json` and `chaos.md` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    conditions = {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }
    body = {"conditions": conditions, "runs": [run.to_json() for run in runs]}
    (folder / "chaos.json").write_text(json.dumps(body, indent=2) + "\n")
    head = ", ".join(f"{name} {value}" for name, value in conditions.items())
    (folder / "chaos.md").write_text(f"# Chaos\n\n{head}\n\n{table(runs)}")


def table(runs: list[Run]) -> str:
    """Two Markdown tables: the runs, and the strikes by whom they met."""
    return f"{_of_runs(runs)}\n{_of_strikes([strike for run in runs for strike in run.strikes])}"


def _of_runs(runs: list[Run]) -> str:
    lines = [
        "| database | seed | strikes | answers | connections cut | events | counted gaps | held | took |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        found = run.figures
        seen = (
            ("-",) * 4
            if found is None
            else (f"{found.answers:,}", found.disturbed_connections, f"{found.events:,}", found.counted_gaps)
        )
        held = "yes" if not run.failure else f"**no**, {run.at}: {run.failure.splitlines()[0]}"
        cells = (run.database, run.seed, len(run.strikes), *seen, held, f"{run.took_seconds:.0f} s")
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _of_strikes(strikes: list[Strike]) -> str:
    """By kind of victim: how often it met which, and how long until all was well."""
    lines = ["| struck | killed | paused | ended | well again: median | longest |", "|---|---|---|---|---|---|"]
    counts = Counter((_kind(name), blow) for strike in strikes for name, blow in strike.blows.items())
    for kind in sorted({kind for kind, _ in counts}):
        seconds = [max(0.0, strike.healed_seconds) for strike in strikes if kind in map(_kind, strike.blows)]
        figures = " | ".join(str(counts[kind, blow]) for blow in Blow)
        lines.append(f"| {kind} | {figures} | {statistics.median(seconds):.1f} s | {max(seconds):.1f} s |")
    pairs = sum(1 for strike in strikes if len(strike.blows) > 1)
    return "\n".join(lines) + f"\n\n{len(strikes)} strikes, {pairs} of them at two at once.\n"


def _kind(victim: str) -> str:
    """The victim without its number."""
    return victim.partition("-")[0]
