"""The whole life of a token, its application, policies, group and tunnel, by each official SDK, unmodified.

The programs in the folders beside this file do the calls and stop after each step; here every answer is looked at, and
so is the edge, which must follow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.clients import Program, go_program, python_program, running_program, typescript_program
from harness.origin import Origin
from harness.product import Foregate
from harness.things import Token, unique, until_status

PROGRAMS = {
    "python": python_program,
    "typescript": typescript_program,
    "go-v7": lambda: go_program("v7"),
    "go-v0": lambda: go_program("v0"),
}


@dataclass(slots=True)
class Walk:
    """One run of a program, and what is known of its things."""

    program: Program
    foregate: Foregate
    prefix: str
    host: str
    token: Token = field(default_factory=lambda: Token("", "", ""))

    def accepts(self, token: Token) -> None:
        """The edge lets the token in."""
        until_status(self.foregate, self.host, token, 200)

    def refuses(self, token: Token) -> None:
        """The edge does not know the token any more."""
        until_status(self.foregate, self.host, token, 401)

    def rotated(self, step: str, version: int) -> Token:
        """Take a step that must issue a new secret."""
        shown = self.program.step(step)
        assert shown["client_id"] == self.token.client_id
        assert shown["client_secret"].startswith("cfast_") and len(shown["client_secret"]) == 54
        assert shown["client_secret"] != self.token.secret
        assert shown.get("client_secret_version", version) == version
        self.foregate.issued.append(shown["client_secret"])
        return self.token.with_secret(shown["client_secret"])


@pytest.fixture(params=PROGRAMS)
def walk(request: pytest.FixtureRequest, foregate: Foregate, origin: Origin) -> Iterator[Walk]:
    command = PROGRAMS[request.param]()
    prefix = unique(request.param)
    host = f"{prefix}.localhost"
    environment = {
        **os.environ,
        "CLOUDFLARE_BASE_URL": foregate.base_url,
        "CLOUDFLARE_API_TOKEN": foregate.admin_token,
        "CLOUDFLARE_ACCOUNT_ID": foregate.account_id,
        "LIFE_CYCLE_PREFIX": prefix,
        "LIFE_CYCLE_HOSTNAME": host,
        "LIFE_CYCLE_ORIGIN": origin.service,
    }
    with running_program(command, environment) as program:
        yield Walk(program, foregate, prefix, host)


def test_whole_life_cycle_with_the_unmodified_sdk(walk: Walk) -> None:
    identity = walk.program.step("identity")
    assert identity["status"] == "active"
    assert identity["account_id"] == walk.foregate.account_id
    assert walk.foregate.account_id in identity["accounts"]

    check_things(walk)
    check_rotations(walk)
    check_switches(walk)
    check_settings(walk)
    check_end(walk)
    walk.program.end()


def check_things(walk: Walk) -> None:
    token = walk.program.step("token")
    assert token["name"] == f"{walk.prefix} token"
    assert token["duration"] == "2160h"
    walk.token = Token(token["id"], token["client_id"], token["client_secret"])
    walk.foregate.issued.append(token["client_secret"])

    tunnel = walk.program.step("tunnel")
    assert tunnel["id"] in tunnel["listed"]
    assert [rule["service"] for rule in tunnel["ingress"]][-1] == "http_status:404"
    assert tunnel["ingress"][0]["hostname"] == walk.host

    group = walk.program.step("group")
    assert group["include"] == [{"service_token": {"token_id": walk.token.id}}]
    assert group["exclude"] == [{"ip": {"ip": "192.0.2.0/24"}}]
    policy = walk.program.step("policy")
    assert policy["decision"] == "non_identity"
    assert policy["include"] == [{"group": {"id": group["id"]}}]

    app = walk.program.step("app")
    assert app["domain"] == walk.host
    assert app["session_duration"] == "1h"
    assert len(app["aud"]) == 64
    assert [(link["id"], link["precedence"]) for link in app["policies"]] == [(policy["id"], 1)]
    walk.accepts(walk.token)
    until_status(walk.foregate, walk.host, None, 403)

    changed = walk.program.step("app changed")
    assert changed["service_auth_401_redirect"] is True
    assert changed["aud"] == app["aud"]
    assert [link["id"] for link in changed["policies"]] == [policy["id"]], "left out policies are kept"
    until_status(walk.foregate, walk.host, None, 401)

    listed = walk.program.step("listed")
    for kind, thing in (("tokens", token), ("apps", app), ("policies", policy), ("groups", group)):
        assert thing["id"] in listed[kind]
        assert len(set(listed[kind])) == len(listed[kind]), f"{kind} came twice"


def check_rotations(walk: Walk) -> None:
    renamed = walk.program.step("renamed")
    assert renamed["name"] == f"{walk.prefix} renamed"
    assert not renamed.get("client_secret")
    walk.accepts(walk.token)

    second = walk.rotated("rotated with overlap", 2)
    walk.accepts(second)
    walk.accepts(walk.token)

    ended = walk.program.step("previous secret ended")
    assert not ended.get("client_secret")
    walk.refuses(walk.token)
    walk.accepts(second)

    third = walk.rotated("rotated at once", 3)
    walk.accepts(third)
    walk.refuses(second)

    fourth = walk.rotated("rotated by version", 4)
    walk.accepts(fourth)
    walk.accepts(third)

    repeated = walk.program.step("version repeated")
    assert not repeated.get("client_secret"), "the same version again must not rotate"
    walk.accepts(fourth)
    walk.token = replace(walk.token, secret=fourth.secret)


def check_switches(walk: Walk) -> None:
    refreshed = walk.program.step("refreshed")
    expires_at = datetime.fromisoformat(refreshed["expires_at"])
    # A year more than the 90 days that it had.
    assert abs(expires_at - datetime.now(UTC) - timedelta(days=365 + 90)) < timedelta(days=2)
    walk.accepts(walk.token)

    # The old Go SDK has no field for it.
    if not walk.prefix.startswith("go-v0"):
        assert walk.program.step("disabled").get("enabled") is False
        walk.refuses(walk.token)
        assert walk.program.step("enabled").get("enabled") is True
        walk.accepts(walk.token)

    forever = walk.program.step("forever")
    assert forever["created"]["duration"] == "forever"
    assert not forever["created"].get("expires_at")
    assert forever["deleted_id"] == forever["created"]["id"]
    walk.foregate.issued.append(forever["created"]["client_secret"])

    refusals: dict[str, Any] = walk.program.step("refusals")
    assert refusals["in_use"] == {"status": 400, "code": 12139}
    assert refusals["bad_duration"] == {"status": 400, "code": 12130}
    assert refusals["unknown"]["status"] == 404


def check_settings(walk: Walk) -> None:
    organization = walk.program.step("organization")
    assert organization["auth_domain"] == "auth.localhost"
    assert organization["name"] == f"{walk.prefix} organization"
    walk.accepts(walk.token)

    keys = walk.program.step("keys")
    assert keys["after"]["key_rotation_interval_days"] == 42
    before, after = (datetime.fromisoformat(keys[when]["last_key_rotation_at"]) for when in ("before", "after"))
    assert before <= after, "in whole seconds"
    walk.accepts(walk.token)

    # A log may be behind the requests, so what an entry holds is looked at elsewhere; here it must be readable.
    assert isinstance(walk.program.step("requests"), list)


def check_end(walk: Walk) -> None:
    removed = walk.program.step("removed")
    assert removed["token"] == walk.token.id
    assert all(removed[kind] for kind in ("app", "policy", "group", "tunnel"))
    assert removed["gone"]["status"] == 404
    until_status(walk.foregate, walk.host, walk.token, 403)  # no application there any more
