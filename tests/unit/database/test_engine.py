"""Group commit keeps each caller's work whole, and tells each one the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database import migrate
from foregate.database.damage import find_damage
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import enqueue
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AsyncDatabase]:
    path = tmp_path / "records.db"
    migrate.upgrade(path, "records")
    opened = AsyncDatabase(SqliteDatabase(path, CONTROL_PLANE))
    yield opened
    opened.close()


def _keys(connection: Connection) -> set[str]:
    return {row[0] for row in connection.exec_driver_sql("SELECT record_key FROM outbox").fetchall()}


async def test_an_error_undoes_its_own_work_alone(database: AsyncDatabase) -> None:
    def work(number: int) -> int:
        def run(connection: Connection) -> int:
            seq = enqueue(connection, f"token/{number}", NOW)
            if number % 7 == 0:
                raise ValueError(number)
            return seq

        return run  # type: ignore[return-value]

    results = await asyncio.gather(*(database.write(work(n)) for n in range(500)), return_exceptions=True)  # type: ignore[arg-type]
    kept = await database.read(_keys)
    assert {n for n, result in enumerate(results) if isinstance(result, ValueError)} == set(range(0, 500, 7))
    assert kept == {f"token/{n}" for n in range(500) if n % 7}


async def test_what_was_answered_is_on_disk(database: AsyncDatabase) -> None:
    await database.write(lambda connection: enqueue(connection, "token/a", NOW))
    other = SqliteDatabase(database.database.path, CONTROL_PLANE)
    with other.read() as connection:
        assert _keys(connection) == {"token/a"}
    other.close()


async def test_numbers_of_changes_are_never_used_twice(database: AsyncDatabase) -> None:
    first = await database.write(lambda connection: enqueue(connection, "token/a", NOW))
    await database.write(lambda connection: connection.exec_driver_sql("DELETE FROM outbox") and None)
    second = await database.write(lambda connection: enqueue(connection, "token/b", NOW))
    assert second > first


async def test_a_full_disk_is_a_clear_error_and_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    migrate.upgrade(path, "records")
    database = AsyncDatabase(SqliteDatabase(path, None))

    def fill(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        pages = connection.exec_driver_sql("PRAGMA max_page_count").scalar()
        assert pages
        for number in range(10_000):
            enqueue(connection, f"token/{number}" + "x" * 200, NOW)

    with pytest.raises(ForegateError) as raised:
        await database.write(fill)
    assert raised.value.code is ErrorCode.UNAVAILABLE
    assert await database.read(_keys) == set()
    database.close()


def test_a_database_of_a_newer_foregate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    migrate.upgrade(path, "records")
    database = SqliteDatabase(path, None)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(ForegateError, match="newer Foregate"):
        migrate.upgrade(path, "records")


def test_damage_is_one_sentence_for_readers_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    migrate.upgrade(path, "telemetry")
    path.write_bytes(b"no database at all " * 1000)
    opened = SqliteDatabase(path, None)
    for transaction in (opened.read, opened.write):
        with pytest.raises(ForegateError, match=r"some\.db is damaged") as refused, transaction() as connection:
            connection.exec_driver_sql("SELECT 1 FROM last_seen")
        assert refused.value.code is ErrorCode.UNAVAILABLE
    opened.close()


def test_damaged_page_is_one_sentence_for_readers_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    migrate.upgrade(path, "telemetry")
    whole = SqliteDatabase(path, None)
    with whole.read() as connection:
        page = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'last_seen'").scalar_one()
    whole.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert find_damage(path, is_thorough=False) == ""
    assert find_damage(path, is_thorough=True) != ""
    opened = SqliteDatabase(path, None)
    for transaction in (opened.read, opened.write):
        with pytest.raises(ForegateError, match="damaged"), transaction() as connection:
            connection.exec_driver_sql("SELECT * FROM last_seen").all()
    opened.close()
