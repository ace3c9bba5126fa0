"""`foregate policy`: reusable policies, or with --app those of one application. POLICY is an id or a name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.exits import ExitCode, Failure
from foregate.cli.lookup import find_application, find_policy, list_all
from foregate.cli.output import ask, note, note_change, print_facts, print_json, print_table
from foregate.cli.processes import AsJson
from foregate.cli.selectors import HELP, show_selectors, to_selectors
from foregate.services.control_client import ControlClient, segment

app = typer.Typer(help="Policies: who is let in, passed by, or turned away.", no_args_is_help=True)

Policy = Annotated[str, typer.Argument(help="Its id or name.", show_default=False)]
OfApplication = Annotated[str | None, typer.Option("--app", help="Of this application alone: its id, name or domain.")]
_POLICIES = "/access/policies"


@app.command()
def create(
    *,
    name: Annotated[str, typer.Argument(help="A name for people.")],
    include: Annotated[list[str], typer.Option(help=f"Any of these must hold: {HELP}.")],
    decision: Annotated[str, typer.Option(help="non_identity (Service Auth), bypass or deny.")] = "non_identity",
    require: Annotated[list[str] | None, typer.Option(help="All of these must hold.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="None of these may hold.")] = None,
    session: Annotated[str | None, typer.Option(help="How long an assertion holds: 30m, 24h.")] = None,
    application: OfApplication = None,
    as_json: AsJson = False,
) -> None:
    """Make a policy."""
    client = connect()
    body: dict[str, Any] = {
        "name": name,
        "decision": decision,
        "include": to_selectors(client, include),
        "require": to_selectors(client, require or []),
        "exclude": to_selectors(client, exclude or []),
    }
    if session is not None:
        body["session_duration"] = session
    answer = client.account("POST", _path(client, application), body)
    _print(answer.result, as_json=as_json)
    if not as_json:
        note_change(answer.change_seq)


@app.command("list")
def list_policies(application: OfApplication = None, as_json: AsJson = False) -> None:
    """List policies."""
    client = connect()
    found = list(list_all(client, _path(client, application)))
    if as_json:
        print_json(found)
        return
    rows = [
        (p["name"], p["id"], p["decision"], show_selectors(p["include"]), p.get("precedence") or p.get("app_count"))
        for p in found
    ]
    print_table(
        ("name", "id", "decision", "include", "used by" if application is None else "order"), rows, spare=("id",)
    )


@app.command()
def show(policy: Policy, application: OfApplication = None, as_json: AsJson = False) -> None:
    """Show a policy."""
    _print(_find(connect(), policy, application), as_json=as_json)


@app.command()
def delete(
    policy: Policy,
    application: OfApplication = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a policy. Refused while an application uses it."""
    client = connect()
    found = _find(client, policy, application)
    ask(f"Delete the policy {found['name']}?", is_answered=yes)
    answer = client.account("DELETE", f"{_path(client, application)}/{found['id']}")
    if as_json:
        print_json(answer.result)
    else:
        note(f"Deleted the policy {found['name']}.")
        note_change(answer.change_seq)


def _path(client: ControlClient, application: str | None) -> str:
    if application is None:
        return _POLICIES
    return f"/access/apps/{segment(find_application(client, application)['id'])}/policies"


def _find(client: ControlClient, text: str, application: str | None) -> dict[str, Any]:
    if application is None:
        return find_policy(client, text)
    found = [p for p in list_all(client, _path(client, application)) if text in (p["id"], p["name"])]
    if len(found) != 1:
        raise Failure(ExitCode.NOT_FOUND, f"The application has {len(found)} policies named {text!r}; give an id.")
    return found[0]


def _print(policy: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(policy)
        return
    print_facts(
        {
            "name": policy["name"],
            "id": policy["id"],
            "decision": policy["decision"],
            "include": show_selectors(policy["include"]),
            "require": show_selectors(policy.get("require")),
            "exclude": show_selectors(policy.get("exclude")),
            "session": policy.get("session_duration"),
            "order": policy.get("precedence"),
            "used by": policy.get("app_count"),
            "created": policy["created_at"],
            "updated": policy["updated_at"],
        }
    )
