"""How a token stands in an answer. The parts lie side by side in one JSON object and are never one value here: what
is known of a token, when it was last seen, and, in the one answer that issues it, the secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NotRequired

from typing_extensions import TypedDict

from foregate.access.tokens.model import LastSeenReport, ServiceToken
from foregate.core.secrets import Secret


class TokenView(TypedDict):
    """A service token. `duration` as written; `expires_at` null: forever."""

    id: str
    client_id: str
    name: str
    duration: str
    enabled: bool
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    client_secret_version: int
    previous_client_secret_expires_at: datetime | None


class LastSeenQuality(TypedDict):
    """How good `last_seen_at` is: a use younger than `accuracy_seconds` may be missing (null: nothing is known);
    `edge` saw it; `coverage` is the share of edges that report, 0 to 1."""

    accuracy_seconds: float | None
    edge: str | None
    coverage: float


class Extension(TypedDict):
    """What Foregate says beyond Cloudflare's fields."""

    last_seen: LastSeenQuality


class LastSeenView(TypedDict):
    """When the token last authenticated; null if never."""

    last_seen_at: datetime | None
    foregate: Extension


class IssuedSecret(TypedDict):
    """The client secret: in this answer and nowhere after."""

    client_secret: str


class SecretIfRotated(TypedDict):
    """The client secret, where the call made a new one: in this answer and nowhere after."""

    client_secret: NotRequired[str]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and the secret that was made for it just now."""

    token: ServiceToken
    secret: Secret


# A token that was made a moment ago was seen nowhere, and that is known for certain.
NEVER_SEEN = LastSeenReport({}, 0, 1.0)


def token_view(token: ServiceToken) -> TokenView:
    """The fields of a token."""
    return {
        "id": token.id,
        "client_id": token.client_id,
        "name": token.name,
        "duration": token.duration,
        "enabled": token.is_enabled,
        "expires_at": token.expires_at,
        "created_at": token.created_at,
        "updated_at": token.updated_at,
        "client_secret_version": token.secret_version,
        "previous_client_secret_expires_at": token.previous_secret_expires_at,
    }


def last_seen_view(client_id: str, report: LastSeenReport) -> LastSeenView:
    """What is known of a token's last use."""
    sighting = report.sightings.get(client_id)
    return {
        "last_seen_at": None if sighting is None else sighting.seen_at,
        "foregate": {
            "last_seen": {
                "accuracy_seconds": report.accuracy_seconds,
                "edge": None if sighting is None else sighting.edge_id,
                "coverage": report.coverage,
            }
        },
    }


def present(token: ServiceToken, report: LastSeenReport) -> dict[str, Any]:
    """An answer without a secret."""
    return {**token_view(token), **last_seen_view(token.client_id, report)}


def present_issued(issued: IssuedToken, report: LastSeenReport) -> dict[str, Any]:
    """The answer that shows the secret, once."""
    return {**present(issued.token, report), "client_secret": issued.secret.reveal()}


def snapshot(token: ServiceToken) -> dict[str, Any]:
    """A token for the history."""
    return {**token_view(token)}
