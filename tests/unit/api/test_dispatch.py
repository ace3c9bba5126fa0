"""The dispatcher by itself: finding operations, answering every kind of failure, logging no secret."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import structlog

from foregate.api.app import create_app
from foregate.api.auth import Permission, Principal, Scope
from foregate.api.dispatch import Index
from foregate.api.envelope import Answer
from foregate.api.operations import Call, Operations
from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.secrets import Secret

ACCOUNT = "0" * 32
ADMIN = Principal("id", "admin", None, frozenset(Permission), True, None, None)


class Authenticator:
    """Knows one token and one account."""

    async def authenticate(self, bearer: Secret) -> Principal | None:
        return ADMIN if bearer.reveal() == "good" else None

    async def account_exists(self, account_id: str) -> bool:
        return account_id == ACCOUNT


async def echo(call: Call[None, None]) -> Answer:
    return Answer(call.path, change_seq=7)


async def break_down(_call: Call[None, None]) -> Answer:
    raise RuntimeError("a bug with hunter2 in it")


async def refuse(_call: Call[None, None]) -> Answer:
    raise ForegateError(ErrorCode.UNAVAILABLE, "Try again later.", detail="disk full")


@pytest.fixture
def operations() -> Operations:
    operations = Operations("Test")
    add = operations.add
    add("GET", "/things/{thing_id}", echo, "Thing", scope=Scope.ANY, result={})
    add("GET", "/things/special", echo, "Special", scope=Scope.ANY, result={})
    add("PUT", "/things/{thing_id}", echo, "Thing", scope=Scope.ANY, result={})
    add("GET", "/things/{thing_id}/parts/{part_id}", echo, "Part", scope=Scope.ANY, result={})
    add("GET", "/accounts/{account_id}/things", echo, "Things", result={})
    add("GET", "/broken", break_down, "Broken", scope=Scope.ANY, result={})
    add("GET", "/refused", refuse, "Refused", scope=Scope.ANY, result={})
    return operations


@pytest.fixture
def client(operations: Operations) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app([operations], Authenticator()))
    return httpx.AsyncClient(
        transport=transport, base_url="http://api/client/v4", headers={"Authorization": "Bearer good"}
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/things/a", (["GET", "PUT"], ["a"])),
        ("/things/special", (["GET"], [])),
        ("/things/a/parts/b", (["GET"], ["a", "b"])),
        ("/things/", None),
        ("/things", None),
        ("/things/a/parts", None),
        ("/things/{}", (["GET", "PUT"], ["{}"])),
        ("", None),
        ("/", None),
        ("//", None),
    ],
)
def test_path_finds_its_operations(
    operations: Operations, path: str, found: tuple[list[str], list[str]] | None
) -> None:
    matched = Index(operations).find(path)
    assert (matched and (list(matched[0]), matched[1])) == found


def test_two_operations_of_one_path_and_method_are_a_bug(operations: Operations) -> None:
    operations.add("GET", "/things/{other}", echo, "Twice", result={})
    with pytest.raises(ValueError, match="two operations"):
        Index(operations)


async def test_answer_is_an_envelope_with_its_headers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things/a")
    assert answer.json() == {"success": True, "errors": [], "messages": [], "result": {"thing_id": "a"}}
    assert answer.headers["Foregate-Change"] == "7"
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(answer.headers["Foregate-Request-Id"]) == 16


async def test_bug_is_a_500_that_names_the_request_and_nothing_else(client: httpx.AsyncClient) -> None:
    answer = await client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["Foregate-Request-Id"] in answer.json()["errors"][0]["message"]
    assert "hunter2" not in answer.text
    assert "x-should-retry" not in answer.headers


async def test_state_that_passes_is_503_and_may_be_repeated(client: httpx.AsyncClient) -> None:
    answer = await client.get("/refused")
    assert answer.status_code == 503
    assert "disk full" not in answer.text
    assert "x-should-retry" not in answer.headers


async def test_refusal_asks_not_to_be_repeated(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nowhere")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (404, "false")


async def test_paths_beside_the_api_are_answered_in_the_envelope_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("http://api/nowhere")
    assert (answer.status_code, answer.json()["success"]) == (404, False)


async def test_log_names_the_route_and_never_the_path_or_the_query(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        await client.get(f"/accounts/{ACCOUNT}/things")
        await client.get("/things/cfast_hunter2?secret=hunter2")
        await client.get("/hunter2/nowhere")
    shown = [{name: entry.get(name) for name in ("route", "ids", "status", "actor")} for entry in logs]
    assert shown == [
        {"route": "/accounts/{account_id}/things", "ids": [ACCOUNT], "status": 200, "actor": "api_token:id"},
        {"route": "/things/{thing_id}", "ids": ["?"], "status": 400, "actor": "api_token:id"},
        {"route": "", "ids": None, "status": 404, "actor": None},
    ]
    assert "hunter2" not in str(logs)


async def test_doubled_credentials_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things/a", headers=[("Authorization", "Bearer good"), ("Authorization", "Bearer x")])
    assert answer.status_code == 400


async def test_call_without_a_body_takes_an_empty_one_only(client: httpx.AsyncClient) -> None:
    statuses = [
        (await client.request("PUT", "/things/a", content=content)).status_code
        for content in (b"", b"{}", b"null", b" {} ", b'{"a": 1}', b"x")
    ]
    assert statuses == [200, 200, 200, 200, 400, 400]


async def test_openapi_describes_what_runs(client: httpx.AsyncClient, operations: Operations) -> None:
    document: dict[str, Any] = (await client.get("http://api/openapi.json")).json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(operation.method, operation.path) for operation in operations}
    assert document["servers"] == [{"url": "/client/v4"}]
