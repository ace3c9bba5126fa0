"""What commands print: tables for people, JSON for programs, and a secret in exactly one place.

Results go to stdout. Where stdout is not a terminal and a secret was issued, stdout carries the secret alone and all
else goes to stderr, so that `SECRET=$(foregate token create ci)` does what it looks like.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

# No table of ours is wider; a pipe has no width, and nothing may be cut off in it.
_PIPE_WIDTH = 1000


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, stream: TextIO | None = None) -> None:
    """A table. Cells are shown whole, folded where the terminal is narrow."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[show(cell) for cell in row])
    _print_rich(table, stream or sys.stdout)


def print_facts(facts: Mapping[str, Any], *, stream: TextIO | None = None) -> None:
    """One thing: its fields below one another."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, show(value))
    _print_rich(table, stream or sys.stdout)


def print_issued(facts: Mapping[str, Any], secret: str) -> None:
    """A thing with the secret that was made for it, which will not be shown again."""
    is_piped = not sys.stdout.isatty()
    print_facts(facts, stream=sys.stderr if is_piped else sys.stdout)
    note("The client secret follows; it is not kept and cannot be shown again.")
    print(secret)


def note(line: str) -> None:
    """A line for the person, on stderr."""
    print(line, file=sys.stderr)


def show(value: Any) -> str:
    """A JSON value in a cell."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(show(item) for item in value) or "-"
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _print_rich(renderable: Any, stream: TextIO) -> None:
    from rich.console import Console

    width = None if stream.isatty() else _PIPE_WIDTH
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(renderable)
    # rich pads to the full width, which only hurts whoever greps.
    print("\n".join(line.rstrip() for line in captured.get().split("\n")).strip("\n"), file=stream)
