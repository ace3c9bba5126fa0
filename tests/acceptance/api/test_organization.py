"""The organization and its signing keys, driven with the official Python SDK and by plain HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from cloudflare import Cloudflare
from sqlalchemy import text

from acceptance.api.control_plane import AUTH_DOMAIN, ControlPlane
from foregate.access.organization.edge_config import compile_account, keys_compiler

ORGANIZATION = "/accounts/{account_id}/access/organizations"
KEYS = "/accounts/{account_id}/access/keys"


@pytest.fixture
def sdk(control_plane: ControlPlane) -> Cloudflare:
    return control_plane.sdk()


@pytest.fixture
def account(sdk: Cloudflare) -> str:
    """An account of the test's own: these settings are for all of an account."""
    made = sdk.accounts.create(name="Organization")
    assert made is not None
    return made.id


def record_of(control_plane: ControlPlane, account: str) -> dict[str, Any] | None:
    """What an edge would be told of the account now."""
    with control_plane.database.database.read() as connection:
        return compile_account(connection, account)


def kids_of(control_plane: ControlPlane, account: str) -> list[str]:
    """The keys that an edge would be told of now."""
    with control_plane.database.database.read() as connection:
        value = keys_compiler(control_plane.master_key)(connection, account)
    return [key["kid"] for key in value["keys"]] if value else []


def test_the_first_account_has_the_auth_domain_of_the_settings_and_denies_what_no_application_covers(
    control_plane: ControlPlane, sdk: Cloudflare
) -> None:
    found = sdk.zero_trust.organizations.list(account_id=control_plane.account_id)
    assert found is not None
    assert (found.auth_domain, found.strict_service_token_auth) == (AUTH_DOMAIN, True)
    assert record_of(control_plane, control_plane.account_id) == {
        "auth_domain": AUTH_DOMAIN,
        "deny_unmatched_requests": True,
        "exempted_hosts": [],
    }


def test_another_account_has_an_auth_domain_and_a_key_of_its_own(
    control_plane: ControlPlane, sdk: Cloudflare, account: str
) -> None:
    found = sdk.zero_trust.organizations.list(account_id=account)
    assert found is not None and found.auth_domain == f"{account[:8]}.{AUTH_DOMAIN}"
    assert len(kids_of(control_plane, account)) == 1
    assert kids_of(control_plane, account) != kids_of(control_plane, control_plane.account_id)


def test_put_and_patch_change_what_they_name(control_plane: ControlPlane, sdk: Cloudflare, account: str) -> None:
    put = sdk.zero_trust.organizations.update(
        account_id=account,
        name="Acme",
        auth_domain="Auth.acme.example",
        session_duration="12h",
        deny_unmatched_requests=False,
        deny_unmatched_requests_exempted_zone_names=["www.acme.example"],
        strict_service_token_auth=True,
        auto_redirect_to_identity=False,
        is_ui_read_only=False,
    )
    assert put is not None
    assert (put.name, put.auth_domain, put.session_duration) == ("Acme", "Auth.acme.example", "12h")
    assert (put.deny_unmatched_requests, put.auto_redirect_to_identity) == (False, False)
    patched = control_plane.request("PATCH", ORGANIZATION, account_id=account, json={"name": "Acme 2"})
    assert patched.status_code == 200
    assert int(patched.headers["Foregate-Change"]) in control_plane.committed
    assert patched.json()["result"]["session_duration"] == "12h"
    assert record_of(control_plane, account) == {
        "auth_domain": "auth.acme.example",
        "deny_unmatched_requests": False,
        "exempted_hosts": ["www.acme.example"],
    }


def test_answers_invent_nothing(control_plane: ControlPlane, account: str) -> None:
    result = control_plane.request("GET", ORGANIZATION, account_id=account).json()["result"]
    assert {"warp_auth_session_duration", "user_seat_expiration_inactive_time", "login_design"}.isdisjoint(result)


