"""Applications with their policies, driven with the official Python SDK against the real application."""

from __future__ import annotations

import itertools
from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare
from sqlalchemy import text

from acceptance.api.control_plane import ControlPlane
from foregate.access.applications.edge_config import compile_record

APPS = "/accounts/{account_id}/access/apps"
_numbers = itertools.count(1)


@pytest.fixture
def sdk(control_plane: ControlPlane) -> Cloudflare:
    return control_plane.sdk()


@pytest.fixture
def account(control_plane: ControlPlane) -> dict[str, str]:
    return {"account_id": control_plane.account_id}


def host() -> str:
    """A host that no other test has."""
    return f"app-{next(_numbers)}.example.com"


def record_of(control_plane: ControlPlane, application_id: str) -> dict[str, Any] | None:
    """What an edge would be told of the application now."""
    with control_plane.database.database.read() as connection:
        return compile_record(connection, application_id)


def service_auth(**members: Any) -> dict[str, Any]:
    """An inline Service Auth policy for any valid token."""
    include = [{"any_valid_service_token": {}}]
    return {"name": "machines", "decision": "non_identity", "include": include, **members}


def create(control_plane: ControlPlane, **members: Any) -> dict[str, Any]:
    """A new application by plain HTTP; the answer's result."""
    body = {"type": "self_hosted", "domain": host(), "policies": [service_auth()], **members}
    answer = control_plane.request("POST", APPS, json=body)
    assert answer.status_code == 201, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def test_application_with_an_inline_policy_reaches_the_edges(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    token = sdk.zero_trust.access.service_tokens.create(name="ci", **account)
    made: Any = sdk.zero_trust.access.applications.create(
        type="self_hosted",
        name="Echo",
        domain="Echo.Example.com/admin/",
        policies=[
            {  # type: ignore[list-item]
                "name": "ci",
                "decision": "non_identity",
                "include": [{"service_token": {"token_id": token.id}}],
                "session_duration": "30m",
            }
        ],
        **account,
    )
    record = record_of(control_plane, made.id)
    assert record is not None
    assert (record["aud"], record["patterns"], record["domain"]) == (
        made.aud,
        ["echo.example.com/admin"],
        "echo.example.com/admin",
    )
    assert [(one["decision"], one["session_seconds"], one["include"]) for one in record["policies"]] == [
        ("non_identity", 1800, [{"token": token.client_id}])
    ]
    assert (made.domain, made.name, len(made.aud)) == ("Echo.Example.com/admin/", "Echo", 64)


def test_creation_answers_201_with_the_change_and_what_terraform_needs(control_plane: ControlPlane) -> None:
    domain = host()
    body = {
        "type": "self_hosted",
        "name": "app",
        "domain": domain,
        "session_duration": "24h",
        "http_only_cookie_attribute": True,
        "app_launcher_visible": True,
        "service_auth_401_redirect": True,
        "logo_url": "",
        "policies": [service_auth()],
    }
    answer = control_plane.request("POST", APPS, json=body)
    result = answer.json()["result"]
    assert answer.status_code == 201
    assert int(answer.headers["Foregate-Change"]) in control_plane.committed
    for name in ("type", "name", "domain", "session_duration", "http_only_cookie_attribute", "app_launcher_visible",
                 "service_auth_401_redirect"):  # fmt: skip
        assert result[name] == body[name]
    assert result["destinations"] == [{"type": "public", "uri": domain}]
    assert result["self_hosted_domains"] == [domain]
    assert (result["policies"][0]["precedence"], result["policies"][0]["name"]) == (1, "machines")
    absent = {"logo_url", "custom_deny_url", "same_site_cookie_attribute", "read_service_tokens_from_header"}
    assert absent.isdisjoint(result) and "allow_authenticate_via_warp" not in result
    got = control_plane.request("GET", f"{APPS}/{result['id']}").json()["result"]
    assert got == result


def test_an_application_with_destinations_only_has_no_domain(control_plane: ControlPlane) -> None:
    uris = [host(), f"*.{host()}/x/*"]
    made = create(control_plane, domain=None, destinations=[{"type": "public", "uri": uri} for uri in uris])
    record = record_of(control_plane, made["id"])
    assert made["domain"] is None and made["self_hosted_domains"] == uris and made["name"] == uris[0]
    assert record is not None and record["patterns"] == uris


def test_two_applications_on_one_host_and_path_are_refused_and_not_retried(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    made = create(control_plane, name="first")
    same = f"{made['domain'].upper()}:443/"
    answer = control_plane.request("POST", APPS, json={"type": "self_hosted", "domain": same})
    error = answer.json()["errors"][0]
    assert (answer.status_code, error["code"], answer.headers["x-should-retry"]) == (400, 11010, "false")
    assert "'first'" in error["message"]
    other = create(control_plane)
    with pytest.raises(cloudflare.BadRequestError):
        sdk.zero_trust.access.applications.update(other["id"], type="self_hosted", domain=made["domain"], **account)
    record = record_of(control_plane, other["id"])
    assert record is not None and record["patterns"] == [other["domain"]]


def test_a_path_below_another_application_is_an_application_of_its_own(control_plane: ControlPlane) -> None:
    made = create(control_plane)
    below = create(control_plane, domain=f"{made['domain']}/admin")
    assert below["id"] != made["id"]


def test_put_replaces_everything_but_left_out_policies(control_plane: ControlPlane) -> None:
    made = create(control_plane, service_auth_401_redirect=True, session_duration="1h", name="before")
    path, domain = f"{APPS}/{made['id']}", host()
    answer = control_plane.request("PUT", path, json={"type": "self_hosted", "domain": domain, "policies": None})
    result = answer.json()["result"]
    assert answer.status_code == 200
    assert (result["name"], result["domain"], result["session_duration"]) == (domain, domain, "24h")
    assert result["service_auth_401_redirect"] is False
    assert result["policies"] == made["policies"]
    assert (result["aud"], result["created_at"]) == (made["aud"], made["created_at"])
    record = record_of(control_plane, made["id"])
    assert record is not None and record["patterns"] == [domain]
    emptied = control_plane.request("PUT", path, json={"type": "self_hosted", "domain": domain, "policies": []})
    assert emptied.json()["result"]["policies"] == []


def test_an_answer_sent_back_as_it_came_changes_nothing(control_plane: ControlPlane) -> None:
    made = create(control_plane, policies=[service_auth(precedence=4), service_auth(name="second", decision="bypass")])
    answer = control_plane.request("PUT", f"{APPS}/{made['id']}", json=made)
    result = answer.json()["result"]
    assert answer.status_code == 200, answer.text
    assert {**result, "updated_at": ""} == {**made, "updated_at": ""}


def test_reusable_policies_are_linked_by_id_in_the_order_of_precedence(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    first, second = (
        sdk.zero_trust.access.policies.create(
            name=name, decision="non_identity", include=[{"everyone": {}}], **account
        ).id
        for name in ("first", "second")
    )
    made = create(control_plane, policies=[{"id": second, "precedence": 2}, {"id": first, "precedence": 1}])
    assert [(one["id"], one["precedence"]) for one in made["policies"]] == [(first, 1), (second, 2)]
    bare = create(control_plane, policies=[second, first])
    assert [(one["id"], one["precedence"]) for one in bare["policies"]] == [(second, 1), (first, 2)]
    go = create(control_plane, policies=[{"id": second, "precedence": 0}, {"id": first, "precedence": 0}])
    assert [one["id"] for one in go["policies"]] == [second, first]
    assert sdk.zero_trust.access.policies.get(first or "", **account).app_count == 3


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ([{**service_auth(), "precedence": 1}, {**service_auth(), "precedence": 1}], "must be unique"),
        ([service_auth(include=[{"service_token": {"token_id": "f174e90a-fafe-4643-bbbc-4a0ed4fc8415"}}])],
         "service token not found"),
        ([service_auth(include=[{"service_token": {"token_id": "88bf3b6d86161464f6509f7219099e57.access"}}])],
         "client id"),
        ([service_auth(include=[{"group": {"id": "f174e90a-fafe-4643-bbbc-4a0ed4fc8415"}}])], "group not found"),
        ([service_auth(decision="allow")], "non_identity"),
        (["f174e90a-fafe-4643-bbbc-4a0ed4fc8415"], "policy not found"),
        ([service_auth(include=[{"email": {"email": "a@b.c"}}])], "email"),
    ],
)  # fmt: skip
def test_bad_policies_get_12130_with_a_sentence_and_leave_no_application(
    control_plane: ControlPlane, policies: list[Any], words: str
) -> None:
    domain = host()
    answer = control_plane.request("POST", APPS, json={"type": "self_hosted", "domain": domain, "policies": policies})
    error = answer.json()["errors"][0]
    assert (answer.status_code, error["code"]) == (400, 12130)
    assert words in error["message"]
    listed = control_plane.request("GET", f"{APPS}?domain={domain}").json()
    assert listed["result"] == []
    create(control_plane, domain=domain)


def test_401_cannot_be_asked_for_without_a_service_auth_policy(control_plane: ControlPlane) -> None:
    body = {"type": "self_hosted", "domain": host(), "service_auth_401_redirect": True}
    answer = control_plane.request("POST", APPS, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, 12130)
    made = create(control_plane, service_auth_401_redirect=True)
    record = record_of(control_plane, made["id"])
    assert record is not None and record["no_credentials_status"] == 401
    policy = f"{APPS}/{made['id']}/policies/{made['policies'][0]['id']}"
    assert control_plane.request("DELETE", policy).status_code == 400
    assert control_plane.request("PUT", policy, json=service_auth(decision="bypass")).status_code == 400
    assert record_of(control_plane, made["id"]) == record


def test_the_header_for_both_credentials_is_given_back_as_written(control_plane: ControlPlane) -> None:
    made = create(control_plane, read_service_tokens_from_header="Authorization")
    record = record_of(control_plane, made["id"])
    assert made["read_service_tokens_from_header"] == "Authorization"
    assert record is not None and record["token_header"] == "authorization"


def test_delete_answers_202_with_the_id_and_tells_the_edges(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    made = create(control_plane)
    answer = control_plane.request("DELETE", f"{APPS}/{made['id']}")
    assert (answer.status_code, answer.json()["result"]) == (202, {"id": made["id"]})
    assert int(answer.headers["Foregate-Change"]) in control_plane.committed
    assert record_of(control_plane, made["id"]) is None
    with pytest.raises(cloudflare.NotFoundError):
        sdk.zero_trust.access.applications.get(made["id"], **account)
    again = create(control_plane, domain=made["domain"])
    assert again["aud"] != made["aud"]


def test_delete_frees_the_tokens_of_the_applications_own_policies(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    token = sdk.zero_trust.access.service_tokens.create(name="ci", **account)
    include = [{"service_token": {"token_id": token.id}}]
    made = create(control_plane, policies=[service_auth(include=include)])
    with pytest.raises(cloudflare.BadRequestError) as refused:
        sdk.zero_trust.access.service_tokens.delete(token.id or "", **account)
    assert refused.value.errors[0].code == 12139
    sdk.zero_trust.access.applications.delete(made["id"], **account)
    sdk.zero_trust.access.service_tokens.delete(token.id or "", **account)


@pytest.mark.parametrize("spelling", ["revoke_tokens", "revoke-tokens"])
def test_revoke_tokens_answers_202_and_sends_the_application_anew(control_plane: ControlPlane, spelling: str) -> None:
    made = create(control_plane)
    answer = control_plane.request("POST", f"{APPS}/{made['id']}/{spelling}")
    assert (answer.status_code, answer.json()["result"]) == (202, {})
    assert int(answer.headers["Foregate-Change"]) in control_plane.committed
    assert control_plane.request("POST", f"{APPS}/{'0' * 8}-0000-0000-0000-{'0' * 12}/{spelling}").status_code == 404


def test_the_sdk_walks_all_pages_and_stops(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    made = {create(control_plane)["id"] for _ in range(5)}
    found = [app.id for app in sdk.zero_trust.access.applications.list(per_page=2, **account)]
    assert len(found) == len(set(found)) and made <= set(found)
    first = control_plane.request("GET", f"{APPS}?page=1&per_page=25").json()["result_info"]
    assert (first["page"], first["per_page"], first["total_count"]) == (1, 25, len(found))
    assert control_plane.request("GET", f"{APPS}?page=999").json()["result"] == []
    assert control_plane.request("GET", f"{APPS}?page=0").status_code == 400


def test_lists_filter_by_name_domain_and_audience(control_plane: ControlPlane) -> None:
    made = create(control_plane, name="Needle in the hay")

    def ids(query: str) -> list[str]:
        return [app["id"] for app in control_plane.request("GET", f"{APPS}?{query}").json()["result"]]

    domain = made["domain"]
    queries = [
        f"aud={made['aud']}",
        "name=needle",
        f"domain={domain}&exact=true",
        f"domain=HTTPS://{domain.upper()}/&exact=true",
        f"domain={domain}&name=needle",
        f"search={domain[:-4]}",
        "search=needle+IN",
        "name=Needle+in+the+hay&exact=true",
    ]
    for query in queries:
        assert made["id"] in ids(query), query
    for query in ("name=needle&exact=true", "domain=example&exact=true", "aud=0", "name=n%25e", "search=_eedle"):
        assert made["id"] not in ids(query), query


def test_another_account_sees_and_takes_nothing(control_plane: ControlPlane, sdk: Cloudflare) -> None:
    made = create(control_plane, name="secret plans")
    other = sdk.accounts.create(name="Other").id  # type: ignore[union-attr]
    path = f"/accounts/{other}/access/apps"
    assert control_plane.request("GET", f"{path}/{made['id']}").status_code == 404
    assert control_plane.request("GET", path).json()["result"] == []
    body = {"type": "self_hosted", "domain": made["domain"], "policies": [made["policies"][0]["id"]]}
    taken = control_plane.request("POST", path, json={**body, "policies": []})
    assert taken.json()["errors"][0]["code"] == 11010
    assert "secret plans" not in taken.text
    stolen = control_plane.request("POST", path, json={**body, "domain": host()})
    assert "policy not found" in stolen.json()["errors"][0]["message"]


def test_session_of_the_organization_holds_where_nothing_is_said(control_plane: ControlPlane, sdk: Cloudflare) -> None:
    other = sdk.accounts.create(name="Sessions").id  # type: ignore[union-attr]
    base = f"/accounts/{other}/access"
    silent, outspoken = (
        control_plane.request(
            "POST", f"{base}/apps", json={"type": "self_hosted", "domain": host(), "policies": [service_auth()], **more}
        ).json()["result"]
        for more in ({}, {"session_duration": "2h"})
    )
    committed = len(control_plane.committed)
    changed = control_plane.request("PUT", f"{base}/organizations", json={"session_duration": "6h"})
    assert changed.status_code == 200
    with control_plane.database.database.read() as connection:
        keys = connection.execute(
            text("SELECT record_key FROM outbox WHERE seq > :seq"), {"seq": control_plane.committed[committed - 1]}
        ).scalars()
        assert set(keys) == {f"app/{silent['id']}", f"account/{other}"}
    shown = control_plane.request("GET", f"{base}/apps/{silent['id']}").json()["result"]["session_duration"]
    records = [record_of(control_plane, one["id"]) for one in (silent, outspoken)]
    assert shown == "6h"
    assert [one["policies"][0]["session_seconds"] for one in records if one] == [21600, 7200]


@pytest.mark.parametrize("members", [{"id": "f174e90a-fafe-4643-bbbc-4a0ed4fc8415"}, {"aud": "0" * 64}])
def test_identity_is_foregates_to_choose(control_plane: ControlPlane, members: dict[str, str]) -> None:
    answer = control_plane.request("POST", APPS, json={"type": "self_hosted", "domain": host(), **members})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, 12130)
    made = create(control_plane)
    changed = {"type": "self_hosted", "domain": made["domain"], **members}
    assert control_plane.request("PUT", f"{APPS}/{made['id']}", json=changed).status_code == 400


def test_what_go_sends_is_taken(control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]) -> None:
    policy = control_plane.request(
        "POST",
        "/accounts/{account_id}/access/policies",
        json={
            "precedence": 0,
            "decision": "non_identity",
            "created_at": None,
            "updated_at": None,
            "name": "go",
            "approval_groups": None,
            "include": [{"everyone": {}}],
            "exclude": None,
            "require": None,
        },
    ).json()["result"]
    body = {
        "type": "self_hosted",
        "name": "go",
        "domain": host(),
        "destinations": None,
        "private_address": "",
        "policies": [policy["id"]],
        "landing_page_design": {"title": "", "message": "", "image_url": "", "button_color": ""},
        "app_launcher_logo_url": "",
        "header_bg_color": "",
        "bg_color": "",
        "footer_links": None,
    }
    made = control_plane.request("POST", APPS, json=body)
    assert made.status_code == 201, made.text
    result = made.json()["result"]
    updated = control_plane.request(
        "PUT", f"{APPS}/{result['id']}", json={**body, "id": result["id"], "aud": result["aud"]}
    )
    assert updated.status_code == 200, updated.text


def test_every_write_leaves_history_and_audit(control_plane: ControlPlane) -> None:
    made = create(control_plane)
    control_plane.request("PUT", f"{APPS}/{made['id']}", json={"type": "self_hosted", "domain": made["domain"]})
    control_plane.request("DELETE", f"{APPS}/{made['id']}")
    with control_plane.database.database.read() as connection:
        actions = connection.execute(
            text("SELECT action FROM audit WHERE kind = 'application' AND entity_id = :id ORDER BY id"), made
        ).scalars()
        snapshots = connection.execute(
            text("SELECT snapshot FROM history WHERE kind = 'application' AND entity_id = :id ORDER BY id"), made
        ).scalars()
        assert list(actions) == ["create", "update", "delete"]
        assert [text == "null" for text in snapshots] == [False, False, True]
