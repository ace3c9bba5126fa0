"""The organization: what a write changes and what is refused; when a signing key is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from foregate.access.organization.bodies import KeysPut, OrganizationBody
from foregate.access.organization.edge_config import account_value
from foregate.access.organization.model import KeySettings, Organization, OrganizationDraft
from foregate.access.organization.rules import amend, days_until_rotation, next_rotation
from foregate.access.organization.views import organization_view
from foregate.api.parameters import parse_members
from foregate.core.errors import ForegateError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
FRESH = OrganizationDraft("Foregate", "auth.localhost")


def after(present: OrganizationDraft = FRESH, **members: Any) -> OrganizationDraft:
    """The organization after a PUT of `members`."""
    return amend(present, parse_members(OrganizationBody, members, noun="member"))


def test_left_out_members_stay_as_they_are() -> None:
    changed = after(deny_unmatched_requests=False, session_duration="12h", allow_authenticate_via_warp=False)
    renamed = after(changed, name="Acme")
    assert (renamed.name, renamed.auth_domain, renamed.session_duration) == ("Acme", "auth.localhost", "12h")
    assert (renamed.denies_unmatched, renamed.kept) == (False, {"allow_authenticate_via_warp": False})


def test_empty_members_that_go_sends_pass() -> None:
    assert after(login_design={"background_color": "", "logo_path": ""}, custom_pages={}, created_at=None) == FRESH


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"auth_domain": "https://auth.example.com"}, "/auth_domain"),
        ({"auth_domain": "*.example.com"}, "/auth_domain"),
        ({"auth_domain": ""}, "/auth_domain"),
        ({"session_duration": "14m"}, "/session_duration"),
        ({"session_duration": "745h"}, "/session_duration"),
        ({"session_duration": "soon"}, "/session_duration"),
        ({"strict_service_token_auth": False}, "/strict_service_token_auth"),
        ({"service_token_inactivity": {"enabled": True, "inactivity_threshold_days": 30, "action": "delete"}},
         "/service_token_inactivity"),
        ({"deny_unmatched_requests_exempted_zone_names": ["ok.example.com", "a/b"]},
         "/deny_unmatched_requests_exempted_zone_names/1"),
        ({"is_ui_read_only": True}, "/is_ui_read_only"),
        ({"warp_auth_session_duration": "1h"}, "/warp_auth_session_duration"),
        ({"user_seat_expiration_inactive_time": "730h"}, "/user_seat_expiration_inactive_time"),
        ({"mfa_required_for_all_apps": True}, "/mfa_required_for_all_apps"),
        ({"login_design": {"header_text": "x"}}, "/login_design"),
        ({"what": True}, "/what"),
    ],
)  # fmt: skip
def test_what_an_organization_must_not_be_is_refused_by_name(members: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ForegateError) as refused:
        after(**members)
    assert refused.value.pointer == pointer, refused.value.message


def test_answers_leave_out_what_nobody_said_and_tell_what_holds() -> None:
    view = organization_view(Organization("a" * 32, FRESH, NOW, NOW))
    assert view.keys() == {"name", "auth_domain", "strict_service_token_auth", "created_at", "updated_at", "foregate"}
    assert view["foregate"] == {"session_duration": "24h", "deny_unmatched_requests": True}
    said = after(deny_unmatched_requests=True, session_duration="24h", deny_unmatched_requests_exempted_zone_names=[])
    view = organization_view(Organization("a" * 32, said, NOW, NOW))
    assert (view["session_duration"], view["deny_unmatched_requests"]) == ("24h", True)
    assert view["deny_unmatched_requests_exempted_zone_names"] == []


def test_edges_are_told_to_deny_unless_the_organization_says_otherwise() -> None:
    assert account_value(FRESH).denies_unmatched_requests
    open_one = after(
        auth_domain="Auth.Example.com",
        deny_unmatched_requests=False,
        deny_unmatched_requests_exempted_zone_names=["WWW.example.com"],
    )
    value = account_value(open_one)
    assert (value.denies_unmatched_requests, value.auth_domain) == (False, "auth.example.com")
    assert value.exempted_hosts == ("www.example.com",)


@pytest.mark.parametrize(("since", "days"), [(0, 42), (1, 41), (41.5, 1), (42, 0), (100, 0)])
def test_days_until_the_next_rotation_are_counted_whole(since: float, days: int) -> None:
    settings = KeySettings(42, NOW)
    assert next_rotation(settings) == NOW + timedelta(days=42)
    assert days_until_rotation(settings, NOW + timedelta(days=since)) == days


@pytest.mark.parametrize("days", [20, 366, 42.5, "42", True])
def test_the_interval_is_a_whole_number_from_21_to_365(days: object) -> None:
    with pytest.raises(ForegateError, match="key_rotation_interval_days"):
        parse_members(KeysPut, {"key_rotation_interval_days": days}, noun="member")


def test_the_interval_may_come_as_a_float_that_is_whole() -> None:
    assert parse_members(KeysPut, {"key_rotation_interval_days": 30.0}, noun="member").key_rotation_interval_days == 30
