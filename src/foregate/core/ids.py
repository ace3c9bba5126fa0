"""Identifiers: how they are made and what form they must have.

Cloudflare's forms: account ids 32 hex, resources UUID, client ids 32 hex + `.access`, application audience 64 hex.
"""

from __future__ import annotations

import re
import secrets
import uuid

from foregate.core.errors import invalid

CLIENT_ID = re.compile(r"[0-9a-f]{32}\.access")
ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")


def new_uuid() -> str:
    """A random UUID, lower case."""
    return str(uuid.uuid4())


def new_account_id() -> str:
    """32 lower-case hex digits, random."""
    return secrets.token_hex(16)


def new_client_id() -> str:
    """32 lower-case hex digits and `.access`, random."""
    return f"{secrets.token_hex(16)}.access"


def new_audience() -> str:
    """64 lower-case hex digits, random: an application's `aud`."""
    return secrets.token_hex(32)


def parse_uuid(text: str, what: str, *, pointer: str | None = None) -> str:
    """The UUID in lower case. `what` names the thing in the error's sentence."""
    try:
        parsed = uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        raise invalid(f"The {what} id must be a UUID.", pointer=pointer) from None
    if text.lower() != str(parsed):
        raise invalid(f"The {what} id must be a UUID with hyphens.", pointer=pointer)
    return str(parsed)
