"""The life of a token as the real edge sees it: from the creation on accepted, from the end on refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.api import Api
from harness.origin import Origin
from harness.postgresql import ENGINES
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, events_of, until_status
from harness.waiting import until

TOKENS = "/access/service_tokens"
# Published bound (p99, idle) is 100 ms; here only that it is a matter of moments, as other work goes on beside.
MOMENTS = 3.0


@pytest.fixture(scope="module", params=ENGINES)
def foregate(request: pytest.FixtureRequest, foregate: Foregate) -> Foregate:
    """One on each database."""
    on_postgresql: Foregate
    if request.param == "postgresql":
        on_postgresql = request.getfixturevalue("foregate_on_postgresql")
        return on_postgresql
    return foregate


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin) -> App:
    """It lets in every valid token."""
    made = create_app(foregate, origin.service, [allow()])
    until_status(foregate, made.host, None, 403)
    return made


@pytest.fixture
def token(foregate: Foregate, app: App) -> Token:
    made = create_token(foregate.api())
    until_status(foregate, app.host, made, 200)
    return made


def reason_of(api: Api, app: App, token: Token) -> str:
    """Why the token's latest request was answered as it was."""
    found: list[dict[str, Any]] = events_of(api, app, token=token.client_id)
    return str(found[-1]["reason"]) if found else ""


def refused_for(foregate: Foregate, api: Api, app: App, token: Token, reason: str) -> None:
    """The edge refuses the token with 401, and says why to its owner alone."""
    until_status(foregate, app.host, token, 401)
    until(lambda: reason_of(api, app, token) == reason, 10, f"an event says {reason}", every=0.05)


def test_created_token_is_accepted_at_once(foregate: Foregate, api: Api, app: App) -> None:
    token = create_token(api)
    until(lambda: foregate.get(app.host, headers=token.headers).status == 200, MOMENTS, "the new token is accepted")


ENDS: dict[str, tuple[Callable[[Api, Token], Any], str]] = {
    "revoked": (lambda api, token: api.result("DELETE", f"{TOKENS}/{token.id}"), "token_unknown"),
    "disabled": (lambda api, token: api.result("PUT", f"{TOKENS}/{token.id}", {"enabled": False}), "token_disabled"),
    "rotated": (lambda api, token: api.result("POST", f"{TOKENS}/{token.id}/rotate", {}), "secret_superseded"),
    "cut short": (lambda api, token: api.result("PUT", f"{TOKENS}/{token.id}", {"duration": "1ms"}), "token_expired"),
}


@pytest.mark.parametrize("what", ENDS)
def test_revoked_disabled_rotated_or_expired_token_is_refused(
    foregate: Foregate, api: Api, app: App, token: Token, what: str
) -> None:
    end, reason = ENDS[what]
    end(api, token)
    until(lambda: foregate.get(app.host, headers=token.headers).status == 401, MOMENTS, f"the {what} token is refused")
    refused_for(foregate, api, app, token, reason)


def test_verified_connection_is_refused_as_well(foregate: Foregate, api: Api, app: App, token: Token) -> None:
    """Credentials remembered for a connection must not outlive their token."""
    with foregate.connect() as connection:
        ask = lambda: connection.request("GET", "/", [("Host", app.host), *token.headers]).status  # noqa: E731
        assert [ask(), ask()] == [200, 200]
        api.result("DELETE", f"{TOKENS}/{token.id}")
        until(lambda: ask() == 401, MOMENTS, "the connection's next request is refused")
        assert ask() == 401


def test_token_expires_by_itself_at_its_time(foregate: Foregate, api: Api, app: App) -> None:
    made = api.result("POST", TOKENS, {"name": "short", "duration": "3s"})
    token = Token(made["id"], made["client_id"], made["client_secret"])
    expires_at = datetime.fromisoformat(made["expires_at"])
    until_status(foregate, app.host, token, 200)
    with foregate.connect() as connection:
        while (sent_at := datetime.now(UTC)) < expires_at - timedelta(seconds=1):
            assert connection.request("GET", "/", [("Host", app.host), *token.headers]).status == 200, sent_at
        until(
            lambda: connection.request("GET", "/", [("Host", app.host), *token.headers]).status == 401,
            MOMENTS + 1,
            "the token has expired on its own connection",
        )
    refused_for(foregate, api, app, token, "token_expired")


