"""Policies, reusable and of one application, and groups, driven with the official Python SDK."""

from __future__ import annotations

import itertools
from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare
from sqlalchemy import text

from acceptance.api.control_plane import ControlPlane
from foregate.access.applications.edge_config import compile_record

ACCESS = "/accounts/{account_id}/access"
EVERYONE: list[Any] = [{"everyone": {}}]
_numbers = itertools.count(1)


@pytest.fixture
def sdk(control_plane: ControlPlane) -> Cloudflare:
    return control_plane.sdk()


@pytest.fixture
def account(control_plane: ControlPlane) -> dict[str, str]:
    return {"account_id": control_plane.account_id}


def application(control_plane: ControlPlane, policies: list[Any], **members: Any) -> str:
    """A new application; its id."""
    body = {"type": "self_hosted", "domain": f"policy-{next(_numbers)}.example.com", "policies": policies, **members}
    answer = control_plane.request("POST", f"{ACCESS}/apps", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["result"]["id"])


def rules_of(control_plane: ControlPlane, application_id: str) -> list[dict[str, Any]]:
    """The policies that an edge would be told of."""
    with control_plane.database.database.read() as connection:
        record = compile_record(connection, application_id)
    assert record is not None
    return list(record["policies"])


def keys_since(control_plane: ControlPlane, seq: int) -> list[str]:
    """The records enqueued after a change."""
    with control_plane.database.database.read() as connection:
        statement = text("SELECT record_key FROM outbox WHERE seq > :seq ORDER BY seq")
        return list(connection.execute(statement, {"seq": seq}).scalars())


def last_seq(control_plane: ControlPlane) -> int:
    with control_plane.database.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT max(seq) FROM outbox").scalar_one())


def test_a_reusable_policy_comes_back_as_it_was_written(sdk: Cloudflare, account: dict[str, str]) -> None:
    made = sdk.zero_trust.access.policies.create(
        name="office",
        decision="bypass",
        include=[{"ip": {"ip": "192.0.2.7"}}, {"any_valid_service_token": {}}],
        require=[{"everyone": {}}],
        session_duration="24h",
        **account,
    )
    got = sdk.zero_trust.access.policies.get(made.id or "", **account)
    assert made.to_dict() == got.to_dict()
    assert (got.reusable, got.app_count, got.session_duration, got.decision) == (True, 0, "24h", "bypass")
    assert [one.to_dict() for one in got.include or []] == [
        {"ip": {"ip": "192.0.2.7"}},
        {"any_valid_service_token": {}},
    ]
    assert got.exclude == [] and "purpose_justification_prompt" not in got.to_dict()


def test_status_codes_are_cloudflares(control_plane: ControlPlane) -> None:
    body = {"name": "x", "decision": "deny", "include": EVERYONE}
    made = control_plane.request("POST", f"{ACCESS}/policies", json=body)
    path = f"{ACCESS}/policies/{made.json()['result']['id']}"
    assert made.status_code == 201
    assert control_plane.request("GET", path).status_code == 200
    assert control_plane.request("PUT", path, json=body).status_code == 200
    deleted = control_plane.request("DELETE", path)
    assert (deleted.status_code, set(deleted.json()["result"])) == (202, {"id"})
    gone = control_plane.request("GET", path)
    assert (gone.status_code, gone.json()["errors"][0]["code"]) == (404, 12135)
    assert control_plane.request("GET", f"{ACCESS}/policies/x").status_code == 400


def test_a_changed_policy_reaches_every_application_that_uses_it(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    policy = sdk.zero_trust.access.policies.create(name="p", decision="deny", include=EVERYONE, **account)
    users = [application(control_plane, [policy.id]) for _ in range(3)]
    application(control_plane, [])
    before = last_seq(control_plane)
    sdk.zero_trust.access.policies.update(policy.id or "", name="p", decision="bypass", include=EVERYONE, **account)
    assert sorted(keys_since(control_plane, before)) == sorted(f"app/{one}" for one in users)
    assert [rules_of(control_plane, one)[0]["decision"] for one in users] == ["bypass"] * 3
    assert control_plane.committed[-1] == last_seq(control_plane)


def test_a_policy_in_use_is_not_deleted(control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]) -> None:
    policy = sdk.zero_trust.access.policies.create(name="p", decision="deny", include=EVERYONE, **account)
    application_id = application(control_plane, [policy.id], name="The user")
    with pytest.raises(cloudflare.BadRequestError) as refused:
        sdk.zero_trust.access.policies.delete(policy.id or "", **account)
    assert "'The user'" in refused.value.errors[0].message
    sdk.zero_trust.access.applications.delete(application_id, **account)
    deleted = sdk.zero_trust.access.policies.delete(policy.id or "", **account)
    assert deleted.id == policy.id


