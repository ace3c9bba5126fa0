"""What the store may write, against a real database with the control plane's rights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import DatabaseError

from foregate.access.tokens import edge_config, rules, store
from foregate.access.tokens.model import (
    EnabledSet,
    ExpiryMoved,
    NewToken,
    PreviousEndMoved,
    Renamed,
    SecretReplaced,
    ServiceToken,
    TokenChange,
)
from foregate.core.ids import new_client_id, new_uuid
from foregate.core.secrets import SERVICE_TOKEN_PREFIX, Digest, digest_secret, new_secret
from foregate.database import migrate
from foregate.database.records_schema import CONTROL_PLANE, service_tokens
from foregate.database.sqlite import SqliteDatabase
from foregate.edge.parsing import parse_token
from foregate.identity.issuing import create_account

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
PEPPER = b"p" * 32


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    migrate.upgrade(tmp_path / "records.db", "records")
    database = SqliteDatabase(tmp_path / "records.db", CONTROL_PLANE)
    with database.write() as opened:
        yield opened
    database.close()


@pytest.fixture
def account_id(connection: Connection) -> str:
    return create_account(connection, "Test", NOW)[0].id


def digest() -> Digest:
    return digest_secret(new_secret(SERVICE_TOKEN_PREFIX), PEPPER, 1)


@pytest.fixture
def token(connection: Connection, account_id: str) -> ServiceToken:
    return make(connection, account_id, "name")


def make(connection: Connection, account_id: str, name: str, now: datetime = NOW) -> ServiceToken:
    made = rules.issue(
        NewToken(name, "8760h"), token_id=new_uuid(), client_id=new_client_id(), account_id=account_id, now=now
    )
    store.insert_token(connection, made)
    store.insert_secret_version(connection, made.id, 1, digest(), now)
    return made


def test_token_is_read_as_it_was_written(connection: Connection, token: ServiceToken) -> None:
    assert store.find_token(connection, token.account_id, token.id) == token


@pytest.mark.parametrize(
    ("change", "columns"),
    [
        (Renamed("other"), {"name"}),
        (ExpiryMoved("1h", LATER), {"duration", "expires_at"}),
        (ExpiryMoved("forever", None), {"duration", "expires_at"}),
        (EnabledSet(False), {"is_enabled"}),
        (SecretReplaced(2, 1, LATER), {"secret_version", "previous_secret_version", "previous_secret_expires_at"}),
        (PreviousEndMoved(0, LATER), {"previous_secret_version", "previous_secret_expires_at"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "",
)
def test_change_writes_its_own_columns_and_no_other(
    connection: Connection, token: ServiceToken, change: TokenChange, columns: set[str]
) -> None:
    def row() -> dict[str, object]:
        return dict(connection.execute(select(service_tokens).where(service_tokens.c.id == token.id)).one()._mapping)

    before, later = row(), NOW + timedelta(minutes=1)
    store.apply_change(connection, token.id, change, later)
    after = row()
    assert {name for name in before if before[name] != after[name]} == columns | {"updated_at"}
    expected = rules.evolve(token, (change,), later)
    assert store.find_token(connection, token.account_id, token.id) == expected


def test_change_of_a_deleted_token_is_a_bug(connection: Connection, token: ServiceToken) -> None:
    store.mark_deleted(connection, token.id, NOW)
    with pytest.raises(RuntimeError, match="must find its token"):
        store.apply_change(connection, token.id, Renamed("other"), NOW)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE secret_versions SET digest = zeroblob(32)",
        "UPDATE secret_versions SET version = 9",
        "DELETE FROM secret_versions",
        "INSERT OR REPLACE INTO secret_versions VALUES ((SELECT id FROM service_tokens), 1, zeroblob(32), 1, 0)",
        "UPDATE service_tokens SET client_id = 'x'",
        "UPDATE service_tokens SET account_id = 'x'",
        "DELETE FROM service_tokens",
    ],
)
def test_nothing_can_rewrite_a_secret_or_an_identity(
    connection: Connection, token: ServiceToken, statement: str
) -> None:
    with pytest.raises(DatabaseError):
        connection.exec_driver_sql(statement)
    assert [row.version for row in store.find_for_edge(connection, token.client_id)] == [1]


def test_version_is_issued_once(connection: Connection, token: ServiceToken) -> None:
    with pytest.raises(Exception, match=r"UNIQUE|append-only"):
        store.insert_secret_version(connection, token.id, 1, digest(), NOW)


def test_lists_are_by_age_and_hide_the_deleted_and_the_foreign(connection: Connection, account_id: str) -> None:
    other = create_account(connection, "Other", NOW)[0].id
    made = [make(connection, account_id, f"n{n}", NOW + timedelta(seconds=n)) for n in range(5)]
    make(connection, other, "n1")
    store.mark_deleted(connection, made[3].id, LATER)

    def names(**asked: object) -> tuple[list[str], int]:
        options = {"name": None, "search": None, "offset": 0, "limit": 100, **asked}
        found, total = store.list_tokens(connection, account_id, **options)  # type: ignore[arg-type]
        return [token.name for token in found], total

    assert names() == (["n0", "n1", "n2", "n4"], 4)
    assert names(offset=1, limit=2) == (["n1", "n2"], 4)
    assert names(offset=9) == ([], 4)
    assert names(name="n1") == (["n1"], 1)
    assert names(name="N1") == ([], 0)
    assert names(search="N") == (["n0", "n1", "n2", "n4"], 4)
    assert names(search="%") == ([], 0)
    assert names(search="_") == ([], 0)


def test_edge_record_holds_what_is_alive(connection: Connection, token: ServiceToken) -> None:
    store.apply_change(connection, token.id, SecretReplaced(2, 1, LATER), NOW)
    store.insert_secret_version(connection, token.id, 2, digest(), NOW)
    value = edge_config.compile_record(connection, token.client_id)
    assert value is not None
    parsed = parse_token(value)
    assert [(secret.version, secret.expires_at) for secret in parsed.secrets] == [
        (2, None),
        (1, int(LATER.timestamp())),
    ]
    assert (parsed.token_id, parsed.account_id, parsed.is_enabled) == (token.id, token.account_id, True)


def test_edge_record_of_a_declared_overlap_holds_one_secret(connection: Connection, account_id: str) -> None:
    made = replace(
        rules.issue(
            NewToken("declared", "forever", secret_version=2, previous_secret_expires_at=LATER),
            token_id=new_uuid(),
            client_id=new_client_id(),
            account_id=account_id,
            now=NOW,
        )
    )
    store.insert_token(connection, made)
    store.insert_secret_version(connection, made.id, 2, digest(), NOW)
    value = edge_config.compile_record(connection, made.client_id)
    assert value is not None
    assert ([secret["version"] for secret in value["secrets"]], value["expires_at"]) == ([2], None)


def test_edge_record_of_a_deleted_token_is_a_tombstone(connection: Connection, token: ServiceToken) -> None:
    store.mark_deleted(connection, token.id, NOW)
    assert edge_config.compile_record(connection, token.client_id) is None
    assert edge_config.compile_record(connection, new_client_id()) is None


def test_token_without_its_secret_never_becomes_a_record(connection: Connection, token: ServiceToken) -> None:
    store.apply_change(connection, token.id, SecretReplaced(2, 1, LATER), NOW)
    with pytest.raises(RuntimeError, match="has no secret of version 2"):
        edge_config.compile_record(connection, token.client_id)
