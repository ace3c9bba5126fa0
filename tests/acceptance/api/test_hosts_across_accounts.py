"""A host belongs to one account, over applications, ingress and auth domains: nobody claims a path below another
account's host, a wildcard over it, or a host under another account's wildcard."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from acceptance.api.control_plane import ControlPlane

APPS = "/accounts/{account_id}/access/apps"
TUNNELS = "/accounts/{account_id}/cfd_tunnel"
ORGANIZATION = "/accounts/{account_id}/access/organizations"
_numbers = itertools.count(1)

# What one account has, what another asks for; `H` stands for a name that no other test has.
MEETING = {
    "the same host": ("one.H.test", "one.H.test"),
    "a path below it": ("one.H.test", "one.H.test/sub"),
    "the host of a path": ("one.H.test/sub", "one.H.test"),
    "another path of the host": ("one.H.test/a", "one.H.test/b"),
    "a wildcard over it": ("one.H.test", "*.H.test"),
    "a wildcard over its path": ("one.H.test/a/*", "*.H.test/b"),
    "a host under its wildcard": ("*.H.test", "one.H.test"),
    "a narrower wildcard": ("*.H.test", "o*.H.test"),
    "a wildcard that meets it": ("o*e.H.test", "on*.H.test"),
    "a wildcard in the middle": ("a.one.H.test", "a.*.H.test"),
}
APART = {
    "a host beside it": ("one.H.test", "two.H.test"),
    "the host above": ("one.H.test", "H.test"),
    "a wildcard of another depth": ("a.one.H.test", "*.H.test"),
    "wildcards that never meet": ("a*.H.test", "b*.H.test"),
    "ends that never meet": ("*a.H.test", "*b.H.test"),
    "a wildcard that stands for more than nothing": ("one.H.test", "one*.H.test"),
}


@pytest.fixture(scope="module")
def other(control_plane: ControlPlane) -> str:
    return str(control_plane.request("POST", "/accounts", json={"name": "Other"}).json()["result"]["id"])


def named(pair: tuple[str, str]) -> tuple[str, str]:
    name = f"h{next(_numbers)}"
    return pair[0].replace("H", name), pair[1].replace("H", name)


def guard(control_plane: ControlPlane, account_id: str | None, *uris: str, name: str = "an app") -> Any:
    destinations = [{"type": "public", "uri": uri} for uri in uris]
    body = {"type": "self_hosted", "name": name, "destinations": destinations, "policies": []}
    return control_plane.request("POST", APPS, account_id=account_id, json=body)


def serve(control_plane: ControlPlane, account_id: str | None, hostname: str) -> Any:
    made = {"name": f"tunnel-{next(_numbers)}", "config_src": "cloudflare"}
    tunnel = control_plane.request("POST", TUNNELS, account_id=account_id, json=made).json()["result"]
    rules = [{"hostname": hostname, "service": "http://127.0.0.1:9"}, {"service": "http_status:404"}]
    path = f"{TUNNELS}/{tunnel['id']}/configurations"
    return control_plane.request("PUT", path, account_id=account_id, json={"config": {"ingress": rules}})


def refusal(answer: Any) -> tuple[int, int, str]:
    assert answer.json()["success"] is False, answer.text
    error = answer.json()["errors"][0]
    return answer.status_code, error["code"], error["message"]


@pytest.mark.parametrize("case", MEETING)
def test_application_takes_no_part_of_another_accounts_host(control_plane: ControlPlane, other: str, case: str) -> None:
    had, wanted = named(MEETING[case])
    assert guard(control_plane, None, had, name="secret plans").status_code == 201
    status, code, message = refusal(guard(control_plane, other, f"free.{wanted.partition('/')[0]}", wanted))
    assert (status, code) == (400, 11010)
    assert wanted.partition("/")[0] in message
    assert "secret plans" not in message
    # Within one account it is an application of its own, but for the very same host and path.
    assert guard(control_plane, None, wanted).status_code == (400 if had == wanted else 201)


@pytest.mark.parametrize("case", APART)
def test_hosts_that_never_meet_are_free_for_all(control_plane: ControlPlane, other: str, case: str) -> None:
    had, wanted = named(APART[case])
    assert guard(control_plane, None, had).status_code == 201
    assert guard(control_plane, other, wanted).status_code == 201


@pytest.mark.parametrize(("had", "wanted"), [("one.H.test", "*.H.test"), ("*.H.test", "one.H.test")])
def test_ingress_and_applications_of_two_accounts_never_meet(
    control_plane: ControlPlane, other: str, had: str, wanted: str
) -> None:
    for first, second in itertools.product((guard, serve), repeat=2):
        mine, theirs = named((had, wanted))
        assert first(control_plane, None, mine).json()["success"] is True
        status, code, message = refusal(second(control_plane, other, theirs))
        assert (status, code == 11010) == (400, second is guard)
        assert theirs in message
        assert second(control_plane, None, theirs).json()["success"] is True


def test_auth_domain_and_applications_of_two_accounts_never_meet(control_plane: ControlPlane, other: str) -> None:
    issuer, host = (f"h{next(_numbers)}.test" for _ in range(2))
    changed = control_plane.request("PUT", ORGANIZATION, account_id=other, json={"auth_domain": issuer})
    assert changed.status_code == 200
    assert refusal(guard(control_plane, None, f"{issuer}/x"))[:2] == (400, 11010)
    assert guard(control_plane, other, f"{issuer}/x").status_code == 201
    assert guard(control_plane, None, host).status_code == 201
    refused = control_plane.request("PUT", ORGANIZATION, account_id=other, json={"auth_domain": host})
    assert refusal(refused)[0] == 400
    # Said again without a change it is no claim, and so no reason to refuse the rest.
    again = control_plane.request("PUT", ORGANIZATION, account_id=other, json={"auth_domain": issuer, "name": "New"})
    assert again.status_code == 200


def test_a_host_is_free_again_once_its_account_has_given_it_up(control_plane: ControlPlane, other: str) -> None:
    host, _ = named(("one.H.test", ""))
    made = guard(control_plane, None, host).json()["result"]
    assert guard(control_plane, other, f"{host}/x").status_code == 400
    control_plane.request("DELETE", f"{APPS}/{made['id']}")
    assert guard(control_plane, other, f"{host}/x").status_code == 201


def test_a_change_that_claims_no_host_is_never_refused(control_plane: ControlPlane, other: str) -> None:
    mine, theirs = named(("one.H.test", "two.H.test"))
    made = guard(control_plane, None, mine).json()["result"]
    assert guard(control_plane, other, theirs).status_code == 201
    body = {"type": "self_hosted", "name": "an app", "domain": mine}
    path = f"{APPS}/{made['id']}"
    assert control_plane.request("PUT", path, json={**body, "name": "renamed"}).status_code == 200
    assert refusal(control_plane.request("PUT", path, json={**body, "domain": theirs}))[1] == 11010
