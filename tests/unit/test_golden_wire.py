"""Samples of edge records' values, one per kind and version, decode for ever: an edge may be older or newer than what
wrote a record. A sample is never changed; a format that grows gets another one (`<kind>.2.json`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from foregate.access.applications.edge_config import application_value
from foregate.access.applications.model import (
    AnyValidServiceToken,
    Application,
    ApplicationDraft,
    Conditions,
    Everyone,
    GroupMember,
    LinkedPolicy,
    Network,
    Policy,
    PolicyDecision,
    PolicyDraft,
    Selector,
    ServiceToken,
)
from foregate.access.organization.edge_config import account_value
from foregate.access.organization.model import OrganizationDraft
from foregate.edge.parsing import parse_account, parse_app, parse_edge, parse_ingress, parse_keys, parse_token
from foregate.edge.secrets import EdgeSecrets, open_secrets_with
from foregate.edge.wire import AccountValue, AppValue, EdgeValue, IngressValue, KeysValue, TokenValue
from foregate.tunnels.edge_config import ingress_value
from foregate.tunnels.model import Configuration

SAMPLES = sorted((Path(__file__).parents[1] / "golden" / "wire").glob("*.json"))
NOW = datetime(2026, 11, 1, tzinfo=UTC)
ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKEN = ServiceToken("token")
Value = TokenValue | AppValue | IngressValue | KeysValue | AccountValue | EdgeValue
PARSERS: dict[str, Callable[[dict[str, Any]], Value]] = {
    "token": parse_token,
    "app": parse_app,
    "ingress": parse_ingress,
    "keys": parse_keys,
    "account": parse_account,
    "edge": parse_edge,
}

# A sealed box opens for ever too: made once with this private key.
SEALING_KEY = bytes.fromhex("8008525a8a44e40792abbc30f4349e29783b118260b639e0af1b3410847e6249")
EDGE_ID = "00000000-0000-4000-8000-0000000000ed"


def sample(name: str) -> Any:
    """The sample's value."""
    return json.loads((SAMPLES[0].parent / name).read_text())


def holds(part: Any, whole: Any) -> bool:
    """Whether `whole` has all that `part` has; objects may have grown."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and holds(part[name], whole[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) == len(whole) and all(map(holds, part, whole))
    return bool(part == whole)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_decodes_and_nothing_of_it_is_lost(path: Path) -> None:
    value = json.loads(path.read_text())
    parsed = PARSERS[path.name.partition(".")[0]](value)
    assert holds(value, parsed.to_wire())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_with_members_of_a_newer_writer_decodes_the_same(path: Path) -> None:
    parse = PARSERS[path.name.partition(".")[0]]
    value = json.loads(path.read_text())
    assert parse({**value, "from_the_future": {"x": 1}}) == parse(value)


def test_every_kind_has_a_sample() -> None:
    assert {path.name.partition(".")[0] for path in SAMPLES} == set(PARSERS)


def test_an_application_is_still_written_as_its_sample() -> None:
    def policy(number: int, policy_id: str, decision: str, conditions: Conditions, session: str | None) -> LinkedPolicy:
        draft = PolicyDraft("p", PolicyDecision(decision), conditions, session)
        return LinkedPolicy(Policy(policy_id, ACCOUNT, None, draft, NOW, NOW), number)

    include: tuple[Selector, ...] = (TOKEN, AnyValidServiceToken(), GroupMember("g"))
    first = Conditions(include, require=(Network("2001:DB8::/32"),), exclude=(Network("192.0.2.0/24"),))
    value = sample("app.1.json")
    one, two, three = (policy["id"] for policy in value["policies"])
    application = Application(
        id="app",
        account_id=ACCOUNT,
        aud=value["aud"],
        draft=ApplicationDraft(
            name="App",
            domain="App.example.com/admin/",
            uris=("*.example.com",),
            patterns=("app.example.com/admin", "*.example.com"),
            session_duration=None,
            answers_401=True,
            token_header="Authorization",
        ),
        policies=(
            policy(1, one, "non_identity", first, "30m"),
            policy(2, two, "bypass", Conditions((Network("198.51.100.7"),)), None),
            policy(9, three, "deny", Conditions((Everyone(),)), None),
        ),
        created_at=NOW,
        updated_at=NOW,
    )
    groups = {"g": Conditions((Everyone(),), require=(TOKEN,))}
    tokens = {"token": "88bf3b6d86161464f6509f7219099e57.access"}
    assert application_value(application, groups, tokens, "12h").to_wire() == value


def test_ingress_is_still_written_as_its_sample() -> None:
    origin = {
        "connectTimeout": 3,
        "tcpKeepAlive": 20,
        "keepAliveConnections": 10,
        "keepAliveTimeout": 60,
        "httpHostHeader": "origin.internal:81",
        "originServerName": "origin.example.com",
        "matchSNItoHost": True,
        "noTLSVerify": True,
        "http2Origin": True,
    }
    given = {
        "ingress": [
            {"hostname": "app.example.com", "path": "^/api", "service": "https://origin", "originRequest": origin},
            {"service": "http_status:404"},
        ],
        "originRequest": {"tlsTimeout": 4},
    }
    value = ingress_value(ACCOUNT, Configuration(given, {}, 1, NOW), "app.example.com")
    assert value.to_wire() == sample("ingress.1.json")


def test_an_account_is_still_written_as_its_sample() -> None:
    draft = OrganizationDraft("x", "Auth.example.com", None, False, ("www.example.com",))
    assert account_value(draft).to_wire() == sample("account.1.json")


def test_the_secrets_in_the_sample_of_an_edge_still_open() -> None:
    secrets = open_secrets_with(parse_edge(sample("edge.1.json")).sealed, EDGE_ID, SEALING_KEY)
    assert secrets == EdgeSecrets({1: bytes(range(32)), 2: bytes(range(32, 64))}, b"m" * 32, b"s" * 32)
