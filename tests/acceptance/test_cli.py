"""The command line against a running Foregate: what a person does with tokens, applications, policies and rules."""

from __future__ import annotations

import json
import re
from typing import Any

from harness.origin import Origin
from harness.product import Foregate
from harness.things import unique
from harness.waiting import until

SECRET = re.compile(rb"cfast_[0-9A-Za-z]{40}[0-9a-f]{8}")


def run(foregate: Foregate, *arguments: str) -> Any:
    """A command that must succeed; its JSON."""
    done = foregate.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def refused(foregate: Foregate, code: int, *arguments: str) -> str:
    """A command that must fail with that exit code and one sentence."""
    done = foregate.run(*arguments)
    assert done.returncode == code, done.stderr.decode()
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    return done.stderr.decode()


def test_a_token_from_creation_to_revocation(foregate: Foregate) -> None:
    name = unique("cli")
    made = run(foregate, "token", "create", name, "--duration", "24h")
    foregate.issued.append(made["client_secret"])
    assert made["duration"] == "24h"
    for text in (name, made["id"], made["client_id"]):
        assert run(foregate, "token", "show", text)["id"] == made["id"]
    rotated = run(foregate, "token", "rotate", name, "--keep-old", "1h")
    foregate.issued.append(rotated["client_secret"])
    assert rotated["client_secret_version"] == 2
    assert rotated["previous_client_secret_expires_at"]
    assert run(foregate, "token", "disable", name)["enabled"] is False
    assert run(foregate, "token", "enable", name)["enabled"] is True
    assert run(foregate, "token", "refresh", name)["expires_at"] > made["expires_at"]
    assert [token["id"] for token in run(foregate, "token", "list", "--search", name)] == [made["id"]]
    run(foregate, "token", "revoke", name)
    assert name in refused(foregate, 3, "token", "show", name)


def test_a_secret_goes_to_stdout_alone_and_nowhere_again(foregate: Foregate) -> None:
    name = unique("cli")
    for arguments in (("create", name), ("rotate", name)):
        done = foregate.run("token", *arguments)
        assert SECRET.fullmatch(done.stdout.strip())
        foregate.issued.append(done.stdout.strip().decode())
        assert not SECRET.search(done.stderr)
        assert name.encode() in done.stderr
    for arguments in (("token", "show", name), ("token", "list"), ("token", "disable", name)):
        assert not SECRET.search(foregate.run(*arguments).stdout)


def test_an_application_with_its_rule_and_policies(foregate: Foregate, origin: Origin) -> None:
    token, app, policy = unique("cli"), unique("cli"), unique("cli")
    host = f"{app}.localhost"
    made = run(foregate, "token", "create", token)
    foregate.issued.append(made["client_secret"])
    headers = [("CF-Access-Client-Id", made["client_id"]), ("CF-Access-Client-Secret", made["client_secret"])]
    run(foregate, "app", "create", app, host, "--allow", token)
    run(foregate, "ingress", "set", host, origin.service)
    until(lambda: foregate.get(host, "/", headers).status == 200, 10, "the token is let in")
    assert foregate.get(host, "/").status == 403

    assert [rule["service"] for rule in run(foregate, "ingress", "list") if rule["hostname"] == host] == [
        origin.service
    ]
    run(foregate, "policy", "create", policy, "--app", host, "--decision", "bypass", "--include", "ip:127.0.0.0/8")
    until(lambda: foregate.get(host, "/").status == 200, 10, "the address is passed by")
    run(foregate, "policy", "delete", policy, "--app", app)
    until(lambda: foregate.get(host, "/").status == 403, 10, "the address is not passed by any more")
    assert "named by policy" in refused(foregate, 1, "token", "revoke", token)

    run(foregate, "ingress", "delete", host)
    until(lambda: foregate.get(host, "/", headers).status == 502, 10, "nothing answers for the host")
    run(foregate, "app", "delete", app)
    run(foregate, "token", "revoke", token)


def test_every_change_says_how_to_follow_it(foregate: Foregate) -> None:
    token, app, policy = unique("cli"), unique("cli"), unique("cli")
    host = f"{app}.localhost"
    for arguments in (
        ("token", "create", token),
        ("token", "rotate", token),
        ("token", "refresh", token),
        ("token", "disable", token),
        ("app", "create", app, host),
        ("policy", "create", policy, "--app", app, "--include", "any-token"),
        ("ingress", "set", host, "http://127.0.0.1:1"),
        ("ingress", "delete", host),
        ("policy", "delete", policy, "--app", app),
        ("app", "delete", app),
        ("keys", "rotate"),
        ("token", "revoke", token),
    ):
        done = foregate.run(*arguments)
        assert done.returncode == 0, done.stderr.decode()
        if arguments[1] in ("create", "rotate") and arguments[0] == "token":
            foregate.issued.append(done.stdout.strip().decode())
        told = re.search(rb"foregate (change show [0-9]+)$", done.stderr.strip())
        assert told is not None, (arguments, done.stderr)
        assert run(foregate, *told[1].decode().split(), "--wait", "10")["edges"][0]["state"] == "applied"


def test_events_edges_and_receipts(foregate: Foregate) -> None:
    asked = unique("cli")
    foregate.get("echo.localhost", f"/{asked}")

    def shown() -> dict[str, Any] | None:
        lines = foregate.run("events", "tail", "--json", "--app", "echo.localhost", "--outcome", "refused").stdout
        events = [json.loads(line) for line in lines.splitlines()]
        return next((event for event in events if event["path"] == f"/{asked}"), None)

    event = until(shown, 10, "the decision is shown")
    assert (event["reason"], event["status"], event["method"]) == ("no_credentials", 403, "GET")
    (edge,) = run(foregate, "edge", "list")
    assert edge["is_reporting"] is True
    receipt = run(foregate, "change", "show", str(edge["applied_seq"]), "--wait", "10")
    assert [(at["name"], at["state"]) for at in receipt["edges"]] == [(edge["name"], "applied")]


def test_an_api_token_for_somebody_else(foregate: Foregate) -> None:
    name = unique("cli")
    done = foregate.run(
        "api-token", "create", name, "--account", foregate.account_id, "--read-only", "--duration", "1h"
    )
    token = done.stdout.strip().decode()
    assert re.fullmatch(r"cfat_[0-9A-Za-z]{40}[0-9a-f]{8}", token)
    foregate.issued.append(token)
    assert token not in done.stderr.decode()
    (listed,) = [one for one in run(foregate, "api-token", "list") if one["name"] == name]
    assert (listed["account_id"], listed["permissions"]) == (foregate.account_id, ["read"])
    theirs = foregate.api(token)
    assert theirs.result("GET", "/access/service_tokens")
    assert theirs.account("POST", "/access/service_tokens", {"name": "x"}).status == 403
    run(foregate, "api-token", "revoke", listed["id"])
    assert theirs.account("GET", "/access/service_tokens").status == 401
    refused(foregate, 2, "api-token", "revoke", "../x")


def test_keys_rotate(foregate: Foregate) -> None:
    assert (
        run(foregate, "keys", "rotate")["last_key_rotation_at"] >= run(foregate, "keys", "show")["last_key_rotation_at"]
    )


def test_refusals_have_their_exit_codes(foregate: Foregate) -> None:
    assert "duration" in refused(foregate, 1, "token", "create", "x", "--duration", "soon")
    refused(foregate, 3, "app", "show", "nobody")
    refused(foregate, 3, "change", "show", "999999999")
    refused(foregate, 3, "ingress", "delete", "nobody.localhost")
    refused(foregate, 2, "policy", "create", "x", "--include", "somebody")
