"""The served OpenAPI is true: schemathesis makes requests of it, good and bad, and checks every answer against it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.product import Foregate, running_foregate

SECONDS = int(os.environ.get("TEST_OPENAPI_SECONDS", "45"))
SEED = os.environ.get("TEST_SEED", "1")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
)
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def served() -> Iterator[Foregate]:
    """A Foregate of its own: the requests create, change and delete whatever they find."""
    with running_foregate() as foregate:
        yield foregate


@pytest.fixture(scope="module")
def document(served: Foregate) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.api_port}/openapi.json", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_document_names_every_call_of_the_first_issue(document: dict[str, Any]) -> None:
    account = "/accounts/{account_id}"
    calls = {
        (method, path.replace("{service_token_id}", "{id}"))
        for path, operations in document["paths"].items()
        for method in METHODS & operations.keys()
    }
    paths = {path for _, path in calls}
    assert ("get", "/user/tokens/verify") in calls
    assert {("get", "/accounts"), ("post", "/accounts"), ("get", account), ("put", account)} <= calls
    tokens = f"{account}/access/service_tokens"
    assert {
        ("get", tokens),
        ("post", tokens),
        ("get", f"{tokens}/{{id}}"),
        ("put", f"{tokens}/{{id}}"),
        ("delete", f"{tokens}/{{id}}"),
        ("post", f"{tokens}/{{id}}/refresh"),
        ("post", f"{tokens}/{{id}}/rotate"),
    } <= calls
    for start in (
        "access/apps",
        "access/policies",
        "access/groups",
        "access/organizations",
        "access/keys",
        "cfd_tunnel",
    ):
        assert f"{account}/{start}" in paths
    assert f"{account}/access/logs/access_requests" in paths


def test_every_call_says_what_it_answers_and_how_one_is_let_in(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method in METHODS & operations.keys():
            operation = operations[method]
            assert operation["summary"], path
            assert any(status.startswith("2") for status in operation["responses"]), path
            assert {"400", "401"} <= set(operation["responses"]), path
            assert operation.get("security") or document.get("security"), path


def test_answers_hold_no_member_that_the_document_leaves_out(served: Foregate, document: dict[str, Any]) -> None:
    api = served.api()
    token = api.result("POST", "/access/service_tokens", {"name": "rotated by a PUT"})
    raised = {"client_secret_version": 2}
    one = "/access/service_tokens/{service_token_id}"
    asked: list[tuple[str, str, Any]] = [
        ("PUT", one, raised),
        ("GET", one, None),
        ("POST", one + "/rotate", {}),
        *(("GET", path, None) for path in LISTS),
    ]
    for method, path, body in asked:
        answer = api.account(method, path.replace("{service_token_id}", token["id"]), body)
        described = document["paths"]["/accounts/{account_id}" + path][method.lower()]["responses"][str(answer.status)]
        schema = described["content"]["application/json"]["schema"]
        assert not list(left_out(document, schema, answer.json(), "")), f"{method} {path}"


LISTS = (
    "/access/service_tokens",
    "/access/apps",
    "/access/organizations",
    "/access/keys",
    "/access/logs/access_requests",
    "/cfd_tunnel",
    "/foregate/events",
    "/foregate/edges",
    "/foregate/pipeline",
)


def left_out(document: dict[str, Any], schema: dict[str, Any], value: Any, place: str) -> Iterator[str]:
    """The members of `value` that `schema` does not name, where it names any."""
    schema = resolved(document, schema)
    kinds = [resolved(document, kind) for kind in schema.get("anyOf", [])]
    if kinds:
        schema = next((kind for kind in kinds if kind.get("type") == JSON_TYPES.get(type(value))), {})
    if isinstance(value, list):
        for item in value:
            yield from left_out(document, schema.get("items", {}), item, f"{place}[]")
    elif isinstance(value, dict):
        parts = [resolved(document, part) for part in schema.get("allOf", [schema])]
        named = {name: member for part in parts for name, member in part.get("properties", {}).items()}
        for name, member in value.items():
            if name in named:
                yield from left_out(document, named[name], member, f"{place}.{name}")
            elif named:
                yield f"{place}.{name}"


JSON_TYPES = {dict: "object", list: "array"}


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, a reference followed."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def test_answers_are_as_the_document_says(served: Foregate, document: dict[str, Any], tmp_path: Path) -> None:
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(about_one_account(document, served.account_id)))
    # The token goes by a configuration file and the environment, not by the command line.
    config = tmp_path / "schemathesis.toml"
    config.write_text('headers = { Authorization = "Bearer ${TEST_API_TOKEN}" }\n')
    config.chmod(0o600)
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            f"--config-file={config}",
            "run",
            str(schema),
            f"--url=http://127.0.0.1:{served.api_port}{document['servers'][0]['url']}",
            "--phases=examples,coverage,fuzzing",
            f"--checks={','.join(CHECKS)}",
            f"--max-time={SECONDS}",
            f"--seed={SEED}",
            # Two threads that parse source at once make CPython 3.11 fail now and then: gh-106905.
            "--workers=1",
            "--no-color",
        ],
        env={**os.environ, "TEST_API_TOKEN": served.admin_token},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=SECONDS * 6,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def about_one_account(document: dict[str, Any], account_id: str) -> dict[str, Any]:
    """The document with the account that there is as the only right one, so that requests get further than a 404."""
    found = copy.deepcopy(document)
    for operations in found["paths"].values():
        for method in METHODS & operations.keys():
            for parameter in operations[method].get("parameters", []):
                if parameter["name"] == "account_id":
                    parameter["schema"] = {"type": "string", "enum": [account_id]}
    return found
