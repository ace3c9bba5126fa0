"""`foregate rebuild`: make a view anew from what it was made of, while Foregate runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from foregate.cli.connection import connect
from foregate.cli.output import note, print_json, print_table
from foregate.cli.processes import AsJson

if TYPE_CHECKING:
    from foregate.access.events.rebuild import Rebuilt

app = typer.Typer(help="Make a view anew, from the log or the records.", no_args_is_help=True)


@app.command("last-seen", short_help="When each token was last seen, from the log.")
def last_seen(as_json: AsJson = False) -> None:
    """Make "last seen" anew from the events in the log. It never goes back: what older events said stays."""
    from foregate.services.rebuild import rebuild_last_seen_of
    from foregate.services.settings import load

    _print(rebuild_last_seen_of(load()), as_json=as_json)


@app.command(short_help="Index and counts of events, from the log.")
def events(as_json: AsJson = False) -> None:
    """Make the index by which events are found, and the counts per minute, anew from the events in the log."""
    from foregate.services.rebuild import rebuild_events_of
    from foregate.services.settings import load

    _print(rebuild_events_of(load()), as_json=as_json)


@app.command("edge-config", short_help="What edges know, from the records.")
def edge_config(as_json: AsJson = False) -> None:
    """Send everything that edges know anew, as the records have it, and take back what the records do not have."""
    client = connect()
    records, after = 0, ""
    while after is not None:
        found = client.account("POST", "/foregate/edge_config/rebuild", query={"after": after}).result
        records, after = records + found["records"], found["next"]
    if as_json:
        print_json({"records": records})
    else:
        note(f"{records} records are on their way to the edges; see: foregate edge list")


def _print(rebuilt: list[Rebuilt], *, as_json: bool) -> None:
    from foregate.core.clock import format_time, from_micros

    if as_json:
        print_json([asdict(one) for one in rebuilt])
        return
    rows = [
        (one.view, one.batches, one.unreadable, "" if one.since is None else format_time(from_micros(one.since)))
        for one in rebuilt
    ]
    print_table(("view", "batches read", "unreadable", "older ones are gone before"), rows)
