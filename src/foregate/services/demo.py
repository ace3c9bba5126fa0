"""The demo: an application, a tunnel to the echo service and a token, made through the API like anybody's.

What is there and works is left alone, what is missing is made again, so the printed `curl` line works at every start.
The token's id and secret lie in `demo/token` (0600) in the form in which curl reads headers from a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foregate.core.clock import parse_time, utc_now
from foregate.core.masterkey import write_private
from foregate.services.control_client import ControlClient, Refused, segment
from foregate.services.home import Home

HOST = "echo.localhost"
_NAME = "demo"
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class _Made:
    """The ids of what the demo made, as kept in the home."""

    tunnel_id: str = ""
    token_id: str = ""
    app_id: str = ""


def token_path(home: Home) -> Path:
    """The file that `curl -H @file` reads."""
    return home.demo / "token"


def ensure_demo(client: ControlClient, home: Home, port: int) -> None:
    """Make the demo whole, with its origin on 127.0.0.1:`port`. Safe to repeat. Raises Refused or Unreachable."""
    made = _read_made(home)
    # Kept after each step, so that one that is refused does not have those before it made again at the next try.
    made = _keep(home, made, tunnel_id=_ensure_tunnel(client, made.tunnel_id))
    _ensure_ingress(client, made.tunnel_id, port)
    made = _keep(home, made, token_id=_ensure_token(client, home, made.token_id))
    _keep(home, made, app_id=_ensure_app(client, made.app_id, made.token_id))


def _ensure_tunnel(client: ControlClient, tunnel_id: str) -> str:
    tunnel = _get(client, "/cfd_tunnel", tunnel_id)
    if tunnel is not None and not tunnel.get("deleted_at"):
        return tunnel_id
    found = client.account("GET", "/cfd_tunnel", query={"name": _NAME, "is_deleted": "false"}).result
    if found:
        return str(found[0]["id"])
    body = {"name": _NAME, "config_src": "cloudflare"}
    return str(client.account("POST", "/cfd_tunnel", body).result["id"])


def _ensure_ingress(client: ControlClient, tunnel_id: str, port: int) -> None:
    path = f"/cfd_tunnel/{segment(tunnel_id)}/configurations"
    rules = [{"hostname": HOST, "service": f"http://127.0.0.1:{port}"}, {"service": "http_status:404"}]
    found = client.account("GET", path).result or {}
    present = ((found.get("config") or {}).get("ingress")) or []
    if [(rule.get("hostname"), rule.get("service")) for rule in present] != [
        (rule.get("hostname"), rule.get("service")) for rule in rules
    ]:
        client.account("PUT", path, {"config": {"ingress": rules}})


def _ensure_token(client: ControlClient, home: Home, token_id: str) -> str:
    token = _get(client, "/access/service_tokens", token_id)
    if token is not None and token_path(home).exists() and _is_usable(token):
        return token_id
    made = client.account("POST", "/access/service_tokens", {"name": _NAME, "duration": "forever"}).result
    headers = f"CF-Access-Client-Id: {made['client_id']}\nCF-Access-Client-Secret: {made['client_secret']}\n"
    write_private(token_path(home), headers.encode())
    return str(made["id"])


def _is_usable(token: dict[str, Any]) -> bool:
    expires_at = token.get("expires_at")
    return token.get("enabled", True) and (not expires_at or parse_time(expires_at) > utc_now())


def _ensure_app(client: ControlClient, app_id: str, token_id: str) -> str:
    app = _get(client, "/access/apps", app_id)
    if app is None:
        apps = client.account("GET", "/access/apps", query={"domain": HOST}).result or []
        app = next((found for found in apps if found.get("domain") == HOST), None)
    if app is None:
        return str(client.account("POST", "/access/apps", _app_body(token_id)).result["id"])
    if token_id not in json.dumps(app.get("policies")):
        client.account("PUT", f"/access/apps/{segment(app['id'])}", _app_body(token_id))
    return str(app["id"])


def _app_body(token_id: str) -> dict[str, Any]:
    policy = {
        "name": "the demo's token",
        "decision": "non_identity",
        "include": [{"service_token": {"token_id": token_id}}],
    }
    return {"type": "self_hosted", "name": "Demo: echo", "domain": HOST, "policies": [policy]}


def _get(client: ControlClient, path: str, item_id: str) -> dict[str, Any] | None:
    if not item_id:
        return None
    try:
        found = client.account("GET", f"{path}/{segment(item_id)}").result
    except Refused as refused:
        if refused.status == _NOT_FOUND:
            return None
        raise
    return found if isinstance(found, dict) else None


def _made_path(home: Home) -> Path:
    return home.demo / "made.json"


def _keep(home: Home, made: _Made, **ids: str) -> _Made:
    now_made = replace(made, **ids)
    if now_made != made:
        write_private(_made_path(home), json.dumps(asdict(now_made), indent=2).encode() + b"\n")
    return now_made


def _read_made(home: Home) -> _Made:
    try:
        found = json.loads(_made_path(home).read_text())
        return _Made(str(found["tunnel_id"]), str(found["token_id"]), str(found["app_id"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return _Made()
