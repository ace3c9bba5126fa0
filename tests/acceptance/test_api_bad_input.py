"""Bad input at the control API: each gets a clear 4xx in the v4 envelope, and nothing changes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from foregate.core.secrets import API_TOKEN_PREFIX, new_secret
from harness.api import Api, errors_of
from harness.http1 import Answer, Connection
from harness.product import Foregate
from harness.things import Token, allow, create_token, unique

TOKENS = "/access/service_tokens"
NOBODY = "00000000-0000-4000-8000-000000000000"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Ground:
    """What stands there before each test, for bad requests to aim at."""

    api: Api
    token: Token
    policy_id: str
    app_id: str
    host: str
    group_id: str
    tunnel_id: str


@pytest.fixture(scope="module")
def ground(foregate: Foregate) -> Ground:
    api = foregate.api()
    token = create_token(api)
    policy = api.result("POST", "/access/policies", allow(token))
    host = f"{unique('ground')}.localhost"
    app = api.result("POST", "/access/apps", app_body(host, policies=[{"id": policy["id"], "precedence": 1}]))
    group = api.result("POST", "/access/groups", {"name": unique("group"), "include": [{"everyone": {}}]})
    tunnel = api.result("POST", "/cfd_tunnel", {"name": unique("tunnel"), "config_src": "cloudflare"})
    return Ground(api, token, policy["id"], app["id"], host, group["id"], tunnel["id"])


def app_body(host: str, **fields: Any) -> dict[str, Any]:
    return {"type": "self_hosted", "name": "app", "domain": host, **fields}


def changes_of(foregate: Foregate) -> tuple[int, ...]:
    """How many rows tell of changes. Every change writes to all three."""
    with sqlite3.connect(f"file:{foregate.home / 'records.db'}?mode=ro", uri=True) as connection:
        tables = ("history", "audit", "outbox", "secret_versions", "service_tokens")
        return tuple(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)


def check_refused(foregate: Foregate, ask: Callable[[], Answer]) -> Answer:
    before = changes_of(foregate)
    answer = ask()
    assert 400 <= answer.status < 500, answer.body[:300]
    assert answer.status not in (408, 409, 429), "a client would try again"
    assert errors_of(answer)
    assert changes_of(foregate) == before
    return answer


TOKEN_BODIES: dict[str, Any] = {
    "no name": {},
    "empty name": {"name": ""},
    "name as a number": {"name": 7},
    "null name": {"name": None},
    "very long name": {"name": "n" * 5000},
    "name with NUL": {"name": "a\0b"},
    "name with a lone surrogate": {"name": "a\ud800b"},
    "empty duration": {"name": "n", "duration": ""},
    "zero duration": {"name": "n", "duration": "0s"},
    "negative duration": {"name": "n", "duration": "-1h"},
    "duration without a unit": {"name": "n", "duration": "8760"},
    "duration in days": {"name": "n", "duration": "365d"},
    "duration in words": {"name": "n", "duration": "a year"},
    "duration as a number": {"name": "n", "duration": 8760},
    "duration past the end of time": {"name": "n", "duration": "9999999999h"},
    "negative version": {"name": "n", "client_secret_version": -1},
    "half a version": {"name": "n", "client_secret_version": 1.5},
    "version as text": {"name": "n", "client_secret_version": "1"},
    "endless version": {"name": "n", "client_secret_version": 1e300},
    "enabled as text": {"name": "n", "enabled": "yes"},
    "date in words": {"name": "n", "previous_client_secret_expires_at": "tomorrow"},
    "date without a time": {"name": "n", "previous_client_secret_expires_at": "2030-13-45"},
    "empty date": {"name": "n", "previous_client_secret_expires_at": ""},
    "a secret of one's own": {"name": "n", "client_secret": "cfast_" + "a" * 48},
    "a masked secret": {"name": "n", "client_secret": "****"},
    "a redacted secret": {"name": "n", "client_secret": "[REDACTED]"},
    "an empty secret": {"name": "n", "client_secret": ""},
    "a client id of one's own": {"name": "n", "client_id": "0" * 32 + ".access"},
    "unknown field": {"name": "n", "scopes": ["everything"]},
    "a list": [],
    "a text": "n",
    "null": None,
}


@pytest.mark.parametrize("what", TOKEN_BODIES)
def test_token_body_that_cannot_be_taken(foregate: Foregate, ground: Ground, what: str) -> None:
    raw = json.dumps(TOKEN_BODIES[what]).encode()
    check_refused(foregate, lambda: ground.api.account("POST", TOKENS, raw=raw, headers=JSON))


@pytest.mark.parametrize(
    "what", [name for name, body in TOKEN_BODIES.items() if isinstance(body, dict) and body and name != "null name"]
)
def test_token_change_that_cannot_be_taken(foregate: Foregate, ground: Ground, what: str) -> None:
    """An empty or masked secret never replaces a living one."""
    raw = json.dumps(TOKEN_BODIES[what]).encode()
    path = f"{TOKENS}/{ground.token.id}"
    check_refused(foregate, lambda: ground.api.account("PUT", path, raw=raw, headers=JSON))


@pytest.mark.parametrize("version", [3, 100])
def test_version_that_skips_is_refused(foregate: Foregate, ground: Ground, version: int) -> None:
    body = {"client_secret_version": version}
    check_refused(foregate, lambda: ground.api.account("PUT", f"{TOKENS}/{ground.token.id}", body))


POLICY_BODIES: dict[str, dict[str, Any]] = {
    "no include": {"include": []},
    "left-out include": {"include": None},
    "unknown decision": {"decision": "permit"},
    "a decision for people": {"decision": "allow"},
    "a selector for people": {"include": [{"email": {"email": "a@example.com"}}]},
    "country": {"include": [{"geo": {"country_code": "US"}}]},
    "certificate": {"include": [{"certificate": {}}]},
    "unknown selector": {"include": [{"moon_phase": {"phase": "full"}}]},
    "two selectors in one": {"include": [{"everyone": {}, "any_valid_service_token": {}}]},
    "no selector in one": {"include": [{}]},
    "selector as a text": {"include": ["everyone"]},
    "unknown token": {"include": [{"service_token": {"token_id": NOBODY}}]},
    "client id instead of id": {"include": [{"service_token": {"token_id": "0" * 32 + ".access"}}]},
    "empty token id": {"include": [{"service_token": {"token_id": ""}}]},
    "unknown group": {"include": [{"group": {"id": NOBODY}}]},
    "no CIDR": {"include": [{"ip": {"ip": "everywhere"}}]},
    "CIDR out of range": {"include": [{"ip": {"ip": "10.0.0.0/33"}}]},
    "octet out of range": {"include": [{"ip": {"ip": "10.0.0.256/32"}}]},
    "empty CIDR": {"include": [{"ip": {"ip": ""}}]},
    "bad session": {"session_duration": "a day"},
    "negative session": {"session_duration": "-1h"},
    "approval, which has an effect": {"approval_required": True},
    "isolation, which has an effect": {"isolation_required": True},
    "justification, which has an effect": {"purpose_justification_required": True},
    "unknown field with an effect": {"max_uses": 3},
    "empty name": {"name": ""},
    "the id of another": {"id": NOBODY},
}


@pytest.mark.parametrize("what", POLICY_BODIES)
def test_policy_that_cannot_be_taken(foregate: Foregate, ground: Ground, what: str) -> None:
    body = {**allow(), **POLICY_BODIES[what]}
    check_refused(foregate, lambda: ground.api.account("POST", "/access/policies", body))
    check_refused(foregate, lambda: ground.api.account("PUT", f"/access/policies/{ground.policy_id}", body))


def test_selector_that_is_not_there_is_refused_with_those_that_are(foregate: Foregate, ground: Ground) -> None:
    """Advice to leave it out would widen the policy."""
    body = {**allow(), "include": [{"email": {"email": "a@example.com"}}]}
    answer = check_refused(foregate, lambda: ground.api.account("POST", "/access/policies", body))
    assert "no selector 'email', only service_token, any_valid_service_token" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("member", ["id", "uid"])
def test_group_written_in_the_place_of_another_is_refused(foregate: Foregate, ground: Ground, member: str) -> None:
    body = {"name": "g", "include": [{"everyone": {}}], member: NOBODY}
    check_refused(foregate, lambda: ground.api.account("POST", "/access/groups", body))
    check_refused(foregate, lambda: ground.api.account("PUT", f"/access/groups/{ground.group_id}", body))


HOSTS = {
    "no host": "",
    "blank": " ",
    "two dots": "a..example.com",
    "leading dot": ".example.com",
    "leading hyphen": "-a.example.com",
    "long label": "a" * 64 + ".example.com",
    "long host": ".".join(["abcdefgh"] * 40) + ".com",
    "not ASCII": "bücher.example.com",
    "user name": "user@example.com",
    "another scheme": "ftp://example.com",
    "query": "a.example.com/x?y=1",
    "fragment": "a.example.com/x#y",
    "space": "a b.example.com",
    "two wildcards in a label": "*a*.example.com",
    "two wildcards in a segment": "a.example.com/*x*",
    "wildcard top": "a.*",
    "encoded slash": "a.example.com/x%2Fy",
    "bad escape": "a.example.com/%zz",
    "backslash": "a.example.com/x\\y",
    "NUL": "a.example.com/\0",
    "dot segments": "a.example.com/a/../b",
    "line break": "a.example.com\r\nX: y",
    "port out of range": "a.example.com:70000",
    "IPv6 address": "[2001:db8::1]",
}


@pytest.mark.parametrize("what", HOSTS)
def test_application_address_that_cannot_be_taken(foregate: Foregate, ground: Ground, what: str) -> None:
    body = app_body(HOSTS[what])
    check_refused(foregate, lambda: ground.api.account("POST", "/access/apps", body))
    check_refused(foregate, lambda: ground.api.account("PUT", f"/access/apps/{ground.app_id}", body))


APP_FIELDS: dict[str, dict[str, Any]] = {
    "another type": {"type": "saas"},
    "no type": {"type": None},
    "bad session": {"session_duration": "forever and a day"},
    "bad header name": {"read_service_tokens_from_header": "Authorization: x"},
    "header name with a line break": {"read_service_tokens_from_header": "X-A\r\nY"},
    "a header of the edge's own": {"read_service_tokens_from_header": "Host"},
    "private destination": {"destinations": [{"type": "private", "cidr": "10.0.0.0/8"}]},
    "login page, which has an effect": {"allowed_idps": [NOBODY]},
    "CORS, which has an effect": {"cors_headers": {"allow_all_origins": True}},
    "custom denial, which has an effect": {"custom_deny_message": "go away"},
    "unknown field with an effect": {"rate_limit": 3},
    "unknown policy": {"policies": [{"id": NOBODY, "precedence": 1}]},
    "policy id that is none": {"policies": ["policy"]},
    "policies as a text": {"policies": "all"},
}


@pytest.mark.parametrize("what", APP_FIELDS)
def test_application_that_cannot_be_taken(foregate: Foregate, ground: Ground, what: str) -> None:
    body = app_body(f"{unique('bad')}.localhost", **APP_FIELDS[what])
    check_refused(foregate, lambda: ground.api.account("POST", "/access/apps", body))


def test_duplicate_precedence_is_refused(foregate: Foregate, ground: Ground) -> None:
    policies = [{**allow(), "precedence": 1}, {**allow(), "precedence": 1}]
    body = app_body(f"{unique('twice')}.localhost", policies=policies)
    answer = check_refused(foregate, lambda: ground.api.account("POST", "/access/apps", body))
    assert errors_of(answer) == [12130]


@pytest.mark.parametrize("form", ["{host}", "HTTPS://{host}", "{host}/", "{host}:443", "{HOST}", "{host}."])
def test_second_application_on_one_host_and_path_is_refused_however_written(
    foregate: Foregate, ground: Ground, form: str
) -> None:
    address = form.format(host=ground.host, HOST=ground.host.upper())
    answer = check_refused(foregate, lambda: ground.api.account("POST", "/access/apps", app_body(address)))
    assert errors_of(answer) == [11010]


INGRESS: dict[str, Any] = {
    "no catch-all": [{"hostname": "a.localhost", "service": "http://127.0.0.1:1"}],
    "service of another kind": [
        {"hostname": "a.localhost", "service": "ssh://127.0.0.1:22"},
        {"service": "http_status:404"},
    ],
    "service without a scheme": [
        {"hostname": "a.localhost", "service": "127.0.0.1:80"},
        {"service": "http_status:404"},
    ],
    "bad status": [{"service": "http_status:999"}],
    "port out of range": [
        {"hostname": "a.localhost", "service": "http://127.0.0.1:70000"},
        {"service": "http_status:404"},
    ],
    "service with a line break": [
        {"hostname": "a.localhost", "service": "http://127.0.0.1:80\n  server evil"},
        {"service": "http_status:404"},
    ],
    "path that is no expression": [
        {"hostname": "a.localhost", "path": "([", "service": "http://127.0.0.1:80"},
        {"service": "http_status:404"},
    ],
    "bad host": [{"hostname": "a b", "service": "http://127.0.0.1:80"}, {"service": "http_status:404"}],
    "unknown setting with an effect": [
        {"hostname": "a.localhost", "service": "http://127.0.0.1:80", "originRequest": {"proxyType": "socks"}},
        {"service": "http_status:404"},
    ],
    "negative timeout": [
        {"hostname": "a.localhost", "service": "http://127.0.0.1:80", "originRequest": {"connectTimeout": -1}},
        {"service": "http_status:404"},
    ],
    "host header with a line break": [
        {"hostname": "a.localhost", "service": "http://127.0.0.1:80", "originRequest": {"httpHostHeader": "a\r\nb: c"}},
        {"service": "http_status:404"},
    ],
    "CA that is none": [
        {"hostname": "a.localhost", "service": "https://127.0.0.1:80", "originRequest": {"caPool": "a certificate"}},
        {"service": "http_status:404"},
    ],
    "not a list": {"hostname": "a.localhost"},
    "empty": [],
}


@pytest.mark.parametrize("what", INGRESS)
def test_ingress_that_cannot_be_taken(foregate: Foregate, ground: Ground, what: str) -> None:
    body = {"config": {"ingress": INGRESS[what]}}
    path = f"/cfd_tunnel/{ground.tunnel_id}/configurations"
    check_refused(foregate, lambda: ground.api.account("PUT", path, body))


RAW_BODIES: dict[str, tuple[bytes, dict[str, str], int]] = {
    "not JSON": (b"name=n", JSON, 400),
    "cut off": (b'{"name": "n"', JSON, 400),
    "two documents": (b'{"name": "n"}{"name": "m"}', JSON, 400),
    "a member twice": (b'{"name": "n", "name": "m"}', JSON, 400),
    "nested a hundred thousand deep": (b"[" * 100_000, JSON, 400),
    "nested in a member": (b'{"name": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}", JSON, 400),
    "NUL byte": (b'{"name": "a\x00b"}', JSON, 400),
    "bad UTF-8": (b'{"name": "\xff\xfe"}', JSON, 400),
    "UTF-16": ('{"name": "n"}'.encode("utf-16"), JSON, 400),
    "NaN": (b'{"name": "n", "client_secret_version": NaN}', JSON, 400),
    "over a mebibyte": (b'{"name": "' + b"n" * (1 << 20) + b'"}', JSON, 413),
    "a form": (b"name=n", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "a text": (b'{"name": "n"}', {"Content-Type": "text/plain"}, 415),
    "no body": (b"", JSON, 400),
}


@pytest.mark.parametrize("what", RAW_BODIES)
def test_body_that_cannot_be_read(foregate: Foregate, ground: Ground, what: str) -> None:
    raw, headers, status = RAW_BODIES[what]
    answer = check_refused(foregate, lambda: ground.api.account("POST", TOKENS, raw=raw, headers=headers))
    assert answer.status == status


QUERIES = ("page=0", "page=-1", "page=one", "page=1.5", "page=", "page=99999999999999999999", "per_page=0",
           "per_page=100000", "per_page=x")  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("path", [TOKENS, "/access/apps", "/access/policies", "/access/groups", "/cfd_tunnel"])
def test_page_that_does_not_exist(foregate: Foregate, ground: Ground, path: str, query: str) -> None:
    check_refused(foregate, lambda: ground.api.account("GET", f"{path}?{query}"))


@pytest.mark.parametrize("query", ["since=yesterday", "until=2030-99-99", "limit=0", "direction=sideways", "app_uid=x"])
def test_log_query_that_cannot_be_answered(foregate: Foregate, ground: Ground, query: str) -> None:
    check_refused(foregate, lambda: ground.api.account("GET", f"/access/logs/access_requests?{query}"))


def test_tunnel_filter_that_is_no_id(foregate: Foregate, ground: Ground) -> None:
    check_refused(foregate, lambda: ground.api.account("GET", "/cfd_tunnel?uuid=x"))


IDS = ("nothing", "123", NOBODY, NOBODY.replace("-", ""), "0" * 32 + ".access", "%00", "..%2f..", "é", "a" * 3000)


@pytest.mark.parametrize("path", [TOKENS, "/access/apps", "/access/policies", "/access/groups", "/cfd_tunnel"])
@pytest.mark.parametrize("thing", IDS)
def test_id_that_names_nothing(foregate: Foregate, ground: Ground, path: str, thing: str) -> None:
    quoted = thing.replace("é", "%C3%A9")
    for method in ("GET", "DELETE"):
        check_refused(foregate, lambda method=method: ground.api.account(method, f"{path}/{quoted}"))


@pytest.mark.parametrize("account", ["0" * 32, "f" * 32, "short", "Z" * 32, NOBODY, "%00"])
def test_unknown_account_is_refused(foregate: Foregate, ground: Ground, account: str) -> None:
    for method, body in (("GET", None), ("POST", {"name": "n"})):
        ask = lambda method=method, body=body: ground.api.call(method, f"/accounts/{account}{TOKENS}", body)  # noqa: E731
        assert errors_of(check_refused(foregate, ask)) == [7003], "not the number of a token that is not there"


@pytest.mark.parametrize("days", [0, 20, 366, -1, 21.5, "42", None])
def test_key_rotation_outside_its_bounds_is_refused(foregate: Foregate, ground: Ground, days: object) -> None:
    body = {"key_rotation_interval_days": days}
    check_refused(foregate, lambda: ground.api.account("PUT", "/access/keys", body))


ORGANIZATION: dict[str, dict[str, Any]] = {
    "no strict mode": {"strict_service_token_auth": False},
    "bad domain": {"auth_domain": "not a host"},
    "bad session": {"session_duration": "long"},
    "a session with an effect elsewhere": {"warp_auth_session_duration": "24h"},
    "unknown field": {"open_to_all": True},
    "exempted host that is none": {"deny_unmatched_requests_exempted_zone_names": ["a b"]},
}


@pytest.mark.parametrize("what", ORGANIZATION)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_organization_that_cannot_be_taken(foregate: Foregate, ground: Ground, method: str, what: str) -> None:
    check_refused(foregate, lambda: ground.api.account(method, "/access/organizations", ORGANIZATION[what]))


def test_method_that_the_path_does_not_take(foregate: Foregate, ground: Ground) -> None:
    answer = check_refused(foregate, lambda: ground.api.account("PATCH", TOKENS, {}))
    assert answer.status == 405


def test_path_that_does_not_exist(foregate: Foregate, ground: Ground) -> None:
    assert check_refused(foregate, lambda: ground.api.call("GET", "/nothing/here")).status == 404


def test_zone_scope_is_refused_with_a_sentence(foregate: Foregate, ground: Ground) -> None:
    answer = check_refused(foregate, lambda: ground.api.call("GET", f"/zones/{'0' * 32}{TOKENS}"))
    assert "account" in answer.json()["errors"][0]["message"]


BAD_TOKENS = {
    "none": {"Authorization": ""},
    "unknown": {"Authorization": f"Bearer {new_secret(API_TOKEN_PREFIX).reveal()}"},
    "malformed": {"Authorization": "Bearer cfat_short"},
    "masked": {"Authorization": "Bearer ****"},
    "doubled": {"Authorization": "Bearer a b"},
    "not ASCII": {"Authorization": "Bearer tökén"},
    "very long": {"Authorization": "Bearer " + "a" * 5000},
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_api_token_that_does_not_count(foregate: Foregate, ground: Ground, what: str) -> None:
    answer = check_refused(foregate, lambda: ground.api.account("GET", TOKENS, headers=BAD_TOKENS[what]))
    assert answer.status in (400, 401)


def test_service_token_is_no_api_token(foregate: Foregate, ground: Ground) -> None:
    headers = {"Authorization": f"Bearer {ground.token.secret}"}
    check_refused(foregate, lambda: ground.api.account("GET", TOKENS, headers=headers))


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /client/v4/accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["two lengths", "unknown version", "TLS"],
)
def test_what_is_no_http_ends_the_connection_and_the_api_lives(
    foregate: Foregate, ground: Ground, request_head: bytes
) -> None:
    # To be closed without a word is as good as a refusal.
    closed = contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError)
    with Connection(foregate.api_port) as connection, closed:
        assert connection.exchange(request_head).status >= 400
    assert ground.api.account("GET", TOKENS).status == 200
