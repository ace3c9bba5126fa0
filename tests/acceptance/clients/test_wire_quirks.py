"""What the official SDKs send that nobody documents, and what they need back. Source: the page of real clients."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from harness.api import Api
from harness.origin import Origin
from harness.product import Foregate
from harness.things import allow, create_app, create_token, unique, until_status

TOKENS = "/access/service_tokens"
LISTS = (TOKENS, "/access/apps", "/access/policies", "/access/groups", "/cfd_tunnel")


@pytest.mark.parametrize("path", LISTS)
def test_pages_past_the_last_are_empty(api: Api, path: str) -> None:
    """The SDKs ask for page after page until one is empty, and look at no total."""
    assert api.result("GET", f"{path}?page=500") == []


@pytest.mark.parametrize("path", LISTS)
def test_list_without_a_query_then_page_2_never_repeats_an_item(api: Api, path: str) -> None:
    for _ in range(3):
        create_token(api)
    first = api.result("GET", path)
    second = api.result("GET", f"{path}?page=2")
    assert not {item["id"] for item in first} & {item["id"] for item in second}


def test_old_go_sdk_stops_by_result_info(api: Api) -> None:
    for _ in range(3):
        api.result("POST", "/access/policies", {**allow(), "name": unique("policy")})
    seen: list[str] = []
    page, pages = 1, 1
    while page <= pages:
        answer = api.account("GET", f"/access/policies?page={page}&per_page=2").json()
        info = answer["result_info"]
        assert (info["page"], info["per_page"], info["count"]) == (page, 2, len(answer["result"]))
        pages = info["total_pages"]
        assert pages == -(-info["total_count"] // 2)
        seen += [policy["id"] for policy in answer["result"]]
        page += 1
    assert len(seen) == len(set(seen)) == info["total_count"]


def test_parameter_that_old_go_sdk_adds_to_lists_of_policies_is_taken(api: Api) -> None:
    policy = api.result("POST", "/access/policies", {**allow(), "name": unique("policy")})
    assert policy["id"] in {found["id"] for found in api.result("GET", "/access/policies?ApplicationID=&per_page=1000")}
    host = f"{unique('v0')}.localhost"
    body = {"type": "self_hosted", "name": host, "domain": host, "policies": [policy["id"]]}
    app = api.result("POST", "/access/apps", body)
    path = f"/access/apps/{app['id']}/policies?ApplicationID={app['id']}&page=1&per_page=25"
    assert [found["id"] for found in api.result("GET", path)] == [policy["id"]]
    assert api.account("GET", f"/access/policies?ApplicationID={app['id']}").status == 400


def test_list_takes_all_tokens_in_one_page_by_default(api: Api) -> None:
    """SDK 4.x and Go v0 ask once and believe that they have all."""
    made = {create_token(api).id for _ in range(30)}
    assert made <= {token["id"] for token in api.result("GET", TOKENS)}


def test_version_0_means_not_set(foregate: Foregate, origin: Origin, api: Api) -> None:
    """Go v0 sends it on every create and update."""
    token = create_token(api, client_secret_version=0)
    app = create_app(foregate, origin.service, [allow(token)])
    until_status(foregate, app.host, token, 200)
    changed = api.result("PUT", f"{TOKENS}/{token.id}", {"name": unique("renamed"), "client_secret_version": 0})
    assert not changed.get("client_secret")
    assert changed["client_secret_version"] == 1
    assert foregate.get(app.host, headers=token.headers).status == 200


PARTIAL: dict[str, dict[str, Any]] = {
    "switch alone": {"enabled": False},
    "name alone": {"name": "another name"},
    "duration alone": {"duration": "24h"},
    "nothing": {},
}


@pytest.mark.parametrize("what", PARTIAL)
def test_partial_put_changes_what_it_names_and_nothing_else(api: Api, what: str) -> None:
    body = PARTIAL[what]
    token = create_token(api, name="some name", duration="48h")
    before = api.result("GET", f"{TOKENS}/{token.id}")
    api.result("PUT", f"{TOKENS}/{token.id}", body)
    after = api.result("GET", f"{TOKENS}/{token.id}")
    # "foregate" says how fresh the answer is, which is another matter each time.
    may_change = {*body, "updated_at", "foregate", *(["expires_at"] if "duration" in body else [])}
    kept = [field for field in before if field not in may_change]
    assert {field: after[field] for field in kept} == {field: before[field] for field in kept}
    assert {field: after[field] for field in body} == body


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [(b"{}", "application/json"), (None, "application/json"), (None, None), (b"", "application/json")],
    ids=["empty object", "no body but a type", "no body", "empty body"],
)
def test_rotate_and_refresh_take_every_form_of_no_body(api: Api, raw: bytes | None, content_type: str | None) -> None:
    token = create_token(api)
    headers = {"Content-Type": content_type} if content_type else {}
    rotated = api.account("POST", f"{TOKENS}/{token.id}/rotate", raw=raw, headers=headers)
    assert rotated.status == 200
    assert rotated.json()["result"]["client_secret"] != token.secret
    refreshed = api.account("POST", f"{TOKENS}/{token.id}/refresh", raw=raw, headers=headers)
    assert refreshed.status == 200
    assert "client_secret" not in refreshed.json()["result"]
    assert api.account("DELETE", f"{TOKENS}/{token.id}", raw=raw, headers=headers).status == 200


DATES = {
    "milliseconds and Z": "2030-01-02T03:04:05.678Z",
    "microseconds and offset": "2030-01-02T03:04:05.678901+00:00",
    "nanoseconds and Z": "2030-01-02T03:04:05.678901234Z",
    "seconds and Z": "2030-01-02T03:04:05Z",
    "another offset": "2030-01-02T05:04:05+02:00",
    "naive": "2030-01-02T03:04:05.678901",
}


@pytest.mark.parametrize("form", DATES)
def test_dates_of_every_client_mean_the_same_moment(api: Api, form: str) -> None:
    token = create_token(api)
    body = {"previous_client_secret_expires_at": DATES[form]}
    api.result("POST", f"{TOKENS}/{token.id}/rotate", body)
    found = api.result("GET", f"{TOKENS}/{token.id}")["previous_client_secret_expires_at"]
    assert datetime.fromisoformat(found).replace(microsecond=0) == datetime.fromisoformat("2030-01-02T03:04:05+00:00")


def test_go_v0_decodes_every_answer_strictly(api: Api) -> None:
    """No "" for a date, whole numbers for versions, days and precedence."""
    token = create_token(api)
    app = api.result(
        "POST",
        "/access/apps",
        {"type": "self_hosted", "name": "n", "domain": f"{unique('v0')}.localhost", "policies": [allow(token)]},
    )
    api.result("PUT", f"{TOKENS}/{token.id}", {"client_secret_version": 2})
    answers = [
        api.account("GET", f"{TOKENS}/{token.id}").json(),
        api.account("GET", TOKENS).json(),
        api.account("GET", f"/access/apps/{app['id']}").json(),
        api.account("GET", "/access/policies").json(),
        api.account("GET", "/access/keys").json(),
        api.account("GET", "/access/organizations").json(),
        api.account("GET", "/access/logs/access-requests?limit=10").json(),
    ]
    for answer in answers:
        assert answer["messages"] == [] and answer["errors"] == []
        check_decodable(answer["result"])


def check_decodable(value: Any, name: str = "") -> None:
    match value:
        case dict():
            for member, item in value.items():
                check_decodable(item, member)
        case list():
            for item in value:
                check_decodable(item, name)
        case str() if name.endswith("_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value), name
        case float() if name.endswith(("_version", "_days", "precedence", "app_count")) or name.startswith("days_"):
            raise AssertionError(f"{name} is not a whole number")
        case _:
            return


def test_what_go_v0_sends_for_an_app_is_taken(api: Api) -> None:
    token = create_token(api)
    policy = api.result("POST", "/access/policies", {**allow(token), "name": unique("v0"), "precedence": 0,
                        "exclude": None, "require": None, "approval_groups": None})  # fmt: skip
    body = {
        "name": unique("v0"),
        "domain": f"{unique('v0')}.localhost",
        "type": "self_hosted",
        "private_address": "",
        "destinations": None,
        "policies": [policy["id"]],
        "landing_page_design": {
            "title": "",
            "message": "",
            "image_url": "",
            "button_color": "",
            "button_text_color": "",
        },
        "app_launcher_logo_url": "",
        "header_bg_color": "",
        "bg_color": "",
        "footer_links": None,
    }
    app = api.result("POST", "/access/apps", body)
    assert [link["id"] for link in app["policies"]] == [policy["id"]]
    assert api.account("POST", f"/access/apps/{app['id']}/revoke-tokens").status == 202
    assert api.account("POST", f"/access/apps/{app['id']}/revoke_tokens").status == 202


def test_delete_answers_with_the_id(api: Api) -> None:
    """The TypeScript SDK reads result.id."""
    token = create_token(api)
    policy = api.result("POST", "/access/policies", {**allow(), "name": unique("policy")})
    group = api.result("POST", "/access/groups", {"name": unique("g"), "include": [{"everyone": {}}]})
    host = f"{unique('gone')}.localhost"
    app = api.result("POST", "/access/apps", {"type": "self_hosted", "name": host, "domain": host})
    tunnel = api.result("POST", "/cfd_tunnel", {"name": unique("t"), "config_src": "cloudflare"})
    for path, thing, status in (
        (TOKENS, token.id, 200),
        ("/access/policies", policy["id"], 202),
        ("/access/groups", group["id"], 202),
        ("/access/apps", app["id"], 202),
        ("/cfd_tunnel", tunnel["id"], 200),
    ):
        answer = api.account("DELETE", f"{path}/{thing}")
        assert (answer.status, answer.json()["result"]["id"]) == (status, thing)


def test_headers_that_sdks_add_are_ignored(api: Api) -> None:
    headers = {
        "api-version": "2026-11-01",
        "X-Stainless-Lang": "js",
        "X-Stainless-Retry-Count": "0",
        "User-Agent": "Cloudflare/JS 7.3.0",
        "Accept": "application/json",
    }
    assert api.account("GET", TOKENS, headers=headers).status == 200


def test_repeated_create_wastes_no_secret(api: Api) -> None:
    """An SDK repeats a POST whose answer was lost, with a higher retry count: it must get the first one's secret."""
    body = {"name": unique("repeated")}
    first = api.account("POST", TOKENS, body, headers={"X-Stainless-Retry-Count": "0"}).json()["result"]
    second = api.account("POST", TOKENS, body, headers={"X-Stainless-Retry-Count": "1"}).json()["result"]
    assert second["id"] == first["id"]
    assert second["client_secret"] == first["client_secret"]
    assert len([token for token in api.result("GET", TOKENS) if token["name"] == body["name"]]) == 1


