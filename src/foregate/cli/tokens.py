"""`foregate token`: service tokens. TOKEN is an id, a client id, or a name that only one token has."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.lookup import find_token, list_all
from foregate.cli.output import ask, note, note_change, print_facts, print_issued, print_json, print_table
from foregate.cli.processes import AsJson
from foregate.services.control_client import ControlAnswer

app = typer.Typer(help="Service tokens: make, show, rotate, switch off, revoke.", no_args_is_help=True)

Token = Annotated[str, typer.Argument(help="Its id, client id or name.", show_default=False)]
_TOKENS = "/access/service_tokens"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    duration: Annotated[str, typer.Option(help="How long it lives: 8760h, 30m, forever.")] = "8760h",
    disabled: Annotated[bool, typer.Option("--disabled", help="Make it, but do not let it in yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a service token. Its secret is shown now and never again."""
    body = {"name": name, "duration": duration, "enabled": not disabled}
    _print_issued(connect().account("POST", _TOKENS, body), as_json=as_json)


@app.command("list")
def list_tokens(
    search: Annotated[str | None, typer.Option(help="Only those with this text in their name.")] = None,
    as_json: AsJson = False,
) -> None:
    """List service tokens and when each was last seen."""
    found = list(list_all(connect(), _TOKENS, {"search": search}))
    if as_json:
        print_json(found)
        return
    rows = [(t["name"], t["id"], t["client_id"], t["enabled"], t["expires_at"], t["last_seen_at"]) for t in found]
    print_table(("name", "id", "client id", "enabled", "expires", "last seen"), rows, spare=("id", "expires"))


@app.command()
def show(token: Token, as_json: AsJson = False) -> None:
    """Show a service token. Its secret is not kept, so it is not shown."""
    _print(find_token(connect(), token), as_json=as_json)


@app.command(short_help="Give a service token a new secret.")
def rotate(
    token: Token,
    keep_old: Annotated[
        str | None, typer.Option(help="Let the old secret in for so long: 1h, 720h. Without, it ends at once.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a service token a new secret, which is shown now and never again."""
    from foregate.core.clock import format_time, utc_now
    from foregate.core.durations import parse_duration

    body = {}
    if keep_old is not None:
        body["previous_client_secret_expires_at"] = format_time(utc_now() + parse_duration(keep_old))
    client = connect()
    path = f"{_TOKENS}/{find_token(client, token)['id']}/rotate"
    _print_issued(client.account("POST", path, body), as_json=as_json)


@app.command()
def refresh(token: Token, as_json: AsJson = False) -> None:
    """Let a service token live a year longer, with the same secret."""
    client = connect()
    answer = client.account("POST", f"{_TOKENS}/{find_token(client, token)['id']}/refresh")
    _print(answer.result, as_json=as_json)
    if not as_json:
        note_change(answer.change_seq)


@app.command()
def enable(token: Token, as_json: AsJson = False) -> None:
    """Let a service token in again."""
    _switch(token, {"enabled": True}, as_json=as_json)


@app.command()
def disable(token: Token, as_json: AsJson = False) -> None:
    """Let a service token in no more, until it is enabled again."""
    _switch(token, {"enabled": False}, as_json=as_json)


@app.command()
def revoke(
    token: Token,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Revoke a service token for good."""
    client = connect()
    found = find_token(client, token)
    ask(f"Revoke {found['name']} ({found['client_id']}) for good?", is_answered=yes)
    answer = client.account("DELETE", f"{_TOKENS}/{found['id']}")
    if as_json:
        print_json(answer.result)
    else:
        note(f"Revoked {found['name']} ({found['client_id']}).")
        note_change(answer.change_seq)


def _switch(token: str, body: dict[str, Any], *, as_json: bool) -> None:
    client = connect()
    answer = client.account("PUT", f"{_TOKENS}/{find_token(client, token)['id']}", body)
    _print(answer.result, as_json=as_json)
    if not as_json:
        note_change(answer.change_seq)


def _print(token: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(token)
    else:
        print_facts(_facts(token))


def _print_issued(answer: ControlAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer.result)
    else:
        print_issued(_facts(answer.result), answer.result["client_secret"])
        note_change(answer.change_seq)


def _facts(token: dict[str, Any]) -> dict[str, Any]:
    seen = (token.get("foregate") or {}).get("last_seen") or {}
    return {
        "name": token["name"],
        "id": token["id"],
        "client id": token["client_id"],
        "enabled": token["enabled"],
        "duration": token["duration"],
        "expires": token["expires_at"] or "never",
        "secret version": token["client_secret_version"],
        "old secret ends": token["previous_client_secret_expires_at"],
        "last seen": token.get("last_seen_at") or "never",
        "  known to within": _seconds(seen.get("accuracy_seconds")),
        "  edges reporting": _share(seen.get("coverage")),
        "created": token["created_at"],
        "updated": token["updated_at"],
    }


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:g} s"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