def test_an_answer_may_be_sent_back_as_it_came(control_plane: ControlPlane, account: str) -> None:
    found = control_plane.request("GET", ORGANIZATION, account_id=account).json()["result"]
    sent = control_plane.request("PUT", ORGANIZATION, account_id=account, json=found)
    assert (sent.status_code, sent.json()["result"] | {"updated_at": ""}) == (200, found | {"updated_at": ""})


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"strict_service_token_auth": False}, "strict_service_token_auth"),
        (
            {"service_token_inactivity": {"enabled": True, "inactivity_threshold_days": 30, "action": "disable"}},
            "service_token_inactivity",
        ),
        ({"session_duration": "5m"}, "15m"),
        ({"warp_auth_session_duration": "24h"}, "warp_auth_session_duration"),
        ({"auth_domain": "x y"}, "host name"),
        ({"auth_domain": AUTH_DOMAIN.upper()}, "another account's"),
    ],
)
def test_what_is_not_supported_is_refused_by_name_and_changes_nothing(
    control_plane: ControlPlane, account: str, members: dict[str, Any], name: str
) -> None:
    before = record_of(control_plane, account)
    answer = control_plane.request("PUT", ORGANIZATION, account_id=account, json={"name": "changed", **members})
    error = answer.json()["errors"][0]
    assert (answer.status_code, error["code"]) == (400, 12062)
    assert name in error["message"]
    result = control_plane.request("GET", ORGANIZATION, account_id=account).json()["result"]
    assert (result["name"], record_of(control_plane, account)) == ("Foregate", before)


def test_an_organization_is_created_once(control_plane: ControlPlane, account: str) -> None:
    body = {"name": "Again", "auth_domain": "again.example.com"}
    answer = control_plane.request("POST", ORGANIZATION, account_id=account, json=body)
    assert 400 <= answer.status_code < 500 and answer.headers["x-should-retry"] == "false"


def test_an_account_without_an_organization_gets_one_with_a_key_and_takes_no_application_before(
    control_plane: ControlPlane,
) -> None:
    account = "c" * 32
    with control_plane.database.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO accounts (id, name, type, settings, created_at, updated_at) "
                "VALUES (:id, 'c', 'standard', '{}', 1, 1)"
            ),
            {"id": account},
        )
    app = {"type": "self_hosted", "domain": "bare.example.com"}
    assert control_plane.request("GET", ORGANIZATION, account_id=account).status_code == 404
    assert control_plane.request("GET", KEYS, account_id=account).status_code == 404
    path = f"/accounts/{account}/access/apps"
    assert "organization" in control_plane.request("POST", path, json=app).json()["errors"][0]["message"]
    body = {"name": "Late", "auth_domain": "late.example.com", "session_duration": "1h"}
    made = control_plane.request("POST", ORGANIZATION, account_id=account, json=body)
    assert (made.status_code, made.json()["result"]["session_duration"]) == (201, "1h")
    assert len(kids_of(control_plane, account)) == 1
    assert control_plane.request("POST", path, json=app).status_code == 201


def test_key_settings_are_whole_numbers_and_a_date(control_plane: ControlPlane, sdk: Cloudflare, account: str) -> None:
    result = control_plane.request("GET", KEYS, account_id=account).json()["result"]
    assert (result["key_rotation_interval_days"], result["days_until_next_rotation"]) == (42, 42)
    changed = sdk.zero_trust.access.keys.update(account_id=account, key_rotation_interval_days=30)
    assert changed is not None and changed.key_rotation_interval_days == 30
    got: Any = sdk.zero_trust.access.keys.get(account_id=account)
    assert (got.key_rotation_interval_days, got.days_until_next_rotation) == (30, 30)
    for days in (20, 366, 30.5):
        answer = control_plane.request("PUT", KEYS, account_id=account, json={"key_rotation_interval_days": days})
        assert answer.status_code == 400


def test_rotate_publishes_the_new_key_before_the_old_one(
    control_plane: ControlPlane, sdk: Cloudflare, account: str
) -> None:
    (first,) = kids_of(control_plane, account)
    rotated: Any = sdk.zero_trust.access.keys.rotate(account_id=account)
    second, still = kids_of(control_plane, account)
    assert still == first != second
    assert rotated.days_until_next_rotation == rotated.key_rotation_interval_days


def test_a_repeated_rotate_does_not_rotate_twice(control_plane: ControlPlane, account: str) -> None:
    key = {"Idempotency-Key": f"rotate {account}"}
    answers = [
        control_plane.request("POST", f"{KEYS}/rotate", account_id=account, headers=key).json() for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert len(kids_of(control_plane, account)) == 2


def test_private_halves_are_in_no_answer(control_plane: ControlPlane, account: str) -> None:
    control_plane.request("POST", f"{KEYS}/rotate", account_id=account)
    for path in (ORGANIZATION, KEYS):
        text = control_plane.request("GET", path, account_id=account).text
        assert "PRIVATE" not in text and "private" not in text
