"""A database's server that cuts a connection: one sentence, nothing half done, and the next try connects anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.engine import Database
from foregate.database.records_schema import CONTROL_PLANE
from harness.postgresql import PostgresqlDatabase

_CUT = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


@pytest.fixture
def records(postgresql_database: PostgresqlDatabase) -> Iterator[Database]:
    postgresql_database.renew()
    opened = postgresql_database.stores.records.open(CONTROL_PLANE)
    yield opened
    opened.close()


def cut(database: PostgresqlDatabase) -> None:
    with database.server.connect() as connection:
        connection.execute(_CUT, [database.name])


@pytest.mark.parametrize("kind", ["read", "write"])
def test_idle_connections_that_were_cut_are_noticed_by_nobody(
    records: Database, postgresql_database: PostgresqlDatabase, kind: str
) -> None:
    for _ in range(3):
        with getattr(records, kind)() as connection:
            connection.execute(text("SELECT 1"))
        cut(postgresql_database)
    with getattr(records, kind)() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize("statements", [0, 1], ids=["before its end", "and found so"])
def test_connection_cut_within_a_transaction_is_an_error_that_passes(
    records: Database, postgresql_database: PostgresqlDatabase, kind: str, statements: int
) -> None:
    with pytest.raises(ForegateError) as refused, getattr(records, kind)() as connection:
        cut(postgresql_database)
        for _ in range(statements):
            connection.execute(text("SELECT 1"))
        raise ForegateError(ErrorCode.UNAVAILABLE, "the work itself has failed")
    assert refused.value.code is ErrorCode.UNAVAILABLE
    with getattr(records, kind)() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
