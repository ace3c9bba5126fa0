"""`foregate edge`: run the edge alone, have this machine join a control plane; and for the control plane's side: join
tokens, which edges there are and how far each has come, groups, expulsion."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.exits import ExitCode, Failure
from foregate.cli.lookup import find_edge
from foregate.cli.output import ask, note, note_change, print_facts, print_issued, print_json, print_table
from foregate.cli.processes import AsJson, Parent
from foregate.services.lean import without_terminal

_HELP = "Run the edge (agent and HAProxy) alone; join, list, expel edges."

app = typer.Typer(help=_HELP, short_help="Run the edge alone; join, list, expel edges.", invoke_without_command=True)
tokens = typer.Typer(help="Join tokens: make one, with which one machine becomes an edge.", no_args_is_help=True)
app.add_typer(tokens, name="token")

# A time server keeps clocks within milliseconds; a machine without one drifts some seconds a week.
_CLOCK_LEEWAY_SECONDS = 30
_EdgeName = Annotated[str, typer.Argument(metavar="EDGE", help="Its name or id.", show_default=False)]


@app.callback()
def edge(context: typer.Context, parent: Parent = None) -> None:
    """Run the edge (agent and HAProxy) alone; join, list, expel edges."""
    if context.invoked_subcommand is None:
        _run(parent)


def _run(parent: int | None = None) -> None:
    without_terminal()
    from foregate.services.edge import run
    from foregate.services.process import run_process
    from foregate.services.settings import load

    run_process("edge", run, load(), parent=parent)


@app.command(short_help="Make this machine an edge of a control plane.")
def join(
    url: Annotated[str, typer.Argument(help="The control plane's feed, https://HOST:8401.", show_default=False)],
    token: Annotated[str, typer.Option(help="The file with the join token, or - for stdin.", show_default=False)] = "-",
    name: Annotated[str, typer.Option(help="A name for people; without, this machine's.", show_default=False)] = "",
    rejoin: Annotated[bool, typer.Option("--rejoin", help="Be the same edge again, with its state.")] = False,
    start: Annotated[bool, typer.Option(help="Then run the edge, until Ctrl-C or SIGTERM.")] = True,
) -> None:
    """Make this machine an edge of a control plane, with a token of foregate edge token create, and run it."""
    from foregate.services.joining import join_home
    from foregate.services.program import program_for
    from foregate.services.settings import load

    settings = load()
    membership = join_home(settings.home, url, _read_token(token), name=name, is_rejoin=rejoin)
    note(f"Joined {membership.control_plane} as the edge {membership.name}; its home is {settings.home}.")
    if start:
        _run()
    else:
        note(f"Start it with: {program_for(settings)} edge")


@tokens.command("create", short_help="Make a token with which one machine joins.")
def create_token(
    group: Annotated[str, typer.Option(help="The edge's group, such as a region.", show_default=False)] = "",
    valid: Annotated[str, typer.Option(help="How long it may be used: 15m, 2h, at most 24h.")] = "15m",
    rejoin: Annotated[str, typer.Option(metavar="EDGE", help="For this edge to join again.", show_default=False)] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token with which one machine joins as an edge, once. It is shown now and never again."""
    client = connect()
    body: dict[str, Any] = {"valid_for": valid}
    if group:
        body["group"] = group
    if rejoin:
        body["rejoin"] = find_edge(client, rejoin)["id"]
    made = client.call("POST", "/foregate/edge_join_tokens", body).result
    if as_json:
        print_json(made)
        return
    print_issued(
        {"for": made["edge"] or "a new edge", "group": made["group"], "ends": made["expires_on"]}, made["value"]
    )
    again = " --rejoin" if rejoin else ""
    note(f"On the new machine: foregate edge join https://THIS_MACHINE:{made['feed_port']}{again} --token FILE")


@app.command("list", short_help="List edges and how far each has come.")
def list_edges(
    group: Annotated[str | None, typer.Option(help="Only those of this group.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List edges: the last change each has applied, and when it last said so."""
    found = [
        edge for edge in connect().account("GET", "/foregate/edges").result if group is None or edge["group"] == group
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            edge["name"],
            edge["group"],
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
    columns = (
        *("name", "group", "reporting", "reported", "applied change"),
        *("pending", "refused", "held", "missing events"),
    )
    print_table(columns, rows, spare=("reported", "group"))


@app.command()
def move(
    edge: _EdgeName,
    group: Annotated[str, typer.Argument(help="Its new group; '' for none.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Move an edge to another group."""
    client = connect()
    answer = client.call("PATCH", f"/foregate/edges/{find_edge(client, edge)['id']}", {"group": group})
    if as_json:
        print_json(answer.result)
    else:
        print_facts({"name": answer.result["name"], "group": answer.result["group"]})


@app.command(short_help="Expel an edge for good.")
def expel(
    edge: _EdgeName,
    keep_keys: Annotated[bool, typer.Option("--keep-keys", help="Do not replace the signing keys.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Expel an edge for good: it is sent nothing more, stops serving, and the signing keys that it knew are
    replaced."""
    client = connect()
    found = find_edge(client, edge)
    ask(f"Expel the edge {found['name']} for good?", is_answered=yes)
    query = {"keep_keys": "true"} if keep_keys else None
    answer = client.call("DELETE", f"/foregate/edges/{found['id']}", query=query)
    if as_json:
        print_json(answer.result)
        return
    note(f"Expelled {found['name']}.")
    if answer.result["accounts_with_new_keys"]:
        note(
            "New signing keys are in use. The ones before stay published while assertions under them are alive; "
            "foregate keys rotate ends them at once."
        )
    note_change(answer.change_seq)


def _read_token(where: str) -> str:
    """A join token from a file or stdin; on a terminal a person is asked for it, and it is not shown."""
    import getpass
    import sys
    from pathlib import Path

    from foregate.core.secrets import EDGE_JOIN_TOKEN_PREFIX

    if where.startswith(EDGE_JOIN_TOKEN_PREFIX):
        message = (
            "A token among the arguments stands in the process list and in the shell's history. Make another one, and "
            "give the file that it is in, or - and the token on stdin."
        )
        raise Failure(ExitCode.USAGE, message)
    if where != "-":
        try:
            return Path(where).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(ExitCode.USAGE, f"The file {where} with the join token cannot be read ({error}).") from None
    return getpass.getpass("Join token: ") if sys.stdin.isatty() else sys.stdin.read(4096)
