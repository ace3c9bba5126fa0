"""The assertion that an origin gets, checked as real origins do: PyJWT, with the keys that the edge itself serves."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from jwt import PyJWKClient

from harness.origin import Origin
from harness.product import Foregate
from harness.things import APPLIED_SECONDS, App, Token, allow, create_app, create_token, unique, until_status
from harness.waiting import until

CERTS = "/cdn-cgi/access/certs"
AUTH_DOMAIN = "auth.localhost"


@pytest.fixture(scope="module")
def token(foregate: Foregate) -> Token:
    return create_token(foregate.api())


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin, token: Token) -> App:
    made = create_app(foregate, origin.service, [allow(token)], session_duration="1h")
    until_status(foregate, made.host, token, 200)
    return made


def assertion_of(foregate: Foregate, origin: Origin, app: App, token: Token) -> str:
    """The assertion of a request of the token, as its origin got it."""
    mark = unique("mark")
    assert foregate.get(app.host, f"/?{mark}", token.headers).status == 200
    (request,) = origin.marked(mark)
    return request.header("cf-access-jwt-assertion") or ""


def verified(foregate: Foregate, host: str, assertion: str, aud: str) -> dict[str, Any]:
    """The claims, once an origin on `host` has verified the assertion."""
    keys = PyJWKClient(f"http://127.0.0.1:{foregate.http_port}{CERTS}", headers={"Host": host}, cache_keys=False)
    key = keys.get_signing_key_from_jwt(assertion)
    required = ["aud", "iss", "iat", "exp", "sub", "type", "common_name"]
    claims: dict[str, Any] = jwt.decode(
        assertion,
        key,
        algorithms=["RS256"],
        audience=aud,
        issuer=f"https://{AUTH_DOMAIN}",
        options={"require": required},
    )
    return claims


def test_origin_can_verify_the_assertion(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    assertion = assertion_of(foregate, origin, app, token)
    claims = verified(foregate, app.host, assertion, app.aud)
    assert claims["aud"] == [app.aud]
    assert claims["type"] == "app"
    assert claims["sub"] == ""
    assert claims["common_name"] == token.client_id
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < 3600
    assert claims["exp"] > time.time()
    header = jwt.get_unverified_header(assertion)
    assert (header["alg"], header["typ"]) == ("RS256", "JWT")
    assert "nbf" not in claims and "email" not in claims


def test_assertion_of_another_application_is_refused_by_the_origin(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    other = create_app(foregate, origin.service, [allow(token)])
    until_status(foregate, other.host, token, 200)
    assertion = assertion_of(foregate, origin, other, token)
    assert verified(foregate, other.host, assertion, other.aud)["aud"] == [other.aud]
    with pytest.raises(jwt.InvalidAudienceError):
        verified(foregate, app.host, assertion, app.aud)


def test_each_token_is_named_in_its_own_assertion(foregate: Foregate, origin: Origin, token: Token) -> None:
    second = create_token(foregate.api())
    shared = create_app(foregate, origin.service, [allow(token, second)])
    for one in (token, second, token):
        until_status(foregate, shared.host, one, 200)
        assertion = assertion_of(foregate, origin, shared, one)
        assert verified(foregate, shared.host, assertion, shared.aud)["common_name"] == one.client_id


def test_session_of_the_policy_goes_before_the_applications(foregate: Foregate, origin: Origin, token: Token) -> None:
    made = create_app(foregate, origin.service, [allow(token, session_duration="15m")], session_duration="1h")
    until_status(foregate, made.host, token, 200)
    claims = verified(foregate, made.host, assertion_of(foregate, origin, made, token), made.aud)
    assert claims["exp"] - claims["iat"] == 900


@pytest.mark.parametrize("where", ["application", "auth domain", "path of its own"])
def test_keys_are_served_by_the_edge_itself(foregate: Foregate, origin: Origin, app: App, where: str) -> None:
    before = origin.count
    host = AUTH_DOMAIN if where == "auth domain" else app.host
    path = f"//x/..{CERTS}" if where == "path of its own" else CERTS
    answer = foregate.get(host, path)
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("application/json")
    body = answer.json()
    for key in body["keys"]:
        assert (key["kty"], key["alg"], key["use"]) == ("RSA", "RS256", "sig")
        assert not {"d", "p", "q", "dp", "dq", "qi"} & set(key)
    assert body["public_cert"]["kid"] == body["keys"][0]["kid"]
    assert {cert["kid"] for cert in body["public_certs"]} == {key["kid"] for key in body["keys"]}
    assert origin.count == before


@pytest.mark.parametrize("path", ["/cdn-cgi/access/", "/cdn-cgi/access/logout", "/cdn-cgi/access/nothing"])
def test_paths_of_the_edge_never_reach_an_origin(
    foregate: Foregate, origin: Origin, app: App, token: Token, path: str
) -> None:
    before = origin.count
    assert foregate.get(app.host, path, token.headers).status >= 400
    assert origin.count == before


def test_rotated_keys_overlap(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    old = assertion_of(foregate, origin, app, token)
    old_kid = jwt.get_unverified_header(old)["kid"]
    foregate.api().result("POST", "/access/keys/rotate")

    def is_new() -> str | None:
        assertion = assertion_of(foregate, origin, app, token)
        return assertion if jwt.get_unverified_header(assertion)["kid"] != old_kid else None

    new = until(is_new, APPLIED_SECONDS, "the origin gets assertions under the new key")
    kids = [key["kid"] for key in foregate.get(app.host, CERTS).json()["keys"]]
    assert jwt.get_unverified_header(new)["kid"] == kids[0]
    assert old_kid in kids
    assert verified(foregate, app.host, old, app.aud)["common_name"] == token.client_id
    assert verified(foregate, app.host, new, app.aud)["common_name"] == token.client_id


def test_a_renamed_issuer_stands_in_the_assertions_of_tokens_that_are_remembered(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    def issuer() -> str:
        claims: dict[str, str] = jwt.decode(
            assertion_of(foregate, origin, app, token), options={"verify_signature": False}
        )
        return claims["iss"]

    api = foregate.api()
    assert issuer() == f"https://{AUTH_DOMAIN}"
    try:
        api.result("PUT", "/access/organizations", {"auth_domain": "issuer.localhost"})
        until(lambda: issuer() == "https://issuer.localhost", APPLIED_SECONDS, "the new issuer is named")
    finally:
        api.result("PUT", "/access/organizations", {"auth_domain": AUTH_DOMAIN})
    until(lambda: issuer() == f"https://{AUTH_DOMAIN}", APPLIED_SECONDS, "the first issuer is named again")


def metadata_of(foregate: Foregate, host: str, method: str = "HEAD", **more: str) -> str | None:
    """What cloudflared reads from its probe."""
    headers = [("cf-access-metadata-request", "true"), *more.items()]
    return foregate.get(host, "/", headers, method).header("cf-access-metadata")


def test_cloudflared_finds_the_applications_metadata(foregate: Foregate, app: App) -> None:
    found = metadata_of(foregate, app.host) or ""
    keys = PyJWKClient(f"http://127.0.0.1:{foregate.http_port}{CERTS}", headers={"Host": AUTH_DOMAIN}, cache_keys=False)
    claims = jwt.decode(
        found, keys.get_signing_key_from_jwt(found), algorithms=["RS256"], options={"verify_aud": False}
    )
    assert claims["type"] == "match"
    assert (claims["hostname"], claims["app_hostname"]) == (app.host, app.host)
    assert claims["auth_domain"] == AUTH_DOMAIN
    assert claims["aud"] in (app.aud, [app.aud])
    assert -300 < time.time() - claims["iat"] < 24 * 3600


def test_only_those_who_ask_get_the_metadata(foregate: Foregate, app: App) -> None:
    assert foregate.get(app.host).header("cf-access-metadata") is None


def test_no_metadata_where_there_is_no_application(foregate: Foregate) -> None:
    assert metadata_of(foregate, f"{unique('nobody')}.localhost") is None
