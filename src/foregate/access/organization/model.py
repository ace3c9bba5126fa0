"""The Zero Trust organization of an account and its signing keys, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class OrganizationDraft:
    """An organization as asked for. None: not said, and so left out of answers; what then holds stands beside it.

    `session_duration`: 24h. `denies_unmatched`: true, unlike at Cloudflare. `exempted_names` as given.
    """

    name: str
    auth_domain: str
    session_duration: str | None = None
    denies_unmatched: bool | None = None
    exempted_names: tuple[str, ...] | None = None
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Organization:
    """An account's organization."""

    account_id: str
    draft: OrganizationDraft
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewKey:
    """A signing key just made, its private half sealed under the key encryption key already."""

    kid: str
    jwk: dict[str, str]
    certificate: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as it lies in the database: `sealed` under the key encryption key.

    `retires_at` None: the current one. Another one is published until then.
    """

    kid: str
    account_id: str
    jwk: dict[str, str]
    certificate: str
    created_at: datetime
    retires_at: datetime | None
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySettings:
    """How often an account's key is replaced, and when it last was."""

    rotation_interval_days: int
    last_rotated_at: datetime
