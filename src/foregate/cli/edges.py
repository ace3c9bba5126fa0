"""`foregate edge`: run the edge alone; `foregate edge list`: which edges there are and how far each has come."""

from __future__ import annotations

import typer

from foregate.cli.connection import connect
from foregate.cli.output import note, print_json, print_table
from foregate.cli.processes import AsJson, Parent
from foregate.services.lean import without_terminal

app = typer.Typer(help="Run the edge (agent and HAProxy) alone, or list edges.", invoke_without_command=True)

# A time server keeps clocks within milliseconds; a machine without one drifts some seconds a week.
_CLOCK_LEEWAY_SECONDS = 30


@app.callback()
def edge(context: typer.Context, parent: Parent = None) -> None:
    """Run the edge (agent and HAProxy) alone, or list edges."""
    if context.invoked_subcommand is not None:
        return
    without_terminal()
    from foregate.services.edge import run
    from foregate.services.process import run_process
    from foregate.services.settings import load

    run_process("edge", run, load(), parent=parent)


@app.command("list", short_help="List edges and how far each has come.")
def list_edges(as_json: AsJson = False) -> None:
    """List edges: the last change each has applied, and when it last said so."""
    found = connect().account("GET", "/foregate/edges").result
    if as_json:
        print_json(found)
        return
    rows = [
        (
            edge["name"],
            edge["is_reporting"],
            edge["reported_at"],
            edge["applied_seq"],
            edge["pending"],
            len(edge["refused"]),
            len(edge["held"]),
            edge["missing_events"],
        )
        for edge in found
    ]
    for edge in found:
        if edge["lost_bytes"]:
            note(
                f"{edge['name']}: {edge['lost_bytes']} bytes of its oldest events were lost, as its spool was over its "
                "bound (FOREGATE_SPOOL_MAX_BYTES). How many events they were is counted once their HAProxy has ended."
            )
        ahead = edge["clock_ahead_seconds"]
        if ahead is not None and abs(ahead) > _CLOCK_LEEWAY_SECONDS:
            note(
                f"{edge['name']}: its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the control "
                "plane's. Tokens and old secrets end by the edge's clock; set both."
            )
    columns = ("name", "reporting", "reported", "applied change", "pending", "refused", "held", "missing events")
    print_table(columns, rows, spare=("reported",))
