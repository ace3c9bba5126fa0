"""`foregate keys`: the keys that sign assertions."""

from __future__ import annotations

import typer

from foregate.cli.connection import connect
from foregate.cli.output import print_facts, print_json
from foregate.cli.processes import AsJson

app = typer.Typer(help="Signing keys: when they rotate, and rotate now.", no_args_is_help=True)


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show when the signing key was and will be rotated."""
    _print(connect().account("GET", "/access/keys").result, as_json=as_json)


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Sign with a new key from now on. The old one stays published while assertions under it are alive."""
    _print(connect().account("POST", "/access/keys/rotate").result, as_json=as_json)


def _print(found: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_facts({name.replace("_", " "): value for name, value in found.items()})