def test_401_of_an_application_holds_its_last_service_auth_policy(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    policy = sdk.zero_trust.access.policies.create(name="p", decision="non_identity", include=EVERYONE, **account)
    application(control_plane, [policy.id], service_auth_401_redirect=True)
    with pytest.raises(cloudflare.BadRequestError, match="service_auth_401_redirect"):
        sdk.zero_trust.access.policies.update(policy.id or "", name="p", decision="bypass", include=EVERYONE, **account)


def test_the_sdk_walks_all_reusable_policies_and_stops(sdk: Cloudflare, account: dict[str, str]) -> None:
    made = {
        sdk.zero_trust.access.policies.create(name=f"p{n}", decision="deny", include=EVERYONE, **account).id
        for n in range(3)
    }
    found = [policy.id for policy in sdk.zero_trust.access.policies.list(per_page=2, **account)]
    assert made <= set(found) and len(found) == len(set(found))


def test_an_applications_own_policies_live_under_it(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    application_id = application(control_plane, [])
    base = f"{ACCESS}/apps/{application_id}/policies"
    first = control_plane.request(
        "POST", base, json={"name": "a", "decision": "deny", "include": EVERYONE, "precedence": 5}
    )
    second = control_plane.request("POST", base, json={"name": "b", "decision": "bypass", "include": EVERYONE})
    assert (first.status_code, second.status_code) == (201, 201)
    assert (first.json()["result"]["precedence"], second.json()["result"]["precedence"]) == (5, 6)
    assert int(second.headers["Foregate-Change"]) in control_plane.committed
    found = list(sdk.zero_trust.access.applications.policies.list(app_id=application_id, **account))
    assert [(one.name, one.precedence) for one in found] == [("a", 5), ("b", 6)]
    assert sdk.zero_trust.access.policies.list(**account).result is not None
    moved = control_plane.request(
        "PUT",
        f"{base}/{second.json()['result']['id']}",
        json={"name": "b2", "decision": "bypass", "include": EVERYONE, "precedence": 1},
    )
    assert (moved.status_code, moved.json()["result"]["name"]) == (200, "b2")
    assert [one["decision"] for one in rules_of(control_plane, application_id)] == ["bypass", "deny"]
    taken = control_plane.request(
        "POST", base, json={"name": "c", "decision": "deny", "include": EVERYONE, "precedence": 5}
    )
    assert "must be unique" in taken.json()["errors"][0]["message"]
    deleted = sdk.zero_trust.access.applications.policies.delete(
        first.json()["result"]["id"], app_id=application_id, **account
    )
    assert deleted.id == first.json()["result"]["id"]
    assert len(rules_of(control_plane, application_id)) == 1


def test_a_reusable_policy_is_not_changed_through_an_application(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    policy = sdk.zero_trust.access.policies.create(name="p", decision="deny", include=EVERYONE, **account)
    application_id = application(control_plane, [policy.id])
    path = f"{ACCESS}/apps/{application_id}/policies/{policy.id}"
    changed = control_plane.request("PUT", path, json={"name": "q", "decision": "deny", "include": EVERYONE})
    moved = control_plane.request(
        "PUT", path, json={"name": "p", "decision": "deny", "include": EVERYONE, "precedence": 9}
    )
    assert (changed.status_code, moved.status_code, moved.json()["result"]["precedence"]) == (400, 200, 9)
    assert control_plane.request("DELETE", path).status_code == 400


def test_a_policy_of_an_application_becomes_reusable(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    inline = {"name": "mine", "decision": "deny", "include": EVERYONE}
    application_id = application(control_plane, [inline])
    policy_id = control_plane.request("GET", f"{ACCESS}/apps/{application_id}").json()["result"]["policies"][0]["id"]
    with pytest.raises(cloudflare.NotFoundError):
        sdk.zero_trust.access.policies.get(policy_id, **account)
    answer = control_plane.request("PUT", f"{ACCESS}/apps/{application_id}/policies/{policy_id}/make_reusable")
    assert (answer.status_code, answer.json()["result"]["reusable"]) == (200, True)
    assert sdk.zero_trust.access.policies.get(policy_id, **account).app_count == 1
    assert application(control_plane, [policy_id])


def test_a_group_is_written_out_for_every_application_that_it_concerns(
    control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]
) -> None:
    token = sdk.zero_trust.access.service_tokens.create(name="ci", **account)
    inner = sdk.zero_trust.access.groups.create(name="inner", include=[{"ip": {"ip": "192.0.2.0/24"}}], **account)
    outer = sdk.zero_trust.access.groups.create(
        name="outer", include=[{"group": {"id": inner.id or ""}}], exclude=EVERYONE, **account
    )
    named = [{"group": {"id": outer.id}}]
    policy = {"name": "g", "decision": "non_identity", "include": named}
    users = [application(control_plane, [policy]), application(control_plane, [policy, {**policy, "name": "h"}])]
    before = last_seq(control_plane)
    changed = control_plane.request(
        "PUT",
        f"{ACCESS}/groups/{inner.id}",
        json={"name": "inner", "include": [{"service_token": {"token_id": token.id}}], "is_default": False},
    )
    assert changed.status_code == 200
    assert sorted(keys_since(control_plane, before)) == sorted(f"app/{one}" for one in users)
    assert changed.headers["Foregate-Change"] == str(last_seq(control_plane))
    group = {"include": [{"token": token.client_id}], "require": [], "exclude": []}
    assert rules_of(control_plane, users[0])[0]["include"] == [
        {"group": {"include": [{"group": group}], "require": [], "exclude": [{"everyone": {}}]}}
    ]
    with pytest.raises(cloudflare.BadRequestError) as refused:
        sdk.zero_trust.access.service_tokens.delete(token.id or "", **account)
    assert refused.value.errors[0].code == 12139


def test_a_group_in_use_is_not_deleted(control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]) -> None:
    inner = sdk.zero_trust.access.groups.create(name="inner", include=EVERYONE, **account)
    outer = sdk.zero_trust.access.groups.create(name="outer", include=[{"group": {"id": inner.id or ""}}], **account)
    with pytest.raises(cloudflare.BadRequestError) as refused:
        sdk.zero_trust.access.groups.delete(inner.id or "", **account)
    assert "'outer'" in refused.value.errors[0].message
    assert sdk.zero_trust.access.groups.delete(outer.id or "", **account).id == outer.id
    assert control_plane.request("DELETE", f"{ACCESS}/groups/{inner.id}").status_code == 202
    assert control_plane.request("GET", f"{ACCESS}/groups/{inner.id}").status_code == 404


def test_groups_in_a_circle_are_refused(sdk: Cloudflare, account: dict[str, str]) -> None:
    inner = sdk.zero_trust.access.groups.create(name="inner", include=EVERYONE, **account)
    outer = sdk.zero_trust.access.groups.create(name="outer", include=[{"group": {"id": inner.id or ""}}], **account)
    for name in (inner.id, outer.id):
        with pytest.raises(cloudflare.BadRequestError, match="circle"):
            sdk.zero_trust.access.groups.update(
                inner.id or "", name="inner", include=[{"group": {"id": name or ""}}], **account
            )
    with pytest.raises(cloudflare.BadRequestError, match="group not found"):
        sdk.zero_trust.access.groups.create(
            name="x", include=[{"group": {"id": "f174e90a-fafe-4643-bbbc-4a0ed4fc8415"}}], **account
        )


def test_groups_are_listed_and_searched(control_plane: ControlPlane, sdk: Cloudflare, account: dict[str, str]) -> None:
    made = [sdk.zero_trust.access.groups.create(name=f"Squad {n}", include=EVERYONE, **account).id for n in range(3)]
    assert set(made) <= {group.id for group in sdk.zero_trust.access.groups.list(per_page=2, **account)}
    assert [group.id for group in sdk.zero_trust.access.groups.list(name="Squad 1", **account)] == [made[1]]
    assert [group.id for group in sdk.zero_trust.access.groups.list(search="squad", **account)] == made
    assert list(sdk.zero_trust.access.groups.list(name="squad 1", **account)) == []
    go = control_plane.request("GET", f"{ACCESS}/groups?page=1&per_page=25").json()
    assert go["result_info"]["total_pages"] == 1
