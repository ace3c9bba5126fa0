"""Settings of the whole suite, and what is started once for all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from foregate.database.stores import Stores
from harness.postgresql import ENGINES, PostgresqlDatabase, PostgresqlServer, running_postgresql
from harness.stores import sqlite_stores

# No test fails for a slow machine: a deadline is Hypothesis's own idea of how long an example may take.
settings.register_profile("foregate", deadline=None)
settings.load_profile("foregate")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real server. `PGPASSWORD` is its administrator's from now on."""
    with running_postgresql() as server:
        os.environ["PGPASSWORD"] = server.password
        yield server
        del os.environ["PGPASSWORD"]


@pytest.fixture(scope="session")
def postgresql_database(
    postgresql: PostgresqlServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresqlDatabase]:
    """A database that was set up once; whoever writes into it calls `renew` first."""
    yield PostgresqlDatabase(postgresql, tmp_path_factory.mktemp("passwords"))


@pytest.fixture(params=ENGINES)
def stores(request: pytest.FixtureRequest) -> Stores:
    """Two empty stores of the newest schema, on each database."""
    if request.param == "postgresql":
        database: PostgresqlDatabase = request.getfixturevalue("postgresql_database")
        database.renew()
        return database.stores
    return sqlite_stores(request.getfixturevalue("tmp_path"))
