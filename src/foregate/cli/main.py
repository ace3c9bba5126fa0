"""`foregate`: the command line. Arguments become one call; what a command prints and how it exits is decided here.

Commands import what they need when they run: the program starts anew for every command, and most need little.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer._completion_classes import completion_init

from foregate.cli import (
    api_tokens,
    applications,
    changes,
    completion,
    databases,
    edges,
    events,
    ingress,
    kafka,
    keys,
    policies,
    processes,
    rebuild,
    tokens,
)
from foregate.cli.exits import exit_code_of
from foregate.cli.output import note

app = typer.Typer(
    name="foregate",
    help="A self-hosted zero-trust edge for machines.",
    no_args_is_help=True,
    # Typer's own option prints for the shell that it finds among its ancestors, whichever is asked for.
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        print(f"foregate {version('foregate')}")
        raise typer.Exit


@app.callback()
def foregate(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """A self-hosted zero-trust edge for machines."""


processes.register(app)
completion.register(app)
app.add_typer(tokens.app, name="token")
app.add_typer(applications.app, name="app")
app.add_typer(policies.app, name="policy")
app.add_typer(ingress.app, name="ingress")
app.add_typer(events.app, name="events")
app.add_typer(edges.app, name="edge")
app.add_typer(changes.app, name="change")
app.add_typer(keys.app, name="keys")
app.add_typer(kafka.app, name="kafka")
app.add_typer(rebuild.app, name="rebuild")
app.add_typer(api_tokens.app, name="api-token")
app.add_typer(databases.app, name="database")
app.command(short_help="Move what is kept to PostgreSQL, or back.")(databases.migrate)


def main() -> None:
    """Run the command in `sys.argv` and exit with its code."""
    completion_init()
    try:
        app(prog_name="foregate")
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        note(f"foregate: {error}")
        sys.exit(code)
