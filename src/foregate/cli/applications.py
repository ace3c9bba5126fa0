"""`foregate app`: the hosts and paths that are guarded. APP is an id, a name or a domain."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.exits import ExitCode, Failure
from foregate.cli.lookup import find_application, find_policy, find_token, list_all
from foregate.cli.output import ask, note, note_change, print_facts, print_json, print_table
from foregate.cli.processes import AsJson
from foregate.cli.selectors import show_selectors
from foregate.services.control_client import ControlClient

app = typer.Typer(help="Applications: which hosts and paths are guarded, and how.", no_args_is_help=True)

Application = Annotated[str, typer.Argument(help="Its id, name or domain.", show_default=False)]
_APPS = "/access/apps"


@app.command()
def create(
    *,
    name: Annotated[str, typer.Argument(help="A name for people.")],
    domain: Annotated[list[str], typer.Argument(help="Hosts and paths: api.example.com, *.example.com/admin.")],
    allow: Annotated[list[str] | None, typer.Option(help="Let this token in; may be repeated.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Use this reusable policy; may be repeated.")] = None,
    session: Annotated[str | None, typer.Option(help="How long an assertion holds: 30m, 24h.")] = None,
    token_header: Annotated[str | None, typer.Option(help="A single header that may carry the credentials.")] = None,
    ask_with_401: Annotated[
        bool, typer.Option("--ask-with-401", help="Answer 401, not 403, where no credentials come.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Guard hosts and paths. Without --allow or --policy nobody is let in."""
    client = connect()
    body: dict[str, Any] = {
        "type": "self_hosted",
        "name": name,
        "domain": domain[0],
        "policies": _policies(client, allow or [], policy or []),
    }
    optional = {
        "destinations": [{"type": "public", "uri": uri} for uri in domain] if len(domain) > 1 else None,
        "session_duration": session,
        "read_service_tokens_from_header": token_header,
        "service_auth_401_redirect": True if ask_with_401 else None,
    }
    body |= {member: value for member, value in optional.items() if value is not None}
    answer = client.account("POST", _APPS, body)
    _print(answer.result, as_json=as_json)
    if not as_json:
        note_change(answer.change_seq)


@app.command("list")
def list_applications(as_json: AsJson = False) -> None:
    """List applications."""
    found = list(list_all(connect(), _APPS))
    if as_json:
        print_json(found)
        return
    rows = [(item["name"], item["id"], _covers(item), len(item["policies"])) for item in found]
    print_table(("name", "id", "covers", "policies"), rows, spare=("id",))


@app.command()
def show(application: Application, as_json: AsJson = False) -> None:
    """Show an application and its policies in order."""
    _print(find_application(connect(), application), as_json=as_json)


@app.command()
def delete(
    application: Application,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop guarding: requests to its hosts are refused from then on."""
    client = connect()
    found = find_application(client, application)
    ask(f"Delete the application {found['name']}?", is_answered=yes)
    answer = client.account("DELETE", f"{_APPS}/{found['id']}")
    if as_json:
        print_json(answer.result)
    else:
        note(f"Deleted the application {found['name']}.")
        note_change(answer.change_seq)


def _policies(client: ControlClient, tokens: list[str], policies: list[str]) -> list[dict[str, Any]]:
    if tokens and policies:
        raise Failure(ExitCode.USAGE, "Give --allow or --policy; the API takes no list of both.")
    if tokens:
        include = [{"service_token": {"token_id": find_token(client, text)["id"]}} for text in tokens]
        return [{"name": "allowed tokens", "decision": "non_identity", "include": include}]
    return [{"id": find_policy(client, text)["id"], "precedence": place} for place, text in enumerate(policies, 1)]


def _covers(item: dict[str, Any]) -> list[str]:
    uris = [destination["uri"] for destination in item.get("destinations") or []]
    return uris or [item["domain"]]


def _print(item: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(item)
        return
    print_facts(
        {
            "name": item["name"],
            "id": item["id"],
            "audience": item["aud"],
            "covers": _covers(item),
            "session": item.get("session_duration"),
            "token header": item.get("read_service_tokens_from_header"),
            "without credentials": 401 if item.get("service_auth_401_redirect") else 403,
            "created": item["created_at"],
            "updated": item["updated_at"],
        }
    )
    rows = [
        (policy.get("precedence"), policy["decision"], policy["name"], show_selectors(policy["include"]), policy["id"])
        for policy in item["policies"]
    ]
    print_table(("order", "decision", "policy", "include", "id"), rows, spare=("id",))
