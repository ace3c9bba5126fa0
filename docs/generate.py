"""Writes the parts of the reference that the program knows best. `make docs` runs it; a test holds the pages to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from foregate.cli.main import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
MARK = "<!-- From here on: written by docs/generate.py. -->"


def main() -> None:
    """Write the page anew below its mark."""
    PAGE.write_text(render(PAGE.read_text()))


def render(page: str) -> str:
    """The page with its generated part as the program is now."""
    head, _, _ = page.partition(MARK)
    sections = "\n\n".join(
        _section(name, command) for name, command in _commands("foregate", typer.main.get_command(app))
    )
    return f"{head}{MARK}\n\n{sections}\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """All commands that are not hidden, groups left out where they do nothing by themselves."""
    below = getattr(command, "commands", {})
    if not below or command.invoke_without_command:
        yield name, command
    for word, sub in below.items():
        if not sub.hidden:
            yield from _commands(f"{name} {word}", sub)


def _section(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    table = ["", "| | |", "|---|---|", *rows] if rows else []
    return "\n".join([f"## `{name}`", "", command.help.replace("\n", " "), *table])


def _row(parameter: Any, context: Any) -> str | None:
    if getattr(parameter, "hidden", False) or "--help" in parameter.opts or "completion" in parameter.name:
        return None
    if parameter.param_type_name == "argument":
        return f"| `{parameter.name.upper()}` | {parameter.help} |"
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    default = parameter.default
    shown = f" Default: `{default}`." if default not in (None, False, (), []) and not parameter.required else ""
    needed = " Required." if parameter.required else ""
    return f"| {names} | {parameter.help}{needed}{shown} |"


if __name__ == "__main__":
    main()
