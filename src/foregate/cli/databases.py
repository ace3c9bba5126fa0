"""`foregate database`: setting up a PostgreSQL database for this home and others."""

from __future__ import annotations

from typing import Annotated

import typer

from foregate.cli.output import note

app = typer.Typer(help="Set up a PostgreSQL database.", no_args_is_help=True)

_URL = "postgresql://admin@host:5432/name. The password comes from PGPASSWORD or ~/.pgpass."


@app.callback()
def database() -> None:
    """Set up a PostgreSQL database."""


@app.command(short_help="Make roles, schemas and tables, and bring them up.")
def setup(
    url: Annotated[str, typer.Argument(help=_URL)],
    new_passwords: Annotated[
        bool, typer.Option("--new-passwords", help="Give all roles new passwords; those of other homes end.")
    ] = False,
) -> None:
    """Make the database if it is missing, its roles, schemas and tables, and bring them to the newest schema.

    Safe to repeat. The roles' passwords are written into the home, a file for each.
    """
    from foregate.services.database_setup import run
    from foregate.services.settings import load

    run(load(), url, note, has_new_passwords=new_passwords)
