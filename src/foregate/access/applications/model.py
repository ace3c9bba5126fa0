"""Applications, policies and groups as values. Nothing here decides, reads or writes.

A draft is what a write asks for, once it has been found right; the thing itself adds identity and times. Texts that
clients compare with what they wrote (durations, networks, domains) are kept as they were given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never


class PolicyDecision(StrEnum):
    """What a policy does with a request that it matches. Cloudflare's names; the dashboard calls the first
    'Service Auth'."""

    SERVICE_AUTH = "non_identity"
    BYPASS = "bypass"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A valid service token with this id (a UUID, not a client id)."""

    token_id: str


@dataclass(frozen=True, slots=True)
class AnyValidServiceToken:
    """Any valid service token of the account."""


@dataclass(frozen=True, slots=True)
class Everyone:
    """Every request."""


@dataclass(frozen=True, slots=True)
class Network:
    """A client address within this network, written as the client wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class GroupMember:
    """The rules of the group with this id."""

    group_id: str


Selector = ServiceToken | AnyValidServiceToken | Everyone | Network | GroupMember


@dataclass(frozen=True, slots=True)
class Conditions:
    """Any of `include`, all of `require` and none of `exclude` must hold."""

    include: tuple[Selector, ...]
    require: tuple[Selector, ...] = ()
    exclude: tuple[Selector, ...] = ()

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """All of them."""
        return self.include + self.require + self.exclude

    @property
    def token_ids(self) -> frozenset[str]:
        """The service tokens named here, not those of groups."""
        return frozenset(s.token_id for s in self.selectors if isinstance(s, ServiceToken))

    @property
    def group_ids(self) -> frozenset[str]:
        """The groups named here."""
        return frozenset(s.group_id for s in self.selectors if isinstance(s, GroupMember))

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """As the API writes it."""
        return {
            "include": [selector_to_json(s) for s in self.include],
            "exclude": [selector_to_json(s) for s in self.exclude],
            "require": [selector_to_json(s) for s in self.require],
        }


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """A policy as asked for. `session_duration` None: the application's. `kept` are neutral members to give back."""

    name: str
    decision: PolicyDecision
    conditions: Conditions
    session_duration: str | None
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy. `application_id` None: reusable, else it lives and dies with that application."""

    id: str
    account_id: str
    application_id: str | None
    draft: PolicyDraft
    created_at: datetime
    updated_at: datetime

    @property
    def is_reusable(self) -> bool:
        """Whether several applications may use it."""
        return self.application_id is None


@dataclass(frozen=True, slots=True)
class LinkedPolicy:
    """A policy at its place in an application; lower precedence is looked at first."""

    policy: Policy
    precedence: int


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """A group as asked for."""

    name: str
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Group:
    """A group of conditions that policies and other groups may name."""

    id: str
    account_id: str
    draft: GroupDraft
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ApplicationDraft:
    """An application as asked for. `domain` and `uris` as given, `patterns` the canonical form of both.

    `session_duration` None: the organization's. `token_header` as given, empty for none.
    """

    name: str
    domain: str | None
    uris: tuple[str, ...]
    patterns: tuple[str, ...]
    session_duration: str | None
    answers_401: bool
    token_header: str
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Application:
    """An application with its policies in order of precedence. `aud` never changes."""

    id: str
    account_id: str
    aud: str
    draft: ApplicationDraft
    policies: tuple[LinkedPolicy, ...]
    created_at: datetime
    updated_at: datetime


def selector_to_json(selector: Selector) -> dict[str, Any]:
    """One item of `include`, `exclude` or `require` (reference page, section 2.5)."""
    match selector:
        case ServiceToken(token_id):
            return {"service_token": {"token_id": token_id}}
        case AnyValidServiceToken():
            return {"any_valid_service_token": {}}
        case Everyone():
            return {"everyone": {}}
        case Network(text):
            return {"ip": {"ip": text}}
        case GroupMember(group_id):
            return {"group": {"id": group_id}}
        case _:
            assert_never(selector)


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, in which account, when."""

    actor: str
    account_id: str
    at: datetime
