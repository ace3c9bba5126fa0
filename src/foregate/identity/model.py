"""The nouns of identity: accounts, API tokens, edges. Frozen values; none of them holds a secret."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from foregate.api.auth import Principal, TokenStatus


class AccountType(StrEnum):
    """A label, as Cloudflare's API has it."""

    STANDARD = "standard"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """What Foregate can say of an account's settings: users do not log in here, so no second factor is asked for."""

    enforce_twofactor: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """An account, as the API shows it."""

    id: str
    name: str
    type: AccountType
    settings: AccountSettings
    created_on: datetime


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token may learn about itself. `not_before` and `expires_on` are null where it has no such bound."""

    id: str
    status: TokenStatus
    not_before: datetime | None
    expires_on: datetime | None


@dataclass(frozen=True, slots=True)
class Caller:
    """`GET /user` for an API token, which belongs to no person: `email` is always null."""

    id: str
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None


@dataclass(frozen=True, slots=True)
class AccountName:
    """The account of a membership."""

    id: str
    name: str
    type: AccountType


@dataclass(frozen=True, slots=True)
class Membership:
    """One account that the caller may see."""

    id: str
    status: str
    account: AccountName
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiTokenFacts:
    """An API token as a list shows it. `account_id` null: for all accounts; a revoked one is `disabled`."""

    id: str
    name: str
    account_id: str | None
    permissions: tuple[str, ...]
    status: TokenStatus
    expires_on: datetime | None
    created_on: datetime

    def to_members(self) -> dict[str, Any]:
        """Its members by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class RevokedApiToken:
    """The id of an API token that has been ended."""

    id: str


@dataclass(frozen=True, slots=True)
class ApiTokenRow:
    """An API token as the store holds it, its digest beside it for the last comparison."""

    principal: Principal
    digest: bytes


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that may follow the feed. `sealing_key`: the public key of one that joined, None for the edge of a home,
    which has an edge key. `revoked_at` None: it may."""

    id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None = None
    group: str = ""
    sealing_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a join token is good for. `edge_id`: the edge that is to join again, None for a new one. `used_by`: SHA-256
    of the public key that joined with it."""

    id: str
    group: str
    edge_id: str | None
    expires_at: datetime
    used_by: bytes | None = None


@dataclass(frozen=True, slots=True)
class JoinTokenFacts:
    """A join token as the API shows it. `edge`: the name of the edge that is to join again."""

    id: str
    group: str
    edge: str | None
    expires_on: datetime


@dataclass(frozen=True, slots=True)
class EdgeFacts:
    """An edge as the calls that change one answer it."""

    id: str
    name: str
    group: str


@dataclass(frozen=True, slots=True)
class ExpelledEdge:
    """The edge that was expelled, and the accounts whose signing keys were replaced for it."""

    id: str
    name: str
    accounts_with_new_keys: tuple[str, ...]
