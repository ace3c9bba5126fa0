"""Asking from outside whether the API answers and whether a guarded request goes through the edge to its origin."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from foregate.core.errors import ForegateError
from foregate.core.secrets import Secret
from foregate.services.control_client import ControlClient, Refused, Unreachable
from foregate.services.demo import HOST, token_path
from foregate.services.home import Home, read_facts, read_private
from foregate.services.settings import Settings, reachable

_TIMEOUT_SECONDS = 2


def open_client(settings: Settings, home: Home) -> ControlClient | None:
    """A client with the home's own admin token; None before the API has made one."""
    facts = read_facts(home)
    if facts is None or not home.admin_token.exists():
        return None
    return ControlClient(f"{settings.api_url}/client/v4", Secret(read_private(home.admin_token)), facts.account_id)


def api_problem(settings: Settings, home: Home) -> str:
    """Why the API is not ready; empty once it answers a call with the admin token."""
    try:
        client = open_client(settings, home)
        if client is None:
            return "the API has not made the home yet"
        client.call("GET", "/user/tokens/verify")
    except (Unreachable, Refused, ForegateError) as error:
        return str(error)
    return ""


def edge_problem(settings: Settings, home: Home, demo_home: Home) -> str:
    """Why the demo's `curl` line would not work at the edge of `home`; empty once a request reached its origin."""
    try:
        headers = _read_headers(token_path(demo_home))
        connection = _connect(settings, home)
    except (OSError, ValueError) as error:
        return f"the edge is not ready ({error})"
    try:
        connection.request("GET", "/", headers={"Host": HOST, **headers, "User-Agent": "foregate-up"})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        return f"the edge does not answer ({error})"
    finally:
        connection.close()
    return "" if response.status == http.client.OK else f"the edge answers {response.status} to the demo's token"


def _connect(settings: Settings, home: Home) -> http.client.HTTPConnection:
    address = reachable(settings.bind)
    if settings.is_loopback or settings.allow_plain_http:
        return http.client.HTTPConnection(address, settings.http_port, timeout=_TIMEOUT_SECONDS)
    context = ssl.create_default_context(cafile=str(home.edge_ca))
    # The certificate is for the host name, and we connect by address.
    context.check_hostname = False
    return http.client.HTTPSConnection(address, settings.https_port, timeout=_TIMEOUT_SECONDS, context=context)


def _read_headers(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
