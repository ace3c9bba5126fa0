"""Selectors as typed: `token:NAME`, `any-token`, `everyone`, `ip:10.0.0.0/8`, `group:NAME`."""

from __future__ import annotations

from typing import Any

from foregate.cli.exits import ExitCode, Failure
from foregate.cli.lookup import find_group, find_token
from foregate.services.control_client import ControlClient

HELP = "token:NAME, any-token, everyone, ip:CIDR or group:NAME; may be repeated"


def to_selectors(client: ControlClient, texts: list[str]) -> list[dict[str, Any]]:
    """The API's form of `texts`. Raises Failure(USAGE) for a text that is no selector."""
    return [_to_selector(client, text) for text in texts]


def show_selectors(selectors: list[dict[str, Any]] | None) -> str:
    """The API's form for people, as ids."""
    return ", ".join(_show_selector(selector) for selector in selectors or []) or "-"


def _to_selector(client: ControlClient, text: str) -> dict[str, Any]:
    kind, _, value = text.partition(":")
    match kind, value:
        case "any-token", "":
            return {"any_valid_service_token": {}}
        case "everyone", "":
            return {"everyone": {}}
        case "token", str() if value:
            return {"service_token": {"token_id": find_token(client, value)["id"]}}
        case "group", str() if value:
            return {"group": {"id": find_group(client, value)["id"]}}
        case "ip", str() if value:
            return {"ip": {"ip": value}}
        case _:
            raise Failure(ExitCode.USAGE, f"{text!r} is not a selector; give {HELP}.")


def _show_selector(selector: dict[str, Any]) -> str:
    match selector:
        case {"any_valid_service_token": _}:
            return "any-token"
        case {"everyone": _}:
            return "everyone"
        case {"service_token": {"token_id": token_id}}:
            return f"token:{token_id}"
        case {"group": {"id": group_id}}:
            return f"group:{group_id}"
        case {"ip": {"ip": network}}:
            return f"ip:{network}"
        case _:
            return str(selector)
