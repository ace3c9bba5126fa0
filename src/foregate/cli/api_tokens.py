"""`foregate api-token`: API tokens, with which people and programs call the control API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.exits import ExitCode, Failure
from foregate.cli.output import ask, note, print_issued, print_json, print_table
from foregate.cli.processes import AsJson

app = typer.Typer(help="API tokens: make one for another person or program, revoke it.", no_args_is_help=True)

_PATH = "/foregate/api_tokens"
_PER_PAGE = 1000


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    account: Annotated[str | None, typer.Option(help="Only for this account, by its id. Without, for all.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may look and change nothing.")] = False,
    duration: Annotated[str, typer.Option(help="How long it lives: 720h, 30m, forever.")] = "forever",
    as_json: AsJson = False,
) -> None:
    """Make an API token. It is shown now and never again."""
    from foregate.core.clock import format_time, utc_now
    from foregate.core.durations import parse_token_duration

    lifetime = parse_token_duration(duration)
    body: dict[str, Any] = {"name": name, "permissions": ["read"] if read_only else ["read", "write"]}
    if account is not None:
        body["account_id"] = account
    if lifetime is not None:
        body["expires_on"] = format_time(utc_now() + lifetime)
    made = connect().call("POST", _PATH, body).result
    if as_json:
        print_json(made)
    else:
        print_issued(_facts(made), made["value"])


@app.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List API tokens, those included that have ended."""
    client, found, page = connect(), [], 1
    while more := client.call("GET", _PATH, query={"page": page, "per_page": _PER_PAGE}).result:
        found += more
        page += 1
    if as_json:
        print_json(found)
        return
    rows = [
        (t["name"], t["id"], t["status"], t["account_id"] or "all", t["permissions"], t["expires_on"] or "never")
        for t in found
    ]
    print_table(("name", "id", "status", "account", "may", "expires"), rows, spare=("expires", "account"))


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its id.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Revoke an API token for good."""
    if not token.isalnum() or not token.isascii():
        raise Failure(ExitCode.USAGE, "Give the id of the API token; foregate api-token list shows it.")
    client = connect()
    ask(f"Revoke the API token {token} for good?", is_answered=yes)
    answer = client.call("DELETE", f"{_PATH}/{token}")
    if as_json:
        print_json(answer.result)
    else:
        note(f"Revoked the API token {token}.")


def _facts(token: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": token["name"],
        "id": token["id"],
        "account": token["account_id"] or "all",
        "may": token["permissions"],
        "expires": token["expires_on"] or "never",
    }
