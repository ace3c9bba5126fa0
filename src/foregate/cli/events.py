"""`foregate events`: what the edges decided, request by request."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from operator import itemgetter
from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.lookup import find_application, find_token
from foregate.cli.output import as_json_text, visible, width_of
from foregate.cli.processes import AsJson
from foregate.services.control_client import ControlClient

app = typer.Typer(help="Events: one for each decision of an edge.", no_args_is_help=True)

_WAIT_SECONDS = 20
_MOST_AT_ONCE = 1000
# A line with a short path takes this much, and so much more with each of these. The first is spared first.
_SHORT_LINE = 77
_SPARE = {"ray": 22, "address": 17, "date": 15, "client id": 41}


@app.command()
def tail(
    *,
    token: Annotated[str | None, typer.Option(help="Only of this token: its id, client id or name.")] = None,
    application: Annotated[str | None, typer.Option("--app", help="Only of this application.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only allowed, refused or answered.")] = None,
    since: Annotated[str | None, typer.Option(help="Not before this time, such as 2026-09-25T22:26:26Z.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many to begin with.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with those that come, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the last events, oldest first. With --json one object a line, which leaves nothing out."""
    client = connect()
    query: dict[str, Any] = {"outcome": outcome, "since": since, "limit": limit}
    if token is not None:
        # A client id that nobody has is worth looking for: somebody may be trying it.
        query["token"] = token if token.endswith(".access") else find_token(client, token)["client_id"]
    if application is not None:
        query["app"] = find_application(client, application)["id"]
    parts = parts_within(width_of(sys.stdout))
    for event in _events(client, query, is_following=follow):
        print(as_json_text(event) if as_json else visible(line_of(event, parts)), flush=True)


def _events(client: ControlClient, query: dict[str, Any], *, is_following: bool) -> Iterator[dict[str, Any]]:
    answer = client.account("GET", "/foregate/events", query=query)
    # They come in the order in which edges sent them, and an edge that was away sends late.
    yield from sorted(answer.result, key=itemgetter("at"))
    while is_following:
        # The API holds the answer back until there is an event, so this neither polls nor comes late.
        more = {**query, "after": answer.result_info["cursor"], "wait": _WAIT_SECONDS, "limit": _MOST_AT_ONCE}
        answer = client.account("GET", "/foregate/events", query=more)
        yield from answer.result


def parts_within(width: int | None) -> frozenset[str]:
    """What of `_SPARE` a line has room for; all where no width is given."""
    kept = dict(_SPARE)
    for name in _SPARE:
        if width is None or _SHORT_LINE + sum(kept.values()) <= width:
            break
        del kept[name]
    return frozenset(kept)


def line_of(event: dict[str, Any], parts: frozenset[str]) -> str:
    """An event for people."""
    at = event["at"] if "date" in parts else f"{event['at'][11:19]}Z"
    request = f"{event['method']} {event['host']}{event['path']}"
    fields = [at, f"{event['outcome']:<8}", f"{event['reason']:<21}", str(event["status"]), request]
    spare = {"client id": event["client_id"] or "-", "address": event["ip"], "ray": f"ray {event['ray_id']}"}
    return "  ".join([*fields, *(text for name, text in spare.items() if name in parts)])
