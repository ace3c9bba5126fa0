"""Workers get what they ask for, nobody else does, and nothing is remembered of a token that has changed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from edge_values import ACCOUNT, account, app, client_id, policy, secret_version, token
from foregate.access.haproxy_maps import token_entry
from foregate.edge.assertions import Assertions, InForce
from foregate.edge.base_map import BaseMap
from foregate.edge.config_records import ConfigRecords
from foregate.edge.fleet import Fleet
from foregate.edge.hot_entries import Candidate, HotEntries
from foregate.edge.paths import EdgePaths
from foregate.edge.sealing import seal_signing_key
from foregate.edge.secrets import EdgeSecrets
from foregate.edge.token_maps import TokenMaps
from foregate.edge.wire import KeysValue, SigningKey
from foregate.engines.haproxy.maps import secret_tag
from foregate.engines.haproxy.process import Workers

BASE = BaseMap(1, Path("unused"), 1)
SECRETS = EdgeSecrets({1: bytes(32)}, bytes(32), os.urandom(32))
APP_ID, POLICY_ID = "00000000-0000-4000-8000-0000000000a1", "00000000-0000-4000-8000-0000000000b1"
APP = app("app.test/admin", policies=[policy(POLICY_ID, "non_identity")])
METADATA = json.dumps({"metadata": True, "app": APP_ID, "host": "app.test"}).encode() + b"\n"
NOW = 1_900_000_000
TAG = secret_tag(bytes.fromhex(secret_version(1).digest), 1)


@cache
def keys() -> KeysValue:
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    n = base64.urlsafe_b64encode(key.public_key().public_numbers().n.to_bytes(256, "big")).rstrip(b"=").decode()
    jwk = {"kid": "k", "kty": "RSA", "alg": "RS256", "use": "sig", "e": "AQAB", "n": n}
    return KeysValue((SigningKey("k", jwk, "", seal_signing_key(SECRETS.sealing_key, "k", pem)),))


class Edge:
    """An agent's signing part without workers; tokens by client id."""

    def __init__(self, folder: Path) -> None:
        paths = EdgePaths(folder, folder / "own", folder, folder)
        self.fleet = Fleet(Workers(Path("/nonexistent")), paths, lambda _: None)
        self.maps = TokenMaps(self.fleet)
        self.tokens: dict[str, str] = {client_id(1): token_entry(client_id(1), token(1))}
        self.workers = {os.getpid()}
        self.now = float(NOW)
        self.assertions = Assertions(
            self.maps,
            HotEntries(self.fleet, self.maps),
            self._entry,
            self.workers.__contains__,
            clock=lambda: self.now,
        )
        records = ConfigRecords({APP_ID: APP}, {}, {ACCOUNT: account(auth_domain="auth.test")}, {ACCOUNT: keys()})
        self.assertions.put_in_force(InForce(records, SECRETS))

    async def _entry(self, name: str) -> str | None:
        return self.tokens.get(name)

    async def ask(self, **changes: object) -> tuple[dict[str, Any], Candidate | None]:
        asked = {
            "app": APP_ID,
            "client_id": client_id(1),
            "policy": POLICY_ID,
            "session": 3600,
            "tag": TAG,
            "hot": "KEY",
        }
        return await self.assertions.answer(json.dumps({**asked, **changes}).encode() + b"\n")


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    found = Edge(tmp_path)
    yield found
    found.assertions.close()


def claims(text: object) -> dict[str, Any]:
    options = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
    return jwt.decode(str(text), jwt.PyJWK(keys().keys[0].jwk), ["RS256"], options=options)


async def test_an_assertion_says_who_and_for_whom(edge: Edge) -> None:
    answer, candidate = await edge.ask()
    assert claims(answer["assertion"]) == {
        "type": "app",
        "aud": ["f" * 64],
        "iss": "https://auth.test",
        "iat": NOW,
        "exp": NOW + 3600,
        "sub": "",
        "common_name": client_id(1),
    }
    assert NOW + 3600 * 0.6 <= answer["refresh_at"] <= NOW + 3600 * 0.8
    assert candidate is not None
    assert candidate.line.key == "KEY"
    assert candidate.line.value.endswith(answer["assertion"])


async def test_it_is_signed_once_until_it_should_be_refreshed(edge: Edge) -> None:
    first, _ = await edge.ask()
    again, _ = await edge.ask()
    assert again == first
    edge.now = float(first["refresh_at"])
    later, _ = await edge.ask()
    assert claims(later["assertion"])["iat"] == first["refresh_at"]


async def test_a_session_of_no_length_is_still_of_use_to_an_origin(edge: Edge) -> None:
    answer, _ = await edge.ask(session=0)
    assert claims(answer["assertion"])["exp"] == NOW + 60


async def test_a_token_that_changed_since_is_answered_but_not_remembered(edge: Edge) -> None:
    del edge.tokens[client_id(1)]
    answer, candidate = await edge.ask()
    assert "assertion" in answer
    assert candidate is None
    edge.tokens[client_id(1)] = token_entry(client_id(1), token(1, is_enabled=False))
    assert (await edge.ask())[1] is None
    edge.tokens[client_id(1)] = token_entry(client_id(1), token(1, secrets=(secret_version(1, 2),)))
    assert (await edge.ask())[1] is None


async def test_what_may_be_remembered_ends_with_the_next_change_or_fold(edge: Edge) -> None:
    edge.maps.load([], BASE)
    _, candidate = await edge.ask()
    assert candidate is not None
    facts = (candidate.client_id, candidate.entry, candidate.stamp)
    assert edge.maps.is_current(*facts)
    await edge.maps.push({client_id(1): None}, must_recheck=True)
    assert not edge.maps.is_current(*facts)
    edge.maps.begin_fold()
    await edge.maps.end_fold(BASE)
    assert not edge.maps.is_current(*facts), "the overlay no longer tells, so the stamp has to"


async def test_cloudflared_gets_metadata(edge: Edge) -> None:
    answer, candidate = await edge.assertions.answer(METADATA)
    assert candidate is None
    assert claims(answer["assertion"]) == {
        "type": "match",
        "hostname": "app.test",
        "auth_domain": "auth.test",
        "aud": "f" * 64,
        "app_hostname": "app.test",
        "iat": NOW,
    }


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'{"app":"x"}\n',
        b"\xff\n",
        b'{"metadata":true,"app":"nobody","host":"x"}\n',
    ],
)
async def test_what_is_no_question_gets_no_assertion(edge: Edge, line: bytes) -> None:
    assert await edge.assertions.answer(line) == ({}, None)


async def test_an_application_that_is_not_known_gets_no_assertion(edge: Edge) -> None:
    assert (await edge.ask(app="app2"))[0] == {}


async def test_only_our_own_workers_are_answered(edge: Edge, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    await edge.assertions.start(path, None)
    assert path.stat().st_mode & 0o077 == 0

    async def ask() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(METADATA)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    assert b"assertion" in await ask()
    edge.workers.clear()
    assert await ask() == b""
