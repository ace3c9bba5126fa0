"""Applications, policies and groups as answers show them. Pure.

Clients compare answers with what they wrote (Terraform's plan must be empty after an apply), so members that were not
given are left out rather than shown empty: `reference/clients.md` has the table.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from foregate.access.applications.model import Application, Conditions, Group, Policy
from foregate.core.clock import format_time

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
SelectorView = dict[str, dict[str, str]]

DEFAULT_SESSION = "24h"
# What Cloudflare sets where nothing is said, and Terraform's plan expects.
_APPLICATION_DEFAULTS = {"app_launcher_visible": True, "http_only_cookie_attribute": True}


class ConditionsView(TypedDict):
    """Any of include, all of require, none of exclude."""

    include: list[SelectorView]
    exclude: list[SelectorView]
    require: list[SelectorView]


class GroupView(ConditionsView):
    """A group."""

    id: str
    name: str
    created_at: Moment
    updated_at: Moment


class PolicyView(ConditionsView):
    """A policy. `precedence` stands in an application, `app_count` in the account."""

    id: str
    name: str
    decision: str
    reusable: bool
    created_at: Moment
    updated_at: Moment
    session_duration: NotRequired[str]
    precedence: NotRequired[int]
    app_count: NotRequired[int]
    approval_required: NotRequired[bool]
    isolation_required: NotRequired[bool]
    purpose_justification_required: NotRequired[bool]


class DestinationView(TypedDict):
    """What an application covers."""

    type: str
    uri: str


class ApplicationView(TypedDict):
    """An application. Flags without effect here are shown as they were given."""

    id: str
    aud: str
    name: str
    type: str
    domain: str | None
    destinations: list[DestinationView]
    self_hosted_domains: list[str]
    session_duration: str
    service_auth_401_redirect: bool
    app_launcher_visible: bool
    http_only_cookie_attribute: bool
    policies: list[PolicyView]
    created_at: Moment
    updated_at: Moment
    read_service_tokens_from_header: NotRequired[str]
    allow_authenticate_via_warp: NotRequired[bool]
    allow_iframe: NotRequired[bool]
    auto_redirect_to_identity: NotRequired[bool]
    eager_redirect_cookie_setting: NotRequired[bool]
    enable_binding_cookie: NotRequired[bool]
    options_preflight_bypass: NotRequired[bool]
    path_cookie_attribute: NotRequired[bool]
    skip_app_launcher_login_page: NotRequired[bool]
    skip_interstitial: NotRequired[bool]
    use_clientless_isolation_app_launcher_url: NotRequired[bool]


class DeletedView(TypedDict):
    """What is left of a deleted thing."""

    id: str


def group_view(group: Group) -> dict[str, Any]:
    """A GroupView."""
    return {
        "id": group.id,
        "name": group.draft.name,
        **_conditions(group.draft.conditions),
        "created_at": format_time(group.created_at),
        "updated_at": format_time(group.updated_at),
    }


def policy_view(policy: Policy, *, precedence: int | None = None, app_count: int | None = None) -> dict[str, Any]:
    """A PolicyView."""
    draft = policy.draft
    view: dict[str, Any] = {
        "id": policy.id,
        "name": draft.name,
        "decision": draft.decision.value,
        **_conditions(draft.conditions),
        **draft.kept,
        "reusable": policy.is_reusable,
        "created_at": format_time(policy.created_at),
        "updated_at": format_time(policy.updated_at),
    }
    if draft.session_duration is not None:
        view["session_duration"] = draft.session_duration
    if precedence is not None:
        view["precedence"] = precedence
    if app_count is not None:
        view["app_count"] = app_count
    return view


def application_view(application: Application, organization_session: str | None) -> dict[str, Any]:
    """An ApplicationView. Where the application says no session duration, the one in force is shown."""
    draft = application.draft
    view: dict[str, Any] = {
        "id": application.id,
        "aud": application.aud,
        "name": draft.name,
        "type": "self_hosted",
        "domain": draft.domain,
        "destinations": [{"type": "public", "uri": uri} for uri in draft.uris],
        "self_hosted_domains": list(draft.uris),
        "session_duration": draft.session_duration or organization_session or DEFAULT_SESSION,
        "service_auth_401_redirect": draft.answers_401,
        **_APPLICATION_DEFAULTS,
        **draft.kept,
        "policies": [policy_view(link.policy, precedence=link.precedence) for link in application.policies],
        "created_at": format_time(application.created_at),
        "updated_at": format_time(application.updated_at),
    }
    if draft.token_header:
        view["read_service_tokens_from_header"] = draft.token_header
    return view


def _conditions(conditions: Conditions) -> dict[str, list[dict[str, Any]]]:
    return conditions.to_json()
