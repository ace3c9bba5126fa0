"""Keeping a process small that has no terminal to write to. Called by the CLI before it imports such a process."""

from __future__ import annotations

import sys

# structlog and httpx import these, if they can, for tables and colours on a terminal: 5 MB in each process.
_FOR_TERMINALS = ("rich", "pygments")


def without_terminal() -> None:
    """Have the packages for terminals look as if they were not installed, in this process."""
    for name in _FOR_TERMINALS:
        # An import of a name that stands for None fails as one of a missing package (importlib, "The module cache").
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
