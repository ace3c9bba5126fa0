"""What commands print: tables for people, JSON for programs, and a secret in exactly one place.

Results go to stdout. Where stdout is not a terminal and a secret was issued, stdout carries the secret alone and all
else goes to stderr, so that `SECRET=$(foregate token create ci)` does what it looks like.

Names come from whoever may call the API, and paths of events from whoever reaches an edge: what would give a terminal
orders is shown, not sent.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

# No table of ours is wider; a pipe has no width, and nothing may be cut off in it.
_PIPE_WIDTH = 1000
# What stands between two columns.
_GAP = 2
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?Z")
# Control characters of both sets, ends of lines other than a line feed, and marks that turn the direction of text.
_ORDERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(as_json_text(value, indent=2))


def as_json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON in which text stays readable, and nothing gives a terminal orders."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # Below a blank, JSON has escaped everything itself: what is left is its own line feeds.
    return _ORDERS.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def visible(text: str) -> str:
    """The text with each character that gives a terminal orders written out: `\\x1b`, `\\u202e`."""
    return _ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, spare: Sequence[str] = (), stream: TextIO | None = None
) -> None:
    """A table. Cells are shown whole, folded where the terminal is narrow; `spare` columns are left out there before
    that, the first of them first: `show` and --json have them."""
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table

    stream = stream or sys.stdout
    cells = [[_in_table(show(cell)) for cell in row] for row in rows]
    texts = [(name, *(row[place] for row in cells)) for place, name in enumerate(columns)]
    # Folding goes by words first: no date and no id is broken while there is room for the longest word of each column.
    least = [max(cell_len(word) for text in column for word in text.split()) for column in texts]
    room = width_of(stream) or _PIPE_WIDTH
    kept = list(range(len(columns)))
    for name in spare:
        if sum(least[place] + _GAP for place in kept) > room:
            kept.remove(columns.index(name))
    full = [max(cell_len(text) for text in texts[place]) for place in kept]
    widths = share_width(full, [least[place] for place in kept], room - _GAP * len(kept))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, width in zip(kept, widths, strict=True):
        table.add_column(columns[place], overflow="fold", width=width)
    for row in cells:
        table.add_row(*[row[place] for place in kept])
    _print_rich(table, stream)


def share_width(full: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """The widths of columns that take `full` if they can: where `room` is less, the widest give way first, down to
    `least` while that is possible at all."""
    widths = list(full)
    for floor in (least, [1] * len(widths)):
        while sum(widths) > room:
            wide = [place for place, width in enumerate(widths) if width > floor[place]]
            if not wide:
                break
            widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _in_table(text: str) -> str:
    """Of a time, date and hour part where a line has to be broken, and seconds are enough."""
    found = _TIME.fullmatch(text)
    return text if found is None else f"{found[1]} {found[2]}Z"


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
    note("The secret follows; it is not kept and cannot be shown again.")
    print(secret)


def note(line: str) -> None:
    """A line for the person, on stderr."""
    print(visible(line), file=sys.stderr)


def note_change(change_seq: int | None) -> None:
    """How to follow a change to the edges, where they are concerned."""
    from foregate.services.program import program

    if change_seq is not None:
        note(f"Follow this change to the edges with: {program()} change show {change_seq}")


def ask(question: str, *, is_answered: bool) -> None:
    """Go on only if the person says yes. Nobody is asked where there is no terminal."""
    import typer

    if not is_answered and sys.stdin.isatty():
        typer.confirm(visible(question), abort=True, err=True)


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
            return visible(json.dumps(value, ensure_ascii=False))
        case _:
            return visible(str(value))


def width_of(stream: TextIO) -> int | None:
    """The terminal's; None for a pipe or a file."""
    if not stream.isatty():
        return None
    from rich.console import Console

    return Console(file=stream).width


def _print_rich(renderable: Any, stream: TextIO) -> None:
    from rich.console import Console

    width = width_of(stream) or _PIPE_WIDTH
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(renderable)
    # rich pads to the full width, which only hurts whoever greps.
    print("\n".join(line.rstrip() for line in captured.get().split("\n")).strip("\n"), file=stream)
