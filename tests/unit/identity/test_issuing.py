"""What the first start makes: rows without secrets, secrets that open, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from foregate.api.auth import Permission
from foregate.core.masterkey import MasterKey
from foregate.core.secrets import API_TOKEN_PREFIX, EDGE_KEY_PREFIX, new_secret, parse_secret
from foregate.database import migrate
from foregate.database.engine import AsyncDatabase
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase
from foregate.identity import edges_store, issuing, store
from foregate.identity.credentials import Credentials

NOW = datetime(2026, 11, 23, tzinfo=UTC)
MASTER_KEY = MasterKey({1: b"m" * 32}, 1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AsyncDatabase]:
    migrate.upgrade(tmp_path / "records.db", "records")
    opened = AsyncDatabase(SqliteDatabase(tmp_path / "records.db", CONTROL_PLANE))
    yield opened
    opened.close()


async def test_api_token_opens_with_its_secret_and_no_other(database: AsyncDatabase) -> None:
    principal, secret = await database.write(
        lambda connection: issuing.create_api_token(connection, MASTER_KEY, "ci", NOW, account_id=None)
    )
    credentials = Credentials(database, MASTER_KEY)
    assert parse_secret(secret.reveal(), API_TOKEN_PREFIX) == secret
    assert await credentials.authenticate(secret) == principal
    assert await credentials.authenticate(new_secret(API_TOKEN_PREFIX)) is None
    assert await credentials.authenticate(new_secret(EDGE_KEY_PREFIX)) is None
    assert await Credentials(database, MasterKey({1: b"x" * 32}, 1)).authenticate(secret) is None


async def test_authentication_is_remembered_until_told_to_forget(database: AsyncDatabase) -> None:
    principal, secret = await database.write(
        lambda connection: issuing.create_api_token(connection, MASTER_KEY, "ci", NOW, account_id=None)
    )
    credentials = Credentials(database, MASTER_KEY)
    await credentials.authenticate(secret)
    await database.write(lambda connection: store.set_api_token_enabled(connection, principal.token_id, False))
    before = await credentials.authenticate(secret)
    credentials.forget()
    after = await credentials.authenticate(secret)
    assert before is not None and after is not None
    assert (before.is_enabled, after.is_enabled) == (True, False)


async def test_edge_opens_with_its_key_until_revoked(database: AsyncDatabase) -> None:
    edge, key = await database.write(lambda connection: issuing.create_edge(connection, MASTER_KEY, "local", NOW))
    credentials = Credentials(database, MASTER_KEY)
    header = f"Edge {edge.id}:{key.reveal()}"
    assert await asyncio.gather(*(credentials.authenticate_edge(header) for _ in range(3))) == [edge.id] * 3
    assert await credentials.authenticate_edge(header.lower()) is None
    await database.write(lambda connection: edges_store.revoke_edge(connection, edge.id, NOW))
    credentials.forget()
    assert await credentials.authenticate_edge(header) is None


def test_secrets_are_in_no_row(database: AsyncDatabase) -> None:
    with database.database.write() as connection:
        _, token = issuing.create_api_token(connection, MASTER_KEY, "ci", NOW, account_id=None)
        _, key = issuing.create_edge(connection, MASTER_KEY, "local", NOW)
    folder = database.database.path.parent
    stored = b"".join(file.read_bytes() for file in sorted(folder.glob("records.db*")))
    assert token.reveal().encode() not in stored
    assert key.reveal().encode() not in stored


def test_account_comes_with_what_other_products_need_in_it(database: AsyncDatabase) -> None:
    asked: list[tuple[str, str, datetime]] = []

    def set_up(_connection: Connection, account_id: str, actor: str, now: datetime) -> None:
        asked.append((account_id, actor, now))

    with database.database.write() as connection:
        account, seq = issuing.create_account(connection, "Test", NOW, set_ups=[set_up])
    assert asked == [(account.id, issuing.BOOTSTRAP, NOW)]
    assert seq is not None
    with database.database.read() as connection:
        assert store.find_account(connection, account.id) == account
        keys = connection.exec_driver_sql("SELECT record_key FROM outbox").scalars().all()
    assert keys == [f"account/{account.id}"]


def test_account_whose_set_up_fails_is_not_made(database: AsyncDatabase) -> None:
    def set_up(*_arguments: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError), database.database.write() as connection:
        issuing.create_account(connection, "Test", NOW, set_ups=[set_up])
    with database.database.read() as connection:
        assert store.list_accounts(connection, only=None, name=None, is_descending=False, offset=0, limit=9) == ([], 0)


def test_name_of_an_edge_is_given_once(database: AsyncDatabase) -> None:
    with database.database.write() as connection:
        issuing.create_edge(connection, MASTER_KEY, "local", NOW)
        with pytest.raises(IntegrityError):
            issuing.create_edge(connection, MASTER_KEY, "local", NOW)


def test_permissions_are_kept_with_the_token(database: AsyncDatabase) -> None:
    with database.database.write() as connection:
        principal, _ = issuing.create_api_token(
            connection, MASTER_KEY, "reader", NOW, account_id=None, permissions=frozenset({Permission.READ})
        )
        row = connection.exec_driver_sql("SELECT digest FROM api_tokens").scalar_one()
        found = store.find_api_token(connection, row)
    assert found is not None
    assert found.principal == principal