def test_repeated_rotate_wastes_no_secret(api: Api) -> None:
    token = create_token(api)
    path = f"{TOKENS}/{token.id}/rotate"
    first = api.account("POST", path, {}, headers={"X-Stainless-Retry-Count": "0"}).json()["result"]
    second = api.account("POST", path, {}, headers={"X-Stainless-Retry-Count": "1"}).json()["result"]
    assert second["client_secret"] == first["client_secret"]
    assert api.result("GET", f"{TOKENS}/{token.id}")["client_secret_version"] == 2


def test_two_rotations_that_are_no_repeats_are_two(api: Api) -> None:
    token = create_token(api)
    path = f"{TOKENS}/{token.id}/rotate"
    first = api.result("POST", path, {})
    second = api.result("POST", path, {})
    assert second["client_secret"] != first["client_secret"]
    assert api.result("GET", f"{TOKENS}/{token.id}")["client_secret_version"] == 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "", "X-Auth-Email": "a@example.com", "X-Auth-Key": "k"}, 400),
        ({"Authorization": "Basic abc"}, 400),
        ({"Authorization": "Bearer not-a-token"}, 401),
    ],
    ids=["a lone global key", "another scheme", "unknown token"],
)
def test_other_ways_to_authenticate_get_a_plain_refusal(api: Api, headers: dict[str, str], status: int) -> None:
    answer = api.account("GET", TOKENS, headers=headers)
    assert answer.status == status
    assert answer.json()["errors"][0]["code"] >= 1000
