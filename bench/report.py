"""What a run of the bench leaves: a table for people, a JSON file for programs, a chart (SVG)."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure against its target. `at_most` says which side of the target is good. `note` names the conditions."""

    name: str
    value: float
    target: float
    unit: str
    at_most: bool
    note: str = ""
    samples: list[float] = field(default_factory=list)

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target if self.at_most else self.value >= self.target


def conditions() -> dict[str, str]:
    """The machine and the moment, without names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "unknown")
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def table(rows: list[Row]) -> str:
    """A Markdown table."""
    lines = ["| what | measured | target | met | conditions |", "|---|---|---|---|---|"]
    for row in rows:
        sign = "<=" if row.at_most else ">="
        met = "yes" if row.is_met else "**no**"
        value = f"{_number(row.value)} {row.unit}"
        lines.append(f"| {row.name} | {value} | {sign} {_number(row.target)} | {met} | {row.note} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, rows: list[Row]) -> None:
    """Write `bench.md`, `bench.json` and `bench.svg` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = conditions()
    head = ", ".join(f"{name} {value}" for name, value in facts.items())
    (folder / "bench.md").write_text(f"# Bench\n\n{head}\n\n{table(rows)}")
    body = {"conditions": facts, "rows": [{**asdict(row), "met": row.is_met} for row in rows]}
    (folder / "bench.json").write_text(json.dumps(body, indent=1) + "\n")
    (folder / "bench.svg").write_text(chart(rows))


def chart(rows: list[Row]) -> str:
    """One bar a row: the value as a share of its target; the line is the target. Green is met, red is not."""
    width, left, unit, height = 980, 430, 380, 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height * len(rows) + 50}" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
    ]
    for number, row in enumerate(rows):
        top = 34 + number * height
        share = min(row.value / row.target if row.target else 0, 1.4)
        colour = "#2e7d32" if row.is_met else "#c62828"
        parts.append(f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{_escape(row.name)}</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{max(share * unit, 1):.0f}" height="18" fill="{colour}"/>')
        label = f"{_number(row.value)} {row.unit}"
        parts.append(f'<text x="{left + max(share * unit, 1) + 6:.0f}" y="{top + 14}">{_escape(label)}</text>')
    bottom = 34 + len(rows) * height
    line = left + unit
    parts.append(f'<line x1="{line}" x2="{line}" y1="26" y2="{bottom}" stroke="#333" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{left + unit}" y="18" text-anchor="middle">target</text></svg>\n')
    return "\n".join(parts)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
