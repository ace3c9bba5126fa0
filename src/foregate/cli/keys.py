"""`foregate keys`: the keys that sign assertions, and the peppers that secrets are digested under."""

from __future__ import annotations

import typer

from foregate.cli.connection import connect
from foregate.cli.output import note, note_change, print_facts, print_json, print_table
from foregate.cli.processes import AsJson

app = typer.Typer(help="Signing keys and peppers: show, rotate, add.", no_args_is_help=True)


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show when the signing key was and will be rotated."""
    _print(connect().account("GET", "/access/keys").result, as_json=as_json)


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Sign with a new key from now on. The old one stays published while assertions under it are alive."""
    answer = connect().account("POST", "/access/keys/rotate")
    _print(answer.result, as_json=as_json)
    if not as_json:
        note_change(answer.change_seq)


@app.command(short_help="Show which peppers are in use.")
def peppers(as_json: AsJson = False) -> None:
    """Show the peppers of this home, and how many live secrets each has."""
    from dataclasses import asdict

    from foregate.core.clock import utc_now
    from foregate.services.home import Home
    from foregate.services.peppers import read_peppers
    from foregate.services.settings import load
    from foregate.services.stores import stores_of

    settings = load()
    found = read_peppers(Home(settings.home), stores_of(settings).records, utc_now())
    if as_json:
        print_json([asdict(use) for use in found])
        return
    print_table(
        ("pepper", "current", "live secrets"), [(use.version, use.is_current, use.live_secrets) for use in found]
    )


@app.command("add-pepper", short_help="Add a pepper for new secrets.")
def add_pepper(as_json: AsJson = False) -> None:
    """Add a pepper to this home's master key, for secrets made or rotated from the control API's next start on."""
    from foregate.services.home import Home
    from foregate.services.peppers import add_pepper as add
    from foregate.services.settings import load

    home = Home(load().home)
    version = add(home)
    if as_json:
        print_json({"pepper": version})
        return
    note(f"Added pepper {version} to {home.master_key}. Save a copy of the file now: older copies do not know it.")
    note("New secrets get it once the control API has started again.")


def _print(found: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_facts({name.replace("_", " "): value for name, value in found.items()})
