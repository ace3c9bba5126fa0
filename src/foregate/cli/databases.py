"""`foregate database`: setting up a PostgreSQL database for this home and others. `foregate migrate`: moving there."""

from __future__ import annotations

from typing import Annotated

import typer

from foregate.cli.exits import ExitCode, Failure
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


def migrate(
    to: Annotated[
        str | None, typer.Option("--to", help="Where to: postgresql://host:5432/name.", show_default=False)
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Back to files in the home. End Foregate before.")] = False,
) -> None:
    """Move what this home keeps to a PostgreSQL database, while Foregate runs, or back to files.

    The database is set up before, with foregate database setup. Tokens work throughout.
    """
    from foregate.services.moving import move_back, move_to
    from foregate.services.settings import load

    if back is (to is not None):
        raise Failure(ExitCode.USAGE, "Give either --to and the database, or --back.")
    if to is None:
        move_back(load(), note)
    else:
        move_to(load(), to, note)
