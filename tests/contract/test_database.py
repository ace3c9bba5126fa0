"""What every database keeps to, whichever engine it is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import DatabaseError

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database import records_schema, telemetry_schema
from foregate.database.engine import AsyncDatabase, Database
from foregate.database.journal import enqueue
from foregate.database.records_schema import CONTROL_PLANE, accounts, outbox
from foregate.database.rights import Rights
from foregate.database.stores import Stores
from harness.waiting import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNT = {"name": "one", "type": "standard", "settings": "{}", "created_at": 1, "updated_at": 1}


@pytest.fixture
def records(stores: Stores) -> Iterator[Database]:
    opened = stores.records.open(CONTROL_PLANE)
    yield opened
    opened.close()


@pytest.fixture
def other(stores: Stores) -> Iterator[Database]:
    """The same store as another process has it open."""
    opened = stores.records.open(CONTROL_PLANE)
    yield opened
    opened.close()


def keys(database: Database) -> list[str]:
    with database.read() as connection:
        return [key for (key,) in connection.execute(select(outbox.c.record_key).order_by(outbox.c.seq))]


def put(connection: Connection, key: str) -> int:
    return enqueue(connection, key, NOW)


def test_what_was_committed_is_seen_by_others_and_what_was_not_is_not(records: Database, other: Database) -> None:
    with records.write() as connection:
        put(connection, "token/a")
        assert keys(other) == []
    assert keys(other) == ["token/a"]


def test_error_undoes_the_whole_transaction(records: Database) -> None:
    with pytest.raises(ValueError, match="no"), records.write() as connection:
        put(connection, "token/a")
        raise ValueError("no")
    assert keys(records) == []


def test_read_is_one_snapshot(records: Database, other: Database) -> None:
    with records.read() as connection:
        count = select(func.count()).select_from(outbox)
        assert connection.execute(count).scalar_one() == 0
        with other.write() as writing:
            put(writing, "token/a")
        assert connection.execute(count).scalar_one() == 0
    assert keys(records) == ["token/a"]


def test_what_a_reader_writes_is_refused_or_undone(records: Database) -> None:
    with contextlib.suppress(Exception), records.read() as connection:
        put(connection, "token/a")
    assert keys(records) == []


def test_what_a_writer_has_read_holds_until_it_commits(records: Database, other: Database) -> None:
    """Two writers that count first and add then: the second counts what the first has added."""
    counted: list[int] = []

    def count_and_add(database: Database) -> None:
        with database.write() as connection:
            counted.append(connection.execute(select(func.count()).select_from(outbox)).scalar_one())
            put(connection, f"token/{counted[-1]}")

    for _ in range(10):
        threads = [threading.Thread(target=count_and_add, args=[database]) for database in (records, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counted == list(range(20))


async def test_an_error_in_one_work_undoes_it_alone(records: Database) -> None:
    database = AsyncDatabase(records)

    def work(number: int) -> object:
        def run(connection: Connection) -> int:
            seq = put(connection, f"token/{number}")
            if number % 7 == 0:
                raise ValueError(number)
            if number % 11 == 0:
                connection.execute(insert(accounts), {"id": "twice", **ACCOUNT})
            return seq

        return run

    results = await asyncio.gather(*(database.write(work(n)) for n in range(1, 60)), return_exceptions=True)  # type: ignore[arg-type]
    refused = {number for number, result in enumerate(results, 1) if isinstance(result, Exception)}
    assert refused == {*range(7, 60, 7), 22, 33, 44, 55}
    assert set(keys(records)) == {f"token/{n}" for n in range(1, 60)} - {f"token/{n}" for n in refused}
    seqs = [result for result in results if isinstance(result, int)]
    assert seqs == sorted(seqs)
    database.close()


async def test_writes_that_come_together_share_a_transaction(records: Database, other: Database) -> None:
    database = AsyncDatabase(records)
    seen: list[int] = []

    def work(connection: Connection) -> None:
        put(connection, "token/a")
        seen.append(len(keys(other)))

    await asyncio.gather(*(database.write(work) for _ in range(10)))
    assert len(set(seen)) < 10
    assert len(keys(other)) == 10
    database.close()


def test_numbers_of_changes_are_never_used_twice(records: Database) -> None:
    with records.write() as connection:
        first = put(connection, "token/a")
    with records.write() as connection:
        connection.execute(text("DELETE FROM outbox"))
        second = put(connection, "token/b")
    assert second > first


def test_numbers_of_changes_go_on_above_one_that_was_given(records: Database) -> None:
    row = {"seq": 1000, "record_key": "account/none", "enqueued_at": 1, "published_at": 1}
    with records.write() as connection:
        connection.execute(insert(outbox), row)
        assert put(connection, "token/a") == 1001
    with records.write() as connection:
        assert put(connection, "token/b") == 1002


def test_watch_sees_what_others_commit_and_nothing_else(records: Database, other: Database) -> None:
    watch = records.watch()
    assert watch.has_changed(), "the first look"
    assert not watch.has_changed()
    with other.read() as connection:
        connection.execute(select(outbox)).all()
    assert not watch.has_changed()
    with other.write() as connection:
        put(connection, "token/a")
    assert watch.wait(5)
    until(lambda: not watch.has_changed(), 5, "it has been told")
    watch.close()


def test_waiting_ends_within_a_moment_of_a_change(records: Database, other: Database) -> None:
    watch = records.watch()
    watch.has_changed()
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(watch.wait(4)))
    waiting.start()
    with other.write() as connection:
        put(connection, "token/a")
    waiting.join(2)
    assert found == [True]
    assert not watch.wait(0.01)
    watch.close()


def test_sort_and_search_are_the_same_everywhere(records: Database) -> None:
    names = ["b", "B", "a", "ä", "_", "Z", "z"]
    with records.write() as connection:
        for name in names:
            connection.execute(insert(accounts), {**ACCOUNT, "id": name, "name": name})
    with records.read() as connection:
        ordered = [name for (name,) in connection.execute(select(accounts.c.name).order_by(accounts.c.name))]
        matching = connection.execute(select(accounts.c.name).where(accounts.c.name.icontains("Z"))).all()
        accented = connection.execute(select(accounts.c.name).where(accounts.c.name.icontains("Ä"))).all()
    assert ordered == sorted(names)
    assert sorted(name for (name,) in matching) == ["Z", "z"]
    assert accented == []


CREDENTIALS = (
    "secret_versions",
    "api_tokens",
    "edges",
    "signing_keys",
    "service_tokens",
    "replayable_answers",
    "edge_join_tokens",
    "edge_certificates",
    "feed_authority",
)
TELEMETRY_USERS = telemetry_schema.RIGHTS


def _attempts() -> Iterator[str]:
    """Every way to read and to write every column of every table in which a credential stands, by hand."""
    for name in CREDENTIALS:
        table = records_schema.metadata.tables[name]
        for column in table.columns:
            for place in (name, f"records.{name}"):
                yield f"SELECT {column.name} FROM {place}"
                yield f"UPDATE {place} SET {column.name} = NULL"
                yield f"INSERT INTO {place} ({column.name}) VALUES (NULL)"
        yield f"DELETE FROM records.{name}"
        yield f"DROP TABLE records.{name}"


@pytest.mark.parametrize("rights", TELEMETRY_USERS, ids=lambda rights: rights.user)
def test_telemetry_user_reads_and_writes_no_credential(stores: Stores, rights: Rights) -> None:
    database = stores.telemetry.open(rights)
    allowed = []
    for statement in _attempts():
        try:
            with database.write() as connection:
                connection.exec_driver_sql(statement)
            allowed.append(statement)
        except (DatabaseError, ForegateError):
            continue
    assert allowed == []
    database.close()


@pytest.mark.parametrize("rights", TELEMETRY_USERS, ids=lambda rights: rights.user)
def test_telemetry_user_writes_what_its_rights_name_alone(stores: Stores, rights: Rights) -> None:
    database = stores.telemetry.open(rights)
    for name, table in telemetry_schema.metadata.tables.items():
        may = rights.tables.get(name)
        asked = {
            f"SELECT 1 FROM {name}": may is not None and may.may_read,
            f"DELETE FROM {name} WHERE 1 = 0": may is not None and may.may_delete,
            **{
                f'UPDATE {name} SET "{column.name}" = "{column.name}" WHERE 1 = 0': may is not None
                and column.name in may.updatable
                for column in table.columns
            },
        }
        for statement, is_allowed in asked.items():
            assert _is_allowed(database, statement) == is_allowed, statement
    database.close()


def _is_allowed(database: Database, statement: str) -> bool:
    try:
        with database.write() as connection:
            connection.exec_driver_sql(statement)
    except DatabaseError:
        return False
    return True


def test_schema_of_a_newer_foregate_is_refused(stores: Stores) -> None:
    for store in (stores.records, stores.telemetry):
        owner = store.open_as_owner()
        with owner.write() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        owner.close()
        with pytest.raises(ForegateError, match="newer Foregate") as refused:
            store.upgrade()
        assert refused.value.code is ErrorCode.UNAVAILABLE
