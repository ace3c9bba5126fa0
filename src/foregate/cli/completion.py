"""`foregate completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """The shells that a script can be made for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("completion", short_help="Print the completion script of a shell.")(print_script)


def print_script(shell: Annotated[Shell, typer.Argument(help="The shell that shall complete.")]) -> None:
    """Print the completion script of a shell; bash: eval "$(foregate completion bash)"."""
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="foregate", complete_var="_FOREGATE_COMPLETE", shell=shell.value))
