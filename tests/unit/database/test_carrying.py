"""Carrying one store's rows to another: all that is missing, different or gone, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text

from foregate.core.errors import ForegateError
from foregate.database.carrying import carry, lift_fence, raise_fence, summarise
from foregate.database.engine import Database
from foregate.database.records_schema import (
    CONTROL_PLANE,
    accounts,
    application_policies,
    applications,
    metadata,
    outbox,
    policies,
)
from foregate.database.stores import Store, Stores
from harness.stores import sqlite_stores

ACCOUNT = {"name": "one", "type": "standard", "settings": "{}", "created_at": 1, "updated_at": 1}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "source").mkdir()
    opened = sqlite_stores(tmp_path / "source").records.open_as_owner()
    yield opened
    opened.close()


@pytest.fixture
def target_store(stores: Stores) -> Store:
    return stores.records


@pytest.fixture
def target(target_store: Store) -> Iterator[Database]:
    opened = target_store.open_as_owner()
    yield opened
    opened.close()


def fill(connection: Connection) -> None:
    """Accounts over more than a page, and an application with two policies."""
    rows = [{**ACCOUNT, "id": f"account {number:04}", "name": f"ä {number}"} for number in range(1200)]
    connection.execute(insert(accounts), rows)
    owned = {"account_id": "account 0000", "name": "n", "body": "{}", "created_at": 1, "updated_at": 1}
    connection.execute(insert(applications), {**owned, "id": "app", "aud": "aud"})
    for name in ("p1", "p2"):
        connection.execute(insert(policies), {**owned, "id": name, "application_id": None, "decision": "allow"})
        row = {"application_id": "app", "policy_id": name, "precedence": int(name[1])}
        connection.execute(insert(application_policies), row)
    connection.execute(insert(outbox), {"record_key": "app/app", "enqueued_at": 1})


def carried(source: Database, target: Database) -> int:
    with source.read() as read, target.write() as write:
        return carry(read, write, metadata)


def are_equal(source: Database, target: Database) -> bool:
    with source.read() as one, target.read() as other:
        return summarise(one, metadata) == summarise(other, metadata)


def test_everything_is_carried_once(source: Database, target: Database) -> None:
    with source.write() as connection:
        fill(connection)
    assert not are_equal(source, target)
    assert carried(source, target) == 1200 + 1 + 2 + 2 + 1
    assert are_equal(source, target)
    assert carried(source, target) == 0


def test_what_changed_meanwhile_is_carried(source: Database, target: Database) -> None:
    with source.write() as connection:
        fill(connection)
    carried(source, target)
    with source.write() as connection:
        connection.execute(text("UPDATE accounts SET name = 'other' WHERE id = 'account 0700'"))
        connection.execute(insert(accounts), {**ACCOUNT, "id": "account 0000a"})
        # Two that are one of a kind take each other's place.
        connection.execute(text("DELETE FROM application_policies"))
        for name, precedence in (("p1", 2), ("p2", 1)):
            row = {"application_id": "app", "policy_id": name, "precedence": precedence}
            connection.execute(insert(application_policies), row)
        connection.execute(text("DELETE FROM outbox"))
    carried(source, target)
    assert are_equal(source, target)


def test_numbers_go_on_above_all_that_were_ever_given(source: Database, target: Database) -> None:
    with source.write() as connection:
        for key in ("a", "b", "c"):
            connection.execute(insert(outbox), {"record_key": key, "enqueued_at": 1})
        connection.execute(text("DELETE FROM outbox"))
    carried(source, target)
    with target.write() as connection:
        statement = insert(outbox).returning(outbox.c.seq)
        assert connection.execute(statement, {"record_key": "d", "enqueued_at": 1}).scalar_one() == 4


def test_nobody_writes_over_a_fence(target_store: Store, target: Database) -> None:
    """A process that has the store open is told in one sentence, and may go on once the fence is lifted."""
    process = target_store.open(CONTROL_PLANE)
    with process.write() as connection:
        connection.execute(insert(accounts), {**ACCOUNT, "id": "before"})
    with target.write() as connection:
        raise_fence(connection, metadata)
    for statement in (
        "INSERT INTO outbox (record_key, enqueued_at) VALUES ('k', 1)",
        "UPDATE accounts SET name = 'x'",
        "DELETE FROM groups",
    ):
        if statement.startswith("DELETE") and target_store.where.endswith(".db"):
            continue  # SQLite asks a row's trigger for each row, and there is none
        with pytest.raises(ForegateError, match="are being moved"), process.write() as connection:
            connection.execute(text(statement))
    with target.write() as connection:
        lift_fence(connection, metadata)
    with process.write() as connection:
        connection.execute(insert(accounts), {**ACCOUNT, "id": "after"})
    with process.read() as connection:
        assert set(connection.execute(select(accounts.c.id)).scalars()) == {"before", "after"}
    process.close()
