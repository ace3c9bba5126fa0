"""What `foregate up` shows: lines that stay, and on a terminal a short table of the processes below them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from foregate.services.status import ProcessStatus

if TYPE_CHECKING:
    from rich.table import Table


class Board(Protocol):
    """Where the supervisor speaks to a person."""

    def say(self, line: str) -> None:
        """A line that stays."""
        ...

    def warn(self, line: str) -> None:
        """A line that stays and must not be missed."""
        ...

    def show(self, processes: Sequence[ProcessStatus]) -> None:
        """How the processes are now."""
        ...

    def close(self) -> None:
        """Nothing is shown after this but lines."""
        ...


class PlainBoard:
    """For pipes and files: lines alone, each written at once."""

    def say(self, line: str) -> None:
        """Print the line."""
        _print(line, sys.stdout)

    def warn(self, line: str) -> None:
        """Print the line on stderr."""
        _print(line, sys.stderr)

    def show(self, processes: Sequence[ProcessStatus]) -> None:
        """Say nothing: a restart has its own line."""

    def close(self) -> None:
        """Nothing to clear away."""


class LiveBoard:
    """For a terminal: the table is drawn again in place, lines pass above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def say(self, line: str) -> None:
        """Print the line above the table, unbroken, so that it can be copied."""
        self._console.print(line, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print the line above the table, in red."""
        self._console.print(line, markup=False, soft_wrap=True, style="red")

    def show(self, processes: Sequence[ProcessStatus]) -> None:
        """Draw the table."""
        self._live.update(_table(processes), refresh=True)

    def close(self) -> None:
        """Remove the table."""
        self._live.stop()


def open_board() -> Board:
    """The board that fits where stdout goes."""
    return LiveBoard() if sys.stdout.isatty() else PlainBoard()


def _print(line: str, stream: TextIO) -> None:
    # A reader that went away (`foregate up | head`) is no reason to stop serving.
    with contextlib.suppress(BrokenPipeError):
        print(line, file=stream, flush=True)


def _table(processes: Sequence[ProcessStatus]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("process")
    table.add_column("state")
    table.add_column("pid", justify="right")
    table.add_column("restarts", justify="right")
    for process in processes:
        color = "green" if process.state == "ready" else "yellow"
        pid = "" if process.pid is None else str(process.pid)
        # Not as markup: a line that passes above has it switched off, for the table too.
        table.add_row(process.name, Text(process.state, style=color), pid, str(process.restarts))
    return table
