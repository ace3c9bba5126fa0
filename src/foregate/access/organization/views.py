"""The organization and its key settings as answers show them. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from foregate.access.organization.model import KeySettings, Organization
from foregate.access.organization.rules import days_until_rotation
from foregate.core.clock import format_time

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class InForce(TypedDict):
    """Foregate's own member: what holds now, said or not."""

    session_duration: str
    deny_unmatched_requests: bool


class OrganizationView(TypedDict):
    """An organization. Members that nobody has set are left out, as Terraform's plan must be empty after an apply."""

    name: str
    auth_domain: str
    strict_service_token_auth: bool
    created_at: Moment
    updated_at: Moment
    foregate: InForce
    session_duration: NotRequired[str]
    deny_unmatched_requests: NotRequired[bool]
    deny_unmatched_requests_exempted_zone_names: NotRequired[list[str]]
    allow_authenticate_via_warp: NotRequired[bool]
    auto_redirect_to_identity: NotRequired[bool]
    is_ui_read_only: NotRequired[bool]
    mfa_required_for_all_apps: NotRequired[bool]
    warp_auth_non_browser_401: NotRequired[bool]


class KeysView(TypedDict):
    """The key settings. All whole numbers: Go's older SDK takes nothing else."""

    key_rotation_interval_days: int
    days_until_next_rotation: int
    last_key_rotation_at: Moment


def organization_view(organization: Organization) -> dict[str, Any]:
    """An OrganizationView."""
    draft = organization.draft
    said = {
        "session_duration": draft.session_duration,
        "deny_unmatched_requests": draft.denies_unmatched,
        "deny_unmatched_requests_exempted_zone_names": (
            None if draft.exempted_names is None else list(draft.exempted_names)
        ),
    }
    return {
        "name": draft.name,
        "auth_domain": draft.auth_domain,
        "strict_service_token_auth": True,
        **{name: value for name, value in said.items() if value is not None},
        **draft.kept,
        "created_at": format_time(organization.created_at),
        "updated_at": format_time(organization.updated_at),
        "foregate": {
            "session_duration": draft.session_duration or "24h",
            "deny_unmatched_requests": draft.denies_unmatched is not False,
        },
    }


def keys_view(settings: KeySettings, now: datetime) -> dict[str, Any]:
    """A KeysView."""
    return {
        "key_rotation_interval_days": settings.rotation_interval_days,
        "days_until_next_rotation": days_until_rotation(settings, now),
        "last_key_rotation_at": format_time(settings.last_rotated_at),
    }
