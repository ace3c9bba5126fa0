"""API tokens over HTTP: made for somebody else, listed, revoked; none gives more than it has."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acceptance.api.control_plane import ControlPlane
from foregate.api.auth import Permission
from foregate.core.clock import format_time
from foregate.core.secrets import Secret

PATH = "/foregate/api_tokens"


def make(control_plane: ControlPlane, **body: Any) -> dict[str, Any]:
    answer = control_plane.request("POST", PATH, json={"name": "for somebody", **body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()["result"]
    return found


def status_with(control_plane: ControlPlane, made: dict[str, Any], method: str = "GET", path: str = "") -> int:
    path = path or "/accounts/{account_id}/access/service_tokens"
    body = {"json": {"name": "x"}} if method == "POST" else {}
    return control_plane.request(method, path, token=Secret(made["value"]), **body).status_code


def test_token_works_until_it_is_revoked_and_its_text_is_shown_once(control_plane: ControlPlane) -> None:
    made = make(control_plane)
    assert made["value"].startswith("cfat_")
    assert (made["account_id"], made["permissions"], made["status"]) == (None, ["read", "write"], "active")
    assert status_with(control_plane, made, "POST") == 201
    listed = control_plane.request("GET", PATH)
    assert {key: made[key] for key in made if key != "value"} in listed.json()["result"]
    assert made["value"] not in listed.text
    assert control_plane.request("DELETE", f"{PATH}/{made['id']}").json()["result"] == {"id": made["id"]}
    assert status_with(control_plane, made) == 401
    after = next(one for one in control_plane.request("GET", PATH).json()["result"] if one["id"] == made["id"])
    assert after["status"] == "disabled"


def test_token_of_an_account_and_reader_are_held_to_it(control_plane: ControlPlane) -> None:
    made = make(control_plane, account_id=control_plane.account_id, permissions=["read"])
    assert status_with(control_plane, made) == 200
    assert status_with(control_plane, made, "POST") == 403
    assert status_with(control_plane, made, path=PATH) == 403
    assert status_with(control_plane, made, "POST", "/accounts") == 403


def test_token_ends_at_its_time(control_plane: ControlPlane) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=3600)
    made = make(control_plane, expires_on=format_time(ends))
    assert made["expires_on"] == format_time(ends)
    assert status_with(control_plane, made) == 200
    _, ended = control_plane.api_token(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert control_plane.request("GET", PATH, token=ended).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": ""}, 400),
        ({"name": "two\nlines"}, 400),
        ({"name": "x", "permissions": []}, 400),
        ({"name": "x", "permissions": ["all"]}, 400),
        ({"name": "x", "account_id": "short"}, 400),
        ({"name": "x", "account_id": "0" * 32}, 404),
        ({"name": "x", "expires_on": "2020-01-01T00:00:00Z"}, 400),
        ({"name": "x", "expires_on": "soon"}, 400),
        ({"name": "x", "value": "cfat_chosen"}, 400),
        ({}, 400),
    ],
)
def test_token_that_cannot_be_made(control_plane: ControlPlane, body: dict[str, Any], status: int) -> None:
    before = control_plane.request("GET", PATH).json()["result_info"]["total_count"]
    answer = control_plane.request("POST", PATH, json=body)
    assert answer.status_code == status, answer.text
    assert control_plane.request("GET", PATH).json()["result_info"]["total_count"] == before


def test_nobody_gives_more_than_they_have(control_plane: ControlPlane) -> None:
    _, writer = control_plane.api_token(permissions=frozenset({Permission.WRITE}))
    for permissions, status in ((["read", "write"], 403), (["read"], 403), (None, 403), (["write"], 201)):
        body = {"name": "x", **({"permissions": permissions} if permissions else {})}
        assert control_plane.request("POST", PATH, json=body, token=writer).status_code == status
    _, bound = control_plane.api_token(account_id=control_plane.account_id)
    assert control_plane.request("POST", PATH, json={"name": "x"}, token=bound).status_code == 403
    assert control_plane.request("GET", PATH, token=bound).status_code == 403


def test_token_that_asks_cannot_revoke_itself_and_what_is_not_there_is_not_found(control_plane: ControlPlane) -> None:
    made = make(control_plane)
    itself = control_plane.request("DELETE", f"{PATH}/{made['id']}", token=Secret(made["value"]))
    assert itself.status_code == 400
    assert control_plane.request("DELETE", f"{PATH}/{'0' * 32}").status_code == 404
    assert control_plane.request("DELETE", f"{PATH}/%00").status_code == 404


def test_retry_of_a_create_makes_one_token_and_shows_it_to_no_other_caller(control_plane: ControlPlane) -> None:
    key = {"Idempotency-Key": "once"}
    first, again = (control_plane.request("POST", PATH, json={"name": "x"}, headers=key).json() for _ in range(2))
    assert first == again
    _, other = control_plane.api_token()
    theirs = control_plane.request("POST", PATH, json={"name": "x"}, headers=key, token=other).json()
    assert theirs["result"]["id"] != first["result"]["id"]


async def test_what_was_read_before_a_token_ended_is_not_remembered_after(control_plane: ControlPlane) -> None:
    """The database is asked on a thread: a revocation may commit, and be told, before that answer is looked at."""
    credentials = control_plane.credentials
    token_id, secret = control_plane.api_token()
    asking = asyncio.create_task(credentials.authenticate(secret))
    await asyncio.sleep(0)  # it has asked
    control_plane.request("DELETE", f"{PATH}/{token_id}")
    credentials.forget()
    await asking
    found = await credentials.authenticate(secret)
    assert found is not None
    assert not found.is_enabled
