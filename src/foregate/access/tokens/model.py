"""Service tokens: what one is, what may happen to it, and what is known of its last use.

What is read (`ServiceToken`) holds no secret and no digest, so that it can never be written back as one. A secret
exists as `core.secrets.Secret` in the answer that issues it, and as a digest in a table that only grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A token as it is read. `duration` is as the caller wrote it; `expires_at` None: forever.

    `previous_secret_expires_at` is the end of the secret before the current one. It may be set where there never was
    one (a client declared it at creation): it then means nothing and is given back as written.
    """

    id: str
    account_id: str
    client_id: str
    name: str
    duration: str
    is_enabled: bool
    expires_at: datetime | None
    secret_version: int
    previous_secret_version: int | None
    previous_secret_expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a caller asks for at creation. `secret_version` 0: not set."""

    name: str
    duration: str
    is_enabled: bool = True
    secret_version: int = 0
    previous_secret_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TokenPatch:
    """What a PUT asks for; None: left as it is. `secret_version` 0: not set."""

    name: str | None = None
    duration: str | None = None
    is_enabled: bool | None = None
    secret_version: int = 0
    previous_secret_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Renamed:
    """Another name."""

    name: str


@dataclass(frozen=True, slots=True)
class ExpiryMoved:
    """Another end, and another duration where the caller gave one."""

    duration: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class EnabledSet:
    """Enabled or disabled: both secrets at once."""

    is_enabled: bool


@dataclass(frozen=True, slots=True)
class SecretReplaced:
    """A new secret is to be issued under `version`; the one before it ends at `previous_expires_at`."""

    version: int
    previous_version: int
    previous_expires_at: datetime


@dataclass(frozen=True, slots=True)
class PreviousEndMoved:
    """Another end of the overlap."""

    previous_version: int
    previous_expires_at: datetime


TokenChange = Renamed | ExpiryMoved | EnabledSet | SecretReplaced | PreviousEndMoved


@dataclass(frozen=True, slots=True)
class Sighting:
    """When and at which edge a token last authenticated."""

    seen_at: datetime
    edge_id: str


@dataclass(frozen=True, slots=True)
class LastSeenReport:
    """What is known of the last use of some tokens, and how well.

    `sightings` by client id, without those never seen. A use may be missing that is younger than `accuracy_seconds`
    (None: nothing is known). `coverage` is the share of edges, 0 to 1, that reported within that time.
    """

    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    accuracy_seconds: float | None = None
    coverage: float = 0.0


class LastSeenReader(Protocol):
    """Reads last uses from telemetry. It can write nothing, and nothing here can write what it reads."""

    async def last_seen(self, client_ids: Sequence[str]) -> LastSeenReport:
        """The last uses of these tokens. ForegateError(UNAVAILABLE) where telemetry cannot be read."""
        ...
