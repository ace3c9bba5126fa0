"""Parts of a control plane, as small as the edge's tests need them: two real databases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from foregate.database.engine import AsyncDatabase
from foregate.database.migrate import upgrade
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase
from foregate.database.telemetry_schema import INGEST


@pytest.fixture
def records(tmp_path: Path) -> Iterator[AsyncDatabase]:
    upgrade(tmp_path / "records.db", "records")
    database = AsyncDatabase(SqliteDatabase(tmp_path / "records.db", CONTROL_PLANE), readers=1)
    yield database
    database.close()


@pytest.fixture
def telemetry(tmp_path: Path) -> Iterator[AsyncDatabase]:
    upgrade(tmp_path / "telemetry.db", "telemetry")
    database = AsyncDatabase(SqliteDatabase(tmp_path / "telemetry.db", INGEST), readers=1)
    yield database
    database.close()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait for a condition, five seconds at most."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (what is waited for is another component's state)
                await asyncio.sleep(0.005)

    return wait
