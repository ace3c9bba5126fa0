"""Writes that fail as a whole, or whose caller has gone, leave the next ones alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database import migrate
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import enqueue
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Unlucky(SqliteDatabase):
    """A database whose next transaction cannot begin, or cannot be committed."""

    fails_to_begin = False
    fails_to_commit = False

    def begin(self) -> Connection:
        if self.fails_to_begin:
            raise ForegateError(ErrorCode.UNAVAILABLE, "locked")
        return super().begin()

    def commit(self, connection: Connection) -> None:
        if self.fails_to_commit:
            raise ForegateError(ErrorCode.UNAVAILABLE, "disk full")
        super().commit(connection)


@pytest.fixture
def unlucky(tmp_path: Path) -> Unlucky:
    migrate.upgrade(tmp_path / "records.db", "records")
    return Unlucky(tmp_path / "records.db", CONTROL_PLANE)


@pytest.fixture
def database(unlucky: Unlucky) -> Iterator[AsyncDatabase]:
    opened = AsyncDatabase(unlucky)
    yield opened
    opened.close()


def put(key: str) -> object:
    return lambda connection: enqueue(connection, key, NOW)


async def keys(database: AsyncDatabase) -> list[str]:
    return await database.read(
        lambda connection: [row[0] for row in connection.exec_driver_sql("SELECT record_key FROM outbox")]
    )


@pytest.mark.parametrize("step", ["fails_to_begin", "fails_to_commit"])
async def test_failed_transaction_fails_all_in_it_and_none_after(
    database: AsyncDatabase, unlucky: Unlucky, step: str
) -> None:
    setattr(unlucky, step, True)
    refused = await asyncio.gather(*(database.write(put(f"token/{n}")) for n in range(3)), return_exceptions=True)  # type: ignore[arg-type]
    setattr(unlucky, step, False)
    await database.write(put("token/after"))  # type: ignore[arg-type]
    assert [type(error) for error in refused] == [ForegateError] * 3
    assert await keys(database) == ["token/after"]


async def test_caller_that_goes_does_not_undo_its_write(database: AsyncDatabase) -> None:
    writing = asyncio.create_task(database.write(put("token/a")))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    writing.cancel()
    await database.write(put("token/b"))  # type: ignore[arg-type]
    assert writing.cancelled()
    assert await keys(database) == ["token/a", "token/b"]


async def test_writes_are_carried_out_in_the_order_they_came(database: AsyncDatabase) -> None:
    seqs = await asyncio.gather(*(database.write(put(f"token/{n}")) for n in range(300)))  # type: ignore[arg-type]
    assert seqs == sorted(seqs)


async def test_write_that_is_on_its_way_shares_the_transaction(database: AsyncDatabase) -> None:
    later: list[asyncio.Task[list[str]]] = []

    async def arrive() -> list[str]:
        await asyncio.sleep(0)  # as a request that is read in one turn of the loop and answered in the next
        other = SqliteDatabase(database.database.path, CONTROL_PLANE)
        with other.read() as connection:
            committed = [row[0] for row in connection.exec_driver_sql("SELECT record_key FROM outbox")]
        other.close()
        await database.write(put("token/second"))  # type: ignore[arg-type]
        return committed

    def first(connection: Connection) -> int:
        later.append(asyncio.get_running_loop().create_task(arrive()))
        return enqueue(connection, "token/first", NOW)

    await database.write(first)

    assert await keys(database) == ["token/first", "token/second"]
    assert await later[0] == [], "the first was not committed when the second came"
