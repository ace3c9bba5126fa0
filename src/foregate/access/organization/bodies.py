"""What the calls about the organization and its keys take, as pydantic models: form alone, no decisions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from foregate.api.neutral import OnlyEmpty, OnlyFalse, ReadOnly
from foregate.api.parameters import BodyModel, WholeNumber
from foregate.api.texts import DisplayName


def _strict_only(value: Any) -> Any:
    if value not in (None, True):
        raise ValueError("Foregate judges service tokens strictly, as Cloudflare does for new organizations: use true")
    return value


Host = Annotated[str, Field(max_length=255)]
StrictOnly = Annotated[Any, BeforeValidator(_strict_only), WithJsonSchema({"enum": [None, True]})]

NEUTRAL = (
    "allow_authenticate_via_warp",
    "auto_redirect_to_identity",
    "is_ui_read_only",
    "mfa_required_for_all_apps",
    "warp_auth_non_browser_401",
)


class OrganizationBody(BodyModel):
    """PUT and PATCH of the organization: a left-out member stays as it is."""

    name: DisplayName | None = None
    auth_domain: Host | None = None
    session_duration: Annotated[str, Field(max_length=64)] | None = None
    deny_unmatched_requests: bool | None = None
    deny_unmatched_requests_exempted_zone_names: Annotated[list[Host], Field(max_length=1000)] | None = None
    strict_service_token_auth: StrictOnly = None
    service_token_inactivity: OnlyEmpty = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None
    foregate: ReadOnly = None
    allow_authenticate_via_warp: OnlyFalse = None
    auto_redirect_to_identity: OnlyFalse = None
    custom_pages: OnlyEmpty = None
    is_ui_read_only: OnlyFalse = None
    login_design: OnlyEmpty = None
    mfa_config: OnlyEmpty = None
    mfa_piv_key_requirements: OnlyEmpty = None
    mfa_required_for_all_apps: OnlyFalse = None
    ui_read_only_toggle_reason: OnlyEmpty = None
    user_seat_expiration_inactive_time: OnlyEmpty = None
    warp_auth_non_browser_401: OnlyFalse = None
    warp_auth_session_duration: OnlyEmpty = None


class OrganizationCreate(OrganizationBody):
    """POST of the organization."""

    name: DisplayName
    auth_domain: Host


class KeysPut(BodyModel):
    """PUT of the key settings."""

    key_rotation_interval_days: Annotated[WholeNumber, Field(ge=21, le=365)]
    days_until_next_rotation: ReadOnly = None
    last_key_rotation_at: ReadOnly = None
