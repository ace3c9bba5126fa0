"""`foregate ingress`: where an application's origin is. A rule says which service answers for a host, and for a path
of it; rules live in tunnels, and this command keeps its own in one named `foregate` unless told otherwise."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from foregate.cli.connection import connect
from foregate.cli.exits import ExitCode, Failure
from foregate.cli.lookup import list_all
from foregate.cli.output import ask, note, note_change, print_json, print_table
from foregate.cli.processes import AsJson
from foregate.services.control_client import ControlClient

app = typer.Typer(help="Ingress: which service stands behind a host.", no_args_is_help=True)

Host = Annotated[str, typer.Argument(help="api.example.com or *.example.com.", show_default=False)]
Path = Annotated[str | None, typer.Option(help="Only for paths in which this regular expression is found.")]
Tunnel = Annotated[str, typer.Option(help="The tunnel that holds the rule.")]
_TUNNELS = "/cfd_tunnel"
_OWN = "foregate"
# cloudflared's rule for everything that no other rule is for; every configuration must end in one.
_CATCH_ALL = {"service": "http_status:404"}

Rule = dict[str, Any]


@app.command("set")
def set_rule(
    *,
    host: Host,
    service: Annotated[str, typer.Argument(help="http://HOST:PORT, https://HOST:PORT or unix:/PATH.")],
    path: Path = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="An originRequest setting: noTLSVerify=true, httpHostHeader=x; may be repeated."),
    ] = None,
    tunnel: Tunnel = _OWN,
    as_json: AsJson = False,
) -> None:
    """Say which service answers for a host. Replaces the rule for the same host and path."""
    client = connect()
    tunnel_id = _find_tunnel(client, tunnel) or str(
        client.account("POST", _TUNNELS, {"name": tunnel, "config_src": "cloudflare"}).result["id"]
    )
    rule: Rule = {"hostname": host, "service": service}
    if path is not None:
        rule["path"] = path
    if origin:
        rule["originRequest"] = dict(_origin_setting(text) for text in origin)
    config = _config(client, tunnel_id)
    kept = [r for r in config["ingress"] if not _is_for(r, host, path) and r.get("hostname")]
    # A rule for a path goes before the one for the whole host, which would take all its requests.
    place = next((n for n, r in enumerate(kept) if path and _is_for(r, host, None)), len(kept))
    change_seq = _write(client, tunnel_id, config, [*kept[:place], rule, *kept[place:]])
    if as_json:
        print_json(rule)
    else:
        note(f"{host}{f' (paths with {path})' if path else ''} is answered by {service}.")
        note_change(change_seq)


@app.command("list")
def list_rules(as_json: AsJson = False) -> None:
    """List all rules of all tunnels."""
    client = connect()
    found = [
        {"tunnel": tunnel["name"], **rule}
        for tunnel in list_all(client, _TUNNELS, {"is_deleted": "false"})
        for rule in _config(client, tunnel["id"])["ingress"]
        if rule.get("hostname")
    ]
    if as_json:
        print_json(found)
        return
    rows = [(r["hostname"], r.get("path"), r["service"], r.get("originRequest"), r["tunnel"]) for r in found]
    print_table(("host", "path", "service", "origin request", "tunnel"), rows)


@app.command()
def delete(
    host: Host,
    path: Path = None,
    tunnel: Tunnel = _OWN,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a rule: nothing answers for the host from then on."""
    client = connect()
    tunnel_id = _find_tunnel(client, tunnel)
    config = _config(client, tunnel_id) if tunnel_id else {"ingress": []}
    gone = [rule for rule in config["ingress"] if _is_for(rule, host, path)]
    if tunnel_id is None or not gone:
        raise Failure(ExitCode.NOT_FOUND, f"The tunnel {tunnel} has no such rule for {host}.")
    ask(f"Delete the rule for {host}?", is_answered=yes)
    kept = [rule for rule in config["ingress"] if rule not in gone and rule.get("hostname")]
    change_seq = _write(client, tunnel_id, config, kept)
    if as_json:
        print_json(gone)
    else:
        note(f"Deleted the rule for {host}{f' (paths with {path})' if path else ''}.")
        note_change(change_seq)


def _find_tunnel(client: ControlClient, name: str) -> str | None:
    found = client.account("GET", _TUNNELS, query={"name": name, "is_deleted": "false"}).result
    return str(found[0]["id"]) if found else None


def _config(client: ControlClient, tunnel_id: str) -> dict[str, Any]:
    found = client.account("GET", f"{_TUNNELS}/{tunnel_id}/configurations").result or {}
    config = dict(found.get("config") or {})
    return {**config, "ingress": list(config.get("ingress") or [])}


def _write(client: ControlClient, tunnel_id: str, config: dict[str, Any], rules: list[Rule]) -> int | None:
    """The change that the edges will report on."""
    last = next((rule for rule in config["ingress"] if not rule.get("hostname")), _CATCH_ALL)
    body = {"config": {**config, "ingress": [*rules, last]}}
    return client.account("PUT", f"{_TUNNELS}/{tunnel_id}/configurations", body).change_seq


def _is_for(rule: Rule, host: str, path: str | None) -> bool:
    return rule.get("hostname") == host and (rule.get("path") or None) == (path or None)


def _origin_setting(text: str) -> tuple[str, Any]:
    name, has_value, value = text.partition("=")
    if not has_value or not name:
        raise Failure(ExitCode.USAGE, f"{text!r} is not a setting; write NAME=VALUE, such as noTLSVerify=true.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
