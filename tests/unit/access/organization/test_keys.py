"""Signing keys: their form, their sealing, and the records that edges get."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from sqlalchemy import insert

from foregate.access.organization import rotation, store, writes
from foregate.access.organization.edge_config import keys_compiler
from foregate.access.organization.keys import new_signing_key, unseal_private_key
from foregate.access.organization.model import NewKey
from foregate.access.organization.rules import OVERLAP
from foregate.core.masterkey import MasterKey
from foregate.database.engine import AsyncDatabase
from foregate.database.migrate import upgrade
from foregate.database.records_schema import CONTROL_PLANE, accounts
from foregate.database.sqlite import SqliteDatabase
from foregate.edge.parsing import parse_keys
from foregate.edge.sealing import SealBroken, unseal_signing_key

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ACCOUNT = "a" * 32
MASTER = MasterKey({1: bytes(range(32))}, 1)


@pytest.fixture(scope="module")
def key() -> NewKey:
    return new_signing_key(MASTER.key_encryption_key(), NOW)


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    """Records with one account that has been set up."""
    upgrade(tmp_path / "records.db", "records")
    database = SqliteDatabase(tmp_path / "records.db", CONTROL_PLANE)
    with database.write() as connection:
        connection.execute(
            insert(accounts),
            {"id": ACCOUNT, "name": "a", "type": "standard", "settings": "{}", "created_at": 1, "updated_at": 1},
        )
        writes.OrganizationSetUp(MASTER, "auth.localhost")(connection, ACCOUNT, "test", NOW)
    return database


def kids(database: SqliteDatabase, now: datetime) -> list[str]:
    """The key ids that an edge is told of."""
    with database.read() as connection:
        value = keys_compiler(MASTER, lambda: now)(connection, ACCOUNT)
    assert value is not None
    return [one.kid for one in parse_keys(value).keys]


def rotate(database: SqliteDatabase, now: datetime) -> str:
    """Replace the key; the new one's id."""
    made = new_signing_key(MASTER.key_encryption_key(), now)
    with database.write() as connection:
        writes.rotate(connection, "test", ACCOUNT, made, now)
    return made.kid


def test_a_key_has_cloudflares_form(key: NewKey) -> None:
    assert re.fullmatch("[0-9a-f]{64}", key.kid)
    assert {name: key.jwk[name] for name in ("kid", "kty", "alg", "use", "e")} == {
        "kid": key.kid,
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "e": "AQAB",
    }
    certificate = x509.load_pem_x509_certificate(key.certificate.encode())
    public = certificate.public_key()
    assert isinstance(public, RSAPublicKey) and public.key_size == 2048
    certificate.verify_directly_issued_by(certificate)


def test_the_private_half_signs_what_the_jwk_verifies(key: NewKey) -> None:
    pem = unseal_private_key(MASTER.key_encryption_key(), key.kid, key.sealed)
    token = jwt.encode({"sub": ""}, pem, algorithm="RS256", headers={"kid": key.kid})
    assert jwt.decode(token, jwt.PyJWK(key.jwk).key, algorithms=["RS256"]) == {"sub": ""}


def test_the_private_half_is_sealed_and_bound_to_its_id(key: NewKey) -> None:
    assert b"PRIVATE" not in key.sealed and "sealed" not in repr(key)
    with pytest.raises(SealBroken):
        unseal_private_key(MASTER.key_encryption_key(), "0" * 64, key.sealed)
    with pytest.raises(SealBroken):
        unseal_private_key(bytes(32), key.kid, key.sealed)


def test_an_edge_can_open_what_it_is_sent(database: SqliteDatabase) -> None:
    with database.read() as connection:
        value = keys_compiler(MASTER, lambda: NOW)(connection, ACCOUNT)
    assert value is not None
    (sent,) = parse_keys(value).keys
    pem = unseal_signing_key(MASTER.edge_sealing_key(), sent.kid, sent.private_key)
    loaded = serialization.load_pem_private_key(pem.encode(), None)
    assert jwt.PyJWK(sent.jwk).key.public_numbers() == loaded.public_key().public_numbers()  # type: ignore[union-attr]


def test_an_account_without_an_organization_has_no_keys(database: SqliteDatabase) -> None:
    with database.read() as connection:
        assert keys_compiler(MASTER)(connection, "b" * 32) is None


def test_the_key_before_stays_published_for_a_week(database: SqliteDatabase) -> None:
    (first,) = kids(database, NOW)
    second = rotate(database, NOW)
    assert kids(database, NOW) == [second, first]
    assert kids(database, NOW + OVERLAP - timedelta(seconds=1)) == [second, first]
    assert kids(database, NOW + OVERLAP) == [second]


def test_two_rotations_take_a_key_out_of_use(database: SqliteDatabase) -> None:
    (first,) = kids(database, NOW)
    second = rotate(database, NOW)
    third = rotate(database, NOW)
    assert kids(database, NOW) == [third, second]
    with database.read() as connection:
        assert first not in [one.kid for one in store.published_keys(connection, ACCOUNT, NOW)]


def test_retired_keys_are_deleted_with_their_private_halves(database: SqliteDatabase) -> None:
    rotate(database, NOW)
    with database.write() as connection:
        assert rotation.take_back(connection, NOW) is None
        assert rotation.take_back(connection, NOW + OVERLAP) is not None
        assert rotation.take_back(connection, NOW + OVERLAP) is None
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM signing_keys").scalar_one()
    assert rows == 1


async def test_keys_are_replaced_when_they_are_due_and_not_before(database: SqliteDatabase) -> None:
    shared = AsyncDatabase(database)
    try:
        assert await rotation.rotate_due(shared, MASTER, NOW + timedelta(days=41)) is None
        (first,) = kids(database, NOW)
        due = NOW + timedelta(days=42)
        assert await rotation.rotate_due(shared, MASTER, due) is not None
        second, still = kids(database, due)
        assert still == first != second
        assert await rotation.rotate_due(shared, MASTER, due) is None
        assert await rotation.rotate_due(shared, MASTER, due + OVERLAP) is not None
        assert kids(database, due + OVERLAP) == [second]
    finally:
        shared.close()


def test_every_account_has_an_auth_domain_of_its_own(database: SqliteDatabase) -> None:
    other = "b" * 32
    with database.write() as connection:
        connection.execute(
            insert(accounts),
            {"id": other, "name": "b", "type": "standard", "settings": "{}", "created_at": 1, "updated_at": 1},
        )
        writes.OrganizationSetUp(MASTER, "auth.localhost")(connection, other, "test", NOW)
        assert store.get_organization(connection, other).draft.auth_domain == "bbbbbbbb.auth.localhost"


def test_no_private_half_stands_in_history_audit_or_outbox(database: SqliteDatabase) -> None:
    rotate(database, NOW)
    with database.read() as connection:
        for table in ("history", "audit", "outbox"):
            text = str(connection.exec_driver_sql(f"SELECT * FROM {table}").fetchall())
            assert "PRIVATE" not in text and "sealed" not in text
