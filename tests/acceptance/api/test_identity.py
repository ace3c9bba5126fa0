"""Who may call, what a caller learns about itself, and accounts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import cloudflare
import httpx
import pytest

from acceptance.api.control_plane import ControlPlane
from foregate.api.auth import Permission
from foregate.core.clock import utc_now
from foregate.core.secrets import API_TOKEN_PREFIX, EDGE_KEY_PREFIX, Secret, new_secret
from foregate.identity import edges_store, store

TOKENS = "/accounts/{account_id}/access/service_tokens"


def test_active_token_verifies(control_plane: ControlPlane) -> None:
    verified = control_plane.sdk().user.tokens.verify()
    assert verified is not None
    assert verified.status == "active"


def test_token_bound_to_an_account_verifies_there(control_plane: ControlPlane) -> None:
    token_id, secret = control_plane.api_token(account_id=control_plane.account_id)
    verified = control_plane.sdk(secret).accounts.tokens.verify(account_id=control_plane.account_id)
    assert verified is not None
    assert (verified.id, verified.status) == (token_id, "active")


def test_unknown_token_is_told_so(control_plane: ControlPlane) -> None:
    sdk = control_plane.sdk(new_secret(API_TOKEN_PREFIX))
    with pytest.raises(cloudflare.AuthenticationError) as refused:
        sdk.user.tokens.verify()
    assert [error.code for error in refused.value.errors] == [1000]
    with pytest.raises(cloudflare.AuthenticationError) as refused:
        list(sdk.zero_trust.access.service_tokens.list(account_id=control_plane.account_id))
    assert [error.code for error in refused.value.errors] == [10000]


def test_expired_token_is_refused_and_verifies_as_expired(control_plane: ControlPlane) -> None:
    _, secret = control_plane.api_token(expires_at=utc_now() - timedelta(seconds=1))
    verified = control_plane.sdk(secret).user.tokens.verify()
    assert verified is not None
    assert verified.status == "expired"
    with pytest.raises(cloudflare.AuthenticationError, match="expired"):
        control_plane.sdk(secret).accounts.get(account_id=control_plane.account_id)


def test_token_before_its_time_is_refused(control_plane: ControlPlane) -> None:
    _, secret = control_plane.api_token(not_before=utc_now() + timedelta(hours=1))
    with pytest.raises(cloudflare.AuthenticationError, match="disabled"):
        control_plane.sdk(secret).accounts.get(account_id=control_plane.account_id)


def test_disabled_token_is_refused_from_the_next_request_on(control_plane: ControlPlane) -> None:
    token_id, secret = control_plane.api_token()
    assert control_plane.request("GET", TOKENS, token=secret).status_code == 200
    with control_plane.database.database.write() as connection:
        assert store.set_api_token_enabled(connection, token_id, False)
    control_plane.credentials.forget()
    refused = control_plane.request("GET", TOKENS, token=secret)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, 10000)
    assert control_plane.request("GET", "/user/tokens/verify", token=secret).json()["result"]["status"] == "disabled"


def test_reader_may_read_and_not_write(control_plane: ControlPlane) -> None:
    _, secret = control_plane.api_token(permissions=frozenset({Permission.READ}))
    tokens = control_plane.sdk(secret).zero_trust.access.service_tokens
    list(tokens.list(account_id=control_plane.account_id))
    with pytest.raises(cloudflare.PermissionDeniedError, match="no write permission"):
        tokens.create(name="x", account_id=control_plane.account_id)


def test_token_of_one_account_sees_no_other(control_plane: ControlPlane) -> None:
    mine = control_plane.sdk().accounts.create(name="Mine", type="standard")
    _, secret = control_plane.api_token(account_id=mine.id)
    sdk = control_plane.sdk(secret)
    assert [account.id for account in sdk.accounts.list()] == [mine.id]
    assert [membership.account.id for membership in sdk.memberships.list() if membership.account] == [mine.id]
    with pytest.raises(cloudflare.PermissionDeniedError):
        sdk.accounts.get(account_id=control_plane.account_id)
    with pytest.raises(cloudflare.PermissionDeniedError):
        sdk.accounts.create(name="Another", type="standard")


def test_account_is_made_read_and_renamed(control_plane: ControlPlane) -> None:
    sdk = control_plane.sdk()
    made = sdk.accounts.create(name="Made", type="standard")
    assert made is not None
    renamed = sdk.accounts.update(account_id=made.id, id=made.id, name="Renamed", type="standard")
    found = sdk.accounts.get(account_id=made.id)
    assert renamed is not None and found is not None
    assert (found.id, found.name, renamed.name, found.type) == (made.id, "Renamed", "Renamed", "standard")
    assert [account.id for account in sdk.accounts.list(name="Renamed")] == [made.id]


def test_whole_account_may_be_sent_as_the_old_go_sdk_does(control_plane: ControlPlane) -> None:
    """It sends its zero date with every create and update, and settings where the caller has read them."""
    sent = {"name": "Old", "type": "standard", "created_on": "0001-01-01T00:00:00Z"}
    made = control_plane.request("POST", "/accounts", json=sent).json()["result"]
    changed = control_plane.request("PUT", f"/accounts/{made['id']}", json={**made, "name": "Older"})
    assert changed.json()["result"] == {**made, "name": "Older"}


def test_account_setting_with_an_effect_is_refused(control_plane: ControlPlane) -> None:
    for settings in ({"enforce_twofactor": True}, {"abuse_contact_email": "a@b.c"}):
        refused = control_plane.request("POST", "/accounts", json={"name": "No", "settings": settings})
        assert refused.status_code == 400


def test_unknown_account_is_not_found(control_plane: ControlPlane) -> None:
    with pytest.raises(cloudflare.NotFoundError):
        control_plane.sdk().accounts.get(account_id="0" * 32)
    with pytest.raises(cloudflare.NotFoundError):
        control_plane.sdk().zero_trust.access.service_tokens.create(name="x", account_id="0" * 32)


@pytest.mark.parametrize("account_id", ["x", "0" * 31, "0" * 33, "A" * 32, "%00"])
def test_malformed_account_id_is_refused(control_plane: ControlPlane, account_id: str) -> None:
    refused = control_plane.request("GET", TOKENS, account_id=account_id)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, 7003)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, 10000),
        ({"X-Auth-Email": "a@b.c"}, 400, 6003),
        ({"X-Auth-Key": "k" * 37}, 400, 6003),
        ({"X-Auth-Email": "a@b.c", "X-Auth-Key": "k" * 37}, 400, 6003),
        ({"Authorization": ""}, 400, 6003),
        ({"Authorization": "Bearer"}, 400, 6003),
        ({"Authorization": "Basic YTpi"}, 400, 6003),
        ({"Authorization": "Bearer a b"}, 400, 6003),
        ({"Authorization": "Bearer " + "x" * 600}, 400, 6003),
        ({"Authorization": "Bearer cfat_short"}, 401, 10000),
        ({"Authorization": "Bearer ****"}, 401, 10000),
    ],
)
def test_missing_or_malformed_credentials_get_a_sentence(
    control_plane: ControlPlane, headers: dict[str, str], status: int, code: int
) -> None:
    url = f"{control_plane.base_url}/accounts/{control_plane.account_id}/access/service_tokens"
    refused = httpx.get(url, headers=headers)
    error: dict[str, Any] = refused.json()["errors"][0]
    assert (refused.status_code, error["code"]) == (status, code)
    assert len(error["message"]) > 20


def test_sdk_with_an_email_beside_the_token_is_told_what_to_do(control_plane: ControlPlane) -> None:
    sdk = cloudflare.Cloudflare(
        api_token=control_plane.admin.reveal(), api_email="a@b.c", base_url=control_plane.base_url
    )
    with pytest.raises(cloudflare.BadRequestError, match="Unset CLOUDFLARE_EMAIL"):
        sdk.user.tokens.verify()


def test_credentials_are_asked_for_before_the_body_is_looked_at(control_plane: ControlPlane) -> None:
    url = f"{control_plane.base_url}/accounts/{control_plane.account_id}/access/service_tokens"
    assert httpx.post(url, content=b"not json").status_code == 401


def test_edge_key_opens_until_it_is_revoked(control_plane: ControlPlane) -> None:
    good = f"Edge {control_plane.edge_id}:{control_plane.edge_key.reveal()}"
    wrong = f"Edge {control_plane.edge_id}:{new_secret(EDGE_KEY_PREFIX).reveal()}"
    credentials = control_plane.credentials

    def ask(header: str) -> str | None:
        return asyncio.run(credentials.authenticate_edge(header))

    assert [ask(good), ask(wrong), ask(good)] == [control_plane.edge_id, None, control_plane.edge_id]
    with control_plane.database.database.write() as connection:
        assert edges_store.revoke_edge(connection, control_plane.edge_id, utc_now())
    credentials.forget()
    assert ask(good) is None


@pytest.mark.parametrize("header", ["", "Edge", "Edge :", "Bearer x", "Edge nobody:key", "Edge é:fgek_é"])
def test_malformed_edge_credentials_are_nobody(control_plane: ControlPlane, header: str) -> None:
    assert asyncio.run(control_plane.credentials.authenticate_edge(header)) is None


def test_secrets_never_show_in_a_representation(control_plane: ControlPlane) -> None:
    shown = repr((control_plane.admin, control_plane.edge_key, Secret("x")))
    assert shown == "(Secret(****), Secret(****), Secret(****))"
