"""Bad input gets a clear 4xx in the envelope, and nothing changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from acceptance.api.control_plane import ControlPlane
from acceptance.api.test_service_tokens import TOKENS, accepts

JSON = {"Content-Type": "application/json"}
MASKS = ["", "  ", "****", "********", "[REDACTED]", "<redacted>", "(sensitive value)", "cfast_****", "••••••", "null"]


@pytest.fixture(scope="module")
def token(control_plane: ControlPlane) -> dict[str, Any]:
    """A token that every attempt below leaves as it is."""
    made = control_plane.request("POST", TOKENS, json={"name": "unchanged"}).json()["result"]
    return dict(made)


def assert_refused(control_plane: ControlPlane, token: dict[str, Any], body: Any, pointer: str | None = None) -> None:
    """A PUT and a POST with this body are refused with 400, and the token is what it was."""
    before = control_plane.request("GET", f"{TOKENS}/{token['id']}").json()["result"]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    for method, path in (("PUT", f"{TOKENS}/{token['id']}"), ("POST", TOKENS)):
        refused = control_plane.request(method, path, content=content, headers=JSON)
        answer = refused.json()
        assert refused.status_code == 400, answer
        assert (answer["success"], answer["result"], answer["messages"]) == (False, None, [])
        assert answer["errors"][0]["code"] == 12130
        assert answer["errors"][0]["message"].startswith("access.api.error.invalid_request: ")
        if pointer is not None:
            assert answer["errors"][0]["source"] == {"pointer": pointer}
    after = control_plane.request("GET", f"{TOKENS}/{token['id']}").json()["result"]
    assert after == before
    assert accepts(control_plane, token["client_id"], token["client_secret"])


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_masked_or_empty_secret_is_refused(control_plane: ControlPlane, token: dict[str, Any], mask: str) -> None:
    assert_refused(control_plane, token, {"name": "x", "client_secret": mask}, "/client_secret")


@pytest.mark.parametrize("value", [None, 7, "cfast_short", "cfast_" + "a" * 48, "a" * 64], ids=repr)
def test_secret_of_ones_own_is_refused(control_plane: ControlPlane, token: dict[str, Any], value: object) -> None:
    assert_refused(control_plane, token, {"name": "x", "client_secret": value}, "/client_secret")


def test_masked_secret_anywhere_is_refused(control_plane: ControlPlane, token: dict[str, Any]) -> None:
    body = {"name": "x", "deep": [{"er": {"client_secret": "****"}}]}
    assert_refused(control_plane, token, body, "/deep/0/er/client_secret")


def test_token_read_and_written_back_is_refused(control_plane: ControlPlane, token: dict[str, Any]) -> None:
    """The incident in one request: read a record, change a field, write the whole back."""
    read = control_plane.request("GET", f"{TOKENS}/{token['id']}").json()["result"]
    assert_refused(control_plane, token, {**read, "last_seen_at": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("client_id", "0" * 32 + ".access"),
        ("id", "7c5f4b2a-0000-4000-8000-000000000000"),
        ("expires_at", "2099-01-01T00:00:00Z"),
        ("last_seen_at", None),
        ("min_days_for_renewal", 30),
        ("Name", "x"),
    ],
)
def test_unknown_member_is_refused_by_name(
    control_plane: ControlPlane, token: dict[str, Any], member: str, value: object
) -> None:
    assert_refused(control_plane, token, {"name": "x", member: value}, f"/{member}")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", ""),
        ("name", 7),
        ("name", "x" * 256),
        ("name", "with\x00nul"),
        ("duration", ""),
        ("duration", "1y"),
        ("duration", "-1h"),
        ("duration", "0s"),
        ("duration", "8760"),
        ("duration", 8760),
        ("duration", "9" * 60 + "h"),
        ("duration", "Forever"),
        ("enabled", "yes"),
        ("enabled", 1),
        ("client_secret_version", -1),
        ("client_secret_version", 1.5),
        ("client_secret_version", "2"),
        ("client_secret_version", True),
        ("client_secret_version", 2**63),
        ("previous_client_secret_expires_at", ""),
        ("previous_client_secret_expires_at", "tomorrow"),
        ("previous_client_secret_expires_at", "2026-13-01T00:00:00Z"),
        ("previous_client_secret_expires_at", "2026-01-01"),
        ("previous_client_secret_expires_at", 1767225600),
        ("previous_client_secret_expires_at", "9999-12-31T23:59:59-23:00"),
    ],
)
def test_malformed_value_is_refused_with_its_place(
    control_plane: ControlPlane, token: dict[str, Any], member: str, value: object
) -> None:
    assert_refused(control_plane, token, {"name": "x", member: value}, f"/{member}")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"name":"a","name":"b"}',
        b'{"name":"a","duration":NaN}',
        b'{"name":"\xff"}',
        b'{"name":"\\ud800"}',
        '{"name":"a"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"name":"a"}',
        b'{"name":' + b"[" * 40 + b"]" * 40 + b"}",
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"name":' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_body_that_is_no_plain_object_is_refused(
    control_plane: ControlPlane, token: dict[str, Any], body: bytes
) -> None:
    before = control_plane.request("GET", f"{TOKENS}/{token['id']}").json()
    # An empty body names no change, and a creation needs a name.
    refused = control_plane.request("POST", TOKENS, content=body, headers=JSON)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["code"] == 12130
    assert control_plane.request("GET", f"{TOKENS}/{token['id']}").json() == before


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "in chunks"])
def test_body_over_one_mebibyte_is_refused(control_plane: ControlPlane, is_chunked: bool) -> None:
    body = json.dumps({"name": "x" * (1024 * 1024)}).encode()
    content = (body[start : start + 65536] for start in range(0, len(body), 65536)) if is_chunked else body
    refused = control_plane.request("POST", TOKENS, content=content, headers=JSON)
    assert refused.status_code == 413
    assert refused.json()["errors"][0]["message"].endswith("larger than 1 MiB (1,048,576 bytes).")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}],
    ids=["none", "text", "form"],
)
def test_wrong_content_type_is_refused(control_plane: ControlPlane, headers: dict[str, str]) -> None:
    refused = control_plane.request("POST", TOKENS, content=b'{"name": "x"}', headers=headers)
    assert refused.status_code == 415


def test_charset_beside_the_content_type_is_fine(control_plane: ControlPlane) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert control_plane.request("POST", TOKENS, content=b'{"name": "x"}', headers=headers).status_code == 201


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=x", "page=1.5", "per_page=0", "per_page=1001", "page=", "page=1&page=2", "nmae=x",
     "name=%00", "name=%ff", "page=99999999999999999999", "direction=asc", "search=" + "x" * 9000],
    ids=lambda query: query[:20],
)  # fmt: skip
def test_bad_query_is_refused(control_plane: ControlPlane, query: str) -> None:
    refused = control_plane.request("GET", f"{TOKENS}?{query}")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["code"] == 12130


@pytest.mark.parametrize("token_id", ["x", "7C5F", "7c5f4b2a00004000800000000000000", "%00", "..", "7c5f4b2a 0000"])
def test_bad_token_id_is_refused(control_plane: ControlPlane, token_id: str) -> None:
    refused = control_plane.request("GET", f"{TOKENS}/{token_id}")
    assert refused.status_code in (400, 404)
    assert refused.json()["success"] is False


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "DELETE", "HEAD", "TRACE"])
def test_wrong_method_says_which_ones_there_are(control_plane: ControlPlane, method: str) -> None:
    refused = control_plane.request(method, TOKENS)
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, POST"


def test_unknown_route_is_404_in_the_envelope(control_plane: ControlPlane) -> None:
    for path in ("/accounts/{account_id}/access/service_token", "/nowhere", ""):
        refused = control_plane.request("GET", path)
        assert refused.status_code == 404
        assert refused.json()["errors"][0]["code"] == 7000


def test_unknown_headers_and_api_version_are_ignored(control_plane: ControlPlane) -> None:
    headers = {"api-version": "2026-11-24", "X-Stainless-Lang": "python", "X-Anything": "x"}
    assert control_plane.request("GET", TOKENS, headers=headers).status_code == 200