def test_previous_secret_ends_by_itself_at_its_time(foregate: Foregate, api: Api, app: App, token: Token) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=3)
    body = {"previous_client_secret_expires_at": ends_at.isoformat()}
    new = token.with_secret(api.result("POST", f"{TOKENS}/{token.id}/rotate", body)["client_secret"])
    until_status(foregate, app.host, new, 200)
    if datetime.now(UTC) < ends_at - timedelta(seconds=1):
        assert foregate.get(app.host, headers=token.headers).status == 200
    until_status(foregate, app.host, token, 401)
    assert datetime.now(UTC) >= ends_at - timedelta(seconds=1)
    refused_for(foregate, api, app, token, "secret_superseded")
    assert foregate.get(app.host, headers=new.headers).status == 200


def test_rotation_with_overlap_turns_no_request_away(foregate: Foregate, api: Api, app: App, token: Token) -> None:
    """A fleet that moves from the old secret to the new one, while others still use the old."""
    body = {"previous_client_secret_expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    with foregate.connect() as connection:
        ask = lambda who: connection.request("GET", "/", [("Host", app.host), *who.headers]).status  # noqa: E731
        assert ask(token) == 200
        new = token.with_secret(api.result("POST", f"{TOKENS}/{token.id}/rotate", body)["client_secret"])
        until(lambda: ask(new) == 200, MOMENTS, "the new secret is accepted")
        assert [ask(who) for who in (token, new) * 20] == [200] * 40


def test_disabled_token_is_accepted_again_once_enabled(foregate: Foregate, api: Api, app: App, token: Token) -> None:
    for enabled, status in ((False, 401), (True, 200)) * 2:
        api.result("PUT", f"{TOKENS}/{token.id}", {"enabled": enabled})
        until_status(foregate, app.host, token, status)


def test_disabling_stops_the_previous_secret_too(foregate: Foregate, api: Api, app: App, token: Token) -> None:
    body = {"previous_client_secret_expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    new = token.with_secret(api.result("POST", f"{TOKENS}/{token.id}/rotate", body)["client_secret"])
    until_status(foregate, app.host, new, 200)
    api.result("PUT", f"{TOKENS}/{token.id}", {"enabled": False})
    until_status(foregate, app.host, new, 401)
    until_status(foregate, app.host, token, 401)


def test_expired_token_is_accepted_again_once_refreshed(foregate: Foregate, api: Api, app: App, token: Token) -> None:
    api.result("PUT", f"{TOKENS}/{token.id}", {"duration": "1ms"})
    until_status(foregate, app.host, token, 401)
    api.result("POST", f"{TOKENS}/{token.id}/refresh")
    until_status(foregate, app.host, token, 200)


def test_change_of_a_group_reaches_the_applications_that_use_it(
    foregate: Foregate, api: Api, origin: Origin, token: Token
) -> None:
    other = create_token(api)
    group = api.result("POST", "/access/groups", {"name": "g", "include": [{"service_token": {"token_id": token.id}}]})
    policy = {"name": "by group", "decision": "non_identity", "include": [{"group": {"id": group["id"]}}]}
    guarded = create_app(foregate, origin.service, [policy])
    until_status(foregate, guarded.host, token, 200)
    assert foregate.get(guarded.host, headers=other.headers).status == 403
    include = [{"service_token": {"token_id": other.id}}]
    api.result("PUT", f"/access/groups/{group['id']}", {"name": "g", "include": include})
    until_status(foregate, guarded.host, other, 200)
    until_status(foregate, guarded.host, token, 403)


def test_deleted_application_closes_its_host(foregate: Foregate, api: Api, origin: Origin, token: Token) -> None:
    made = create_app(foregate, origin.service, [allow(token)])
    until_status(foregate, made.host, token, 200)
    api.result("DELETE", f"/access/apps/{made.id}")
    until_status(foregate, made.host, token, 403)


def test_receipt_of_a_change_says_when_the_edge_applied_it(foregate: Foregate, api: Api, app: App) -> None:
    answer = api.account("POST", TOKENS, {"name": "with a receipt"})
    seq = int(answer.header("foregate-change") or "")
    shown = foregate.run("change", "show", str(seq), "--wait", "10", "--json")
    assert shown.returncode == 0, shown.stderr
    assert str(seq).encode() in shown.stdout
