"""The first start makes what a home needs; a later one makes only what is missing."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foregate.core.masterkey import MasterKey, load_or_create
from foregate.core.secrets import API_TOKEN_PREFIX, EDGE_KEY_PREFIX, Secret, parse_secret
from foregate.database.migrate import upgrade
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase
from foregate.identity import edges_store, store
from foregate.identity.issuing import digest_key
from foregate.services.bootstrap import bootstrap
from foregate.services.home import Facts, Home, open_home, read_facts, read_private

NOW = datetime(2026, 9, 25, 22, 26, 26, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def key(home: Home) -> MasterKey:
    return load_or_create(home.master_key)


@pytest.fixture
def records(home: Home) -> Iterator[SqliteDatabase]:
    upgrade(home.records_db, "records")
    database = SqliteDatabase(home.records_db, CONTROL_PLANE)
    yield database
    database.close()


def test_the_first_start_makes_an_account_an_admin_token_and_an_edge(
    home: Home, key: MasterKey, records: SqliteDatabase
) -> None:
    facts = bootstrap(records, home, key, [], NOW)
    assert read_facts(home) == facts
    admin = parse_secret(read_private(home.admin_token), API_TOKEN_PREFIX)
    edge_key = parse_secret(read_private(home.edge_key), EDGE_KEY_PREFIX)
    with records.read() as connection:
        assert store.find_account(connection, facts.account_id) is not None
        assert store.find_api_token(connection, digest_key(key.api_token_key(), admin).value) is not None
        assert (
            edges_store.find_edge_digest(connection, facts.edge_id) == digest_key(key.api_token_key(), edge_key).value
        )


def test_all_files_are_for_their_owner_alone(home: Home, key: MasterKey, records: SqliteDatabase) -> None:
    bootstrap(records, home, key, [], NOW)
    files = [path for path in home.root.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_second_start_changes_nothing(home: Home, key: MasterKey, records: SqliteDatabase) -> None:
    facts = bootstrap(records, home, key, [], NOW)
    before = {path: path.read_bytes() for path in (home.admin_token, home.edge_key, home.facts)}
    assert bootstrap(records, home, key, [], NOW) == facts
    assert {path: path.read_bytes() for path in before} == before


def test_a_lost_admin_token_is_replaced(home: Home, key: MasterKey, records: SqliteDatabase) -> None:
    bootstrap(records, home, key, [], NOW)
    home.admin_token.unlink()
    bootstrap(records, home, key, [], NOW)
    with records.read() as connection:
        digest = digest_key(key.api_token_key(), Secret(read_private(home.admin_token))).value
        assert store.find_api_token(connection, digest) is not None


def test_an_edge_whose_key_was_lost_is_revoked_and_replaced(
    home: Home, key: MasterKey, records: SqliteDatabase
) -> None:
    lost = bootstrap(records, home, key, [], NOW)
    home.edge_key.unlink()
    found = bootstrap(records, home, key, [], NOW)
    assert found.edge_id != lost.edge_id
    with records.read() as connection:
        assert edges_store.find_edge_digest(connection, lost.edge_id) is None
        assert edges_store.find_edge_digest(connection, found.edge_id) is not None


def test_lost_facts_find_the_account_again(home: Home, key: MasterKey, records: SqliteDatabase) -> None:
    account_id = bootstrap(records, home, key, [], NOW).account_id
    home.facts.unlink()
    assert bootstrap(records, home, key, [], NOW).account_id == account_id


def test_new_accounts_are_set_up_in_the_same_transaction(home: Home, key: MasterKey, records: SqliteDatabase) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("set up failed")

    with pytest.raises(RuntimeError, match="set up failed"):
        bootstrap(records, home, key, [fail], NOW)
    with records.read() as connection:
        assert store.list_accounts(connection, only=None, name=None, is_descending=False, offset=0, limit=9) == ([], 0)
    assert isinstance(bootstrap(records, home, key, [], NOW), Facts)
