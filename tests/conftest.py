"""Settings of the whole suite, and the servers that it starts once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from foregate.database.stores import Stores
from harness.kafka import Broker, running_broker
from harness.kafka_jars import KafkaMissing
from harness.postgresql import ENGINES, PostgresqlDatabase, PostgresqlServer, running_postgresql
from harness.stores import sqlite_stores

# No test fails for a slow machine: a deadline is Hypothesis's own idea of how long an example may take.
settings.register_profile("foregate", deadline=None)
settings.load_profile("foregate")


@pytest.fixture(scope="session")
def shared_kafka() -> Iterator[Broker]:
    """A real Kafka for the session. Skips with a sentence where none can be run; with CI set that fails."""
    try:
        with running_broker() as broker:
            yield broker
    except KafkaMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def kafka(shared_kafka: Broker) -> Broker:
    """The same one, without topics, users or access rules of earlier tests."""
    shared_kafka.clear()
    return shared_kafka


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
