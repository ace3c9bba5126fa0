"""Finding a thing by what a person types: its id, its name, or another text that names one thing only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from foregate.cli.exits import ExitCode, Failure
from foregate.services.control_client import ControlClient, Refused, segment

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PER_PAGE = 1000

Item = dict[str, Any]


def list_all(client: ControlClient, path: str, query: dict[str, Any] | None = None) -> Iterator[Item]:
    """All items of a list, page after page until an empty one."""
    page = 1
    while found := client.account("GET", path, query={**(query or {}), "page": page, "per_page": _PER_PAGE}).result:
        yield from found
        page += 1


def find_token(client: ControlClient, text: str) -> Item:
    """A service token by id, client id or name."""
    query = {} if text.endswith(".access") else {"name": text}
    return _find(
        client,
        "/access/service_tokens",
        "token",
        text,
        query=query,
        names_of=lambda token: (token["name"], token["client_id"]),
    )


def find_application(client: ControlClient, text: str) -> Item:
    """An application by id, name or domain."""
    return _find(
        client, "/access/apps", "application", text, query={}, names_of=lambda app: (app["name"], app.get("domain"))
    )


def find_policy(client: ControlClient, text: str) -> Item:
    """A reusable policy by id or name."""
    return _find(client, "/access/policies", "policy", text, query={}, names_of=lambda policy: (policy["name"],))


def find_group(client: ControlClient, text: str) -> Item:
    """An access group by id or name."""
    return _find(client, "/access/groups", "group", text, query={}, names_of=lambda group: (group["name"],))


@contextmanager
def not_found(message: str) -> Iterator[None]:
    """Say so in a person's words where the API answers that there is no such thing."""
    try:
        yield
    except Refused as error:
        if error.status != 404:
            raise
        raise Failure(ExitCode.NOT_FOUND, message) from error


def find_edge(client: ControlClient, text: str) -> Item:
    """An edge by id or name."""
    edges: list[Item] = client.account("GET", "/foregate/edges").result
    for edge in edges:
        if text in (edge["id"], edge["name"]):
            return edge
    raise Failure(ExitCode.NOT_FOUND, f"There is no edge {text!r}; foregate edge list shows them.")


def _find(
    client: ControlClient,
    path: str,
    noun: str,
    text: str,
    *,
    query: dict[str, Any],
    names_of: Callable[[Item], tuple[Any, ...]],
) -> Item:
    """Raises Failure(NOT_FOUND), or Failure(USAGE) with the ids where several have this name."""
    if _UUID.fullmatch(text):
        with not_found(f"There is no {noun} with the id {text}."):
            return dict(client.account("GET", f"{path}/{segment(text)}").result)
    items = [item for item in list_all(client, path, query) if text in names_of(item)]
    if not items:
        raise Failure(ExitCode.NOT_FOUND, f"There is no {noun} named {text!r}.")
    if len(items) > 1:
        ids = ", ".join(str(item["id"]) for item in items)
        raise Failure(ExitCode.USAGE, f"{len(items)} {noun}s are named {text!r}; give the id: {ids}.")
    return items[0]
