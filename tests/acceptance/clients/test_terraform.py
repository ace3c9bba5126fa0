"""What Terraform's provider sends, in its order, and what it needs back so that the next plan is empty.

No Terraform runs here: the requests are the recorded ones (versions repeated on every PUT, whole bodies, GET after
each write). Source: the page of real clients.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.api import Api, errors_of
from harness.origin import Origin
from harness.product import Foregate
from harness.things import Token, allow, create_app, create_token, unique, until_status

TOKENS = "/access/service_tokens"


def moment(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")


def declared(name: str, version: int = 1, **fields: Any) -> dict[str, Any]:
    """A token as a configuration declares it; every write carries all of it."""
    return {"name": name, "duration": "8760h", "client_secret_version": version, **fields}


@pytest.fixture
def name() -> str:
    return unique("terraform")


def test_create_then_refresh_leaves_an_empty_plan(api: Api, name: str) -> None:
    made = api.result("POST", TOKENS, declared(name))
    read = api.result("GET", f"{TOKENS}/{made['id']}")
    assert "client_secret" not in read
    for field in ("id", "name", "duration", "client_id", "expires_at", "client_secret_version"):
        assert read[field] == made[field]
    assert read["duration"] == "8760h"


@pytest.mark.parametrize("duration", ["8760h", "8760h0m0s", "2h45m", "525600m", "forever"])
def test_duration_comes_back_as_written(api: Api, name: str, duration: str) -> None:
    made = api.result("POST", TOKENS, {**declared(name), "duration": duration})
    assert made["duration"] == duration
    assert api.result("GET", f"{TOKENS}/{made['id']}")["duration"] == duration


def test_put_that_repeats_the_version_does_not_rotate(foregate: Foregate, origin: Origin, api: Api, name: str) -> None:
    made = api.result("POST", TOKENS, declared(name))
    token = Token(made["id"], made["client_id"], made["client_secret"])
    app = create_app(foregate, origin.service, [allow(token)])
    until_status(foregate, app.host, token, 200)
    changed = api.result("PUT", f"{TOKENS}/{token.id}", declared(f"{name} renamed"))
    assert changed.get("client_secret") in (None, "")
    assert changed["client_secret_version"] == 1
    assert changed["name"] == f"{name} renamed"
    assert foregate.get(app.host, headers=token.headers).status == 200


def test_rotation_is_a_put_with_the_next_version_that_answers_with_the_secret(
    foregate: Foregate, origin: Origin, api: Api, name: str
) -> None:
    made = api.result("POST", TOKENS, declared(name))
    old = Token(made["id"], made["client_id"], made["client_secret"])
    app = create_app(foregate, origin.service, [allow(old)])
    until_status(foregate, app.host, old, 200)

    soon, later = moment(hours=1), moment(hours=5)
    body = declared(name, 2, previous_client_secret_expires_at=soon)
    rotated = api.result("PUT", f"{TOKENS}/{old.id}", body)
    assert rotated["client_secret_version"] == 2
    new = old.with_secret(rotated["client_secret"])
    until_status(foregate, app.host, new, 200)
    assert foregate.get(app.host, headers=old.headers).status == 200

    moved = api.result("PUT", f"{TOKENS}/{old.id}", {**body, "previous_client_secret_expires_at": later})
    assert not moved.get("client_secret"), "moving the date must not rotate"
    read = api.result("GET", f"{TOKENS}/{old.id}")
    assert datetime.fromisoformat(read["previous_client_secret_expires_at"]) == datetime.fromisoformat(later)
    assert read["client_secret_version"] == 2
    assert foregate.get(app.host, headers=old.headers).status == 200
    assert foregate.get(app.host, headers=new.headers).status == 200

    api.result("PUT", f"{TOKENS}/{old.id}", {**body, "previous_client_secret_expires_at": moment(hours=-1)})
    until_status(foregate, app.host, old, 401)
    assert foregate.get(app.host, headers=new.headers).status == 200


@pytest.mark.parametrize("rotations", [0, 1], ids=["never rotated", "rotated before the import"])
def test_put_with_version_1_after_an_import_does_not_rotate(
    foregate: Foregate, origin: Origin, api: Api, name: str, rotations: int
) -> None:
    token = create_token(api, name=name)
    for _ in range(rotations):
        token = token.with_secret(api.result("POST", f"{TOKENS}/{token.id}/rotate", {})["client_secret"])
    app = create_app(foregate, origin.service, [allow(token)])
    until_status(foregate, app.host, token, 200)
    answer = api.account("PUT", f"{TOKENS}/{token.id}", declared(name, 1))
    if rotations:
        # The version cannot go back; the sentence says which one to declare.
        assert answer.status == 400
        assert "send 2 to keep the secret" in answer.json()["errors"][0]["message"]
    else:
        assert answer.status == 200
        assert not answer.json()["result"].get("client_secret")
    assert api.result("GET", f"{TOKENS}/{token.id}")["client_secret_version"] == rotations + 1
    assert foregate.get(app.host, headers=token.headers).status == 200


def test_creation_with_a_version_and_a_date_gives_both_back(api: Api, name: str) -> None:
    date = moment(hours=1)
    made = api.result("POST", TOKENS, declared(name, 3, previous_client_secret_expires_at=date))
    read = api.result("GET", f"{TOKENS}/{made['id']}")
    assert read["client_secret_version"] == 3
    assert datetime.fromisoformat(read["previous_client_secret_expires_at"]) == datetime.fromisoformat(date)


def test_removed_token_is_404_and_so_made_again(api: Api, name: str) -> None:
    token = create_token(api, name=name)
    api.result("DELETE", f"{TOKENS}/{token.id}")
    assert api.account("GET", f"{TOKENS}/{token.id}").status == 404


def app_body(host: str, policy_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "self_hosted",
        "name": host,
        "domain": host,
        "session_duration": "24h",
        "app_launcher_visible": True,
        "http_only_cookie_attribute": True,
        "policies": [{"id": policy_id, "precedence": 1}],
        **fields,
    }


def test_policy_and_app_leave_an_empty_plan(api: Api, name: str) -> None:
    token = create_token(api)
    body = {
        "name": name,
        "decision": "non_identity",
        "include": [{"any_valid_service_token": {}}, {"service_token": {"token_id": token.id}}],
        "session_duration": "24h",
    }
    policy = api.result("POST", "/access/policies", body)
    read = api.result("GET", f"/access/policies/{policy['id']}")
    assert {member: read[member] for member in body} == body
    assert not read.get("purpose_justification_prompt")
    assert read.get("purpose_justification_prompt") != ""

    app = api.result(
        "POST", "/access/apps", app_body(f"{name}.localhost", policy["id"], service_auth_401_redirect=True)
    )
    read = api.result("GET", f"/access/apps/{app['id']}")
    assert read["aud"] == app["aud"]
    assert read["domain"] == f"{name}.localhost"
    assert read["session_duration"] == "24h"
    assert read["http_only_cookie_attribute"] is True
    assert read["app_launcher_visible"] is True
    assert read["service_auth_401_redirect"] is True
    assert read["self_hosted_domains"] == [f"{name}.localhost"]
    assert [(link["id"], link["precedence"]) for link in read["policies"]] == [(policy["id"], 1)]
    assert read["destinations"] == [{"type": "public", "uri": f"{name}.localhost"}]
    for member in ("logo_url", "custom_deny_url", "same_site_cookie_attribute", "read_service_tokens_from_header"):
        assert read.get(member) is None, f"{member} must not be invented"
    assert read.get("allow_authenticate_via_warp") is None


def test_values_set_once_come_back_as_set(api: Api, name: str) -> None:
    policy = api.result("POST", "/access/policies", {**allow(), "name": name})
    body = app_body(
        f"{name}.localhost",
        policy["id"],
        session_duration="30m",
        service_auth_401_redirect=False,
        read_service_tokens_from_header="Authorization",
        allow_authenticate_via_warp=False,
    )
    app = api.result("POST", "/access/apps", body)
    read = api.result("GET", f"/access/apps/{app['id']}")
    assert read["session_duration"] == "30m"
    assert read["service_auth_401_redirect"] is False
    assert read["read_service_tokens_from_header"] == "Authorization"
    assert read["allow_authenticate_via_warp"] is False


def test_keys_and_organization_leave_an_empty_plan(api: Api) -> None:
    api.result("PUT", "/access/keys", {"key_rotation_interval_days": 60})
    assert api.result("GET", "/access/keys")["key_rotation_interval_days"] == 60
    organization = api.result("GET", "/access/organizations")
    body = {"name": "As set", "auth_domain": organization["auth_domain"], "session_duration": "12h"}
    api.result("PUT", "/access/organizations", body)
    read = api.result("GET", "/access/organizations")
    assert {member: read[member] for member in body} == body
    for member in ("warp_auth_session_duration", "user_seat_expiration_inactive_time"):
        assert read.get(member) is None
    api.result("PUT", "/access/organizations", {**body, "session_duration": "24h"})


def test_permanent_refusals_are_never_retried(api: Api, name: str) -> None:
    """A 409 or 5xx would hang an apply for minutes."""
    token = create_token(api)
    policy = api.result("POST", "/access/policies", {**allow(token), "name": name})
    api.result("POST", "/access/apps", app_body(f"{name}.localhost", policy["id"]))
    refusals = {
        "the same host again": api.account("POST", "/access/apps", app_body(f"{name}.localhost", policy["id"])),
        "token in use": api.account("DELETE", f"{TOKENS}/{token.id}"),
        "policy in use": api.account("DELETE", f"/access/policies/{policy['id']}"),
        "bad duration": api.account("POST", TOKENS, {"name": name, "duration": "1y"}),
        "unknown token": api.account("POST", "/access/policies", allow(Token(str(policy["id"]), "", ""))),
    }
    for what, answer in refusals.items():
        assert answer.status in (400, 403, 404, 422), what
        assert errors_of(answer), what
    assert errors_of(refusals["the same host again"]) == [11010]
    assert errors_of(refusals["token in use"]) == [12139]
    assert errors_of(refusals["unknown token"]) == [12130]
