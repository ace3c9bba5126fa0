"""Which API a command talks to, and as whom: what `foregate env` exported, else the home's own admin token.

A token never comes from an argument: arguments stand in process lists and shell histories.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from foregate.cli.exits import ExitCode, Failure
from foregate.cli.output import note
from foregate.core.ids import ACCOUNT_ID
from foregate.core.secrets import Secret
from foregate.services.control_client import ControlClient
from foregate.services.home import Home, read_facts, read_private
from foregate.services.running import load_running

_NAMES = ("CLOUDFLARE_BASE_URL", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID")


def connect(environment: Mapping[str, str] | None = None) -> ControlClient:
    """The client for this command.

    The environment counts only with CLOUDFLARE_BASE_URL in it: an API token alone is for Cloudflare, and must not be
    sent here. Raises Failure(USAGE) where it is incomplete or malformed, Failure(UNREACHABLE) without a home.
    """
    given = os.environ if environment is None else environment
    base_url, api_token, account_id = (given.get(name, "") for name in _NAMES)
    if not base_url:
        return _connect_home(given)
    if not api_token or not account_id:
        missing = [name for name in _NAMES if not given.get(name)]
        raise Failure(ExitCode.USAGE, f"CLOUDFLARE_BASE_URL is set, so {' and '.join(missing)} must be too.")
    # Before they stand in a header and a path; what they are is not repeated.
    if not api_token.isascii() or not api_token.isprintable() or " " in api_token:
        raise Failure(ExitCode.USAGE, "CLOUDFLARE_API_TOKEN is not an API token; see: foregate env")
    if not ACCOUNT_ID.fullmatch(account_id):
        raise Failure(ExitCode.USAGE, "CLOUDFLARE_ACCOUNT_ID must be 32 hexadecimal digits.")
    try:
        return ControlClient(base_url, Secret(api_token), account_id)
    except ValueError:
        raise Failure(
            ExitCode.USAGE, "CLOUDFLARE_BASE_URL must be a URL, such as http://127.0.0.1:8400/client/v4."
        ) from None


def _connect_home(environment: Mapping[str, str]) -> ControlClient:
    settings = load_running(note, environment)
    home = Home(settings.home)
    facts = read_facts(home)
    if facts is None:
        raise Failure(
            ExitCode.UNREACHABLE,
            f"There is no Foregate in {home.root}; start one with 'foregate up', or set FOREGATE_HOME.",
        )
    return ControlClient(f"{settings.api_url}/client/v4", Secret(read_private(home.admin_token)), facts.account_id)
