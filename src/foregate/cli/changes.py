"""`foregate change`: the receipt of a change, from the database to each edge."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.exits import ExitCode
from foregate.cli.lookup import not_found
from foregate.cli.output import print_facts, print_json, print_table
from foregate.cli.processes import AsJson
from foregate.services.control_client import ControlClient

app = typer.Typer(help="Changes: which edge applied one, when, or why not.", no_args_is_help=True)

_ASKED_EVERY_SECONDS = 0.1


@app.command()
def show(
    seq: Annotated[int, typer.Argument(min=1, help="The number in the header Foregate-Change of the answer.")],
    wait: Annotated[float, typer.Option(min=0, help="Wait so many seconds for every edge to apply it.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show which edges applied a change. Exit code 0 if all did, 1 if not."""
    client = connect()
    deadline = time.monotonic() + wait
    found = _find(client, seq)
    while not _is_applied(found) and time.monotonic() < deadline:
        time.sleep(_ASKED_EVERY_SECONDS)
        found = _find(client, seq)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if not _is_applied(found):
        raise typer.Exit(ExitCode.FAILED)


def _find(client: ControlClient, seq: int) -> dict[str, Any]:
    with not_found(f"There is no change {seq}."):
        return dict(client.account("GET", f"/foregate/changes/{seq}").result)


def _is_applied(change: dict[str, Any]) -> bool:
    return all(edge["state"] == "applied" for edge in change["edges"])


def _print(change: dict[str, Any]) -> None:
    print_facts(
        {
            "change": change["seq"],
            "record": change["record_key"],
            "made": change["made_at"],
            "published": change["published_at"],
        }
    )
    rows = [(edge["name"], edge["state"], edge["at"], edge["reason"]) for edge in change["edges"]]
    print_table(("edge", "state", "at", "reason"), rows)
