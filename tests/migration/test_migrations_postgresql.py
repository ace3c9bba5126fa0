"""The same steps on PostgreSQL: up, down, and what they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import IntegrityError

from foregate.database import records_schema, telemetry_schema
from foregate.database.engine import Database
from foregate.database.migrate import TREES, current_revision, move
from harness.postgresql import PostgresqlDatabase

METADATA = {"records": records_schema.metadata, "telemetry": telemetry_schema.metadata}
_SCHEMA = """
SELECT 'column', table_name || '.' || column_name, data_type || ' ' || is_nullable || coalesce(collation_name, '')
FROM information_schema.columns WHERE table_schema = current_schema
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = current_schema::regnamespace
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema
UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
WHERE relnamespace = current_schema::regnamespace AND NOT tgisinternal
UNION ALL SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = current_schema::regnamespace
ORDER BY 1, 2, 3
"""


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(tree: str, postgresql_database: PostgresqlDatabase) -> Iterator[Database]:
    """A store at its newest schema, with the rights of its owner."""
    postgresql_database.renew()
    opened = postgresql_database.open_as_owner(tree)
    yield opened
    opened.close()


def schema(connection: Connection) -> list[tuple[Any, ...]]:
    """Everything that a migration made, Alembic's own table left out."""
    rows = connection.exec_driver_sql(_SCHEMA).all()
    return [tuple(row) for row in rows if not row[1].startswith("alembic_version")]


def test_steps_down_undo_the_steps_up(database: Database, tree: str) -> None:
    with database.write() as connection:
        newest = schema(connection)
        move(connection, tree, "base")
        assert schema(connection) == []
        assert current_revision(connection) is None
        move(connection, tree, "head")
        assert schema(connection) == newest


def test_migrations_lead_to_the_declared_tables(database: Database, tree: str) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA[tree]) == []


def test_constraints_are_the_declared_ones(database: Database, tree: str) -> None:
    with database.read() as connection:
        inspector = inspect(connection)
        for name, table in METADATA[tree].tables.items():
            checks = {str(check["name"]) for check in inspector.get_check_constraints(name)}
            assert checks == {str(one.name) for one in table.constraints if hasattr(one, "sqltext")}
            key = set(inspector.get_pk_constraint(name)["constrained_columns"])
            assert key == {column.name for column in table.primary_key.columns}


def test_whole_numbers_have_64_bits_and_texts_sort_by_their_bytes(database: Database) -> None:
    with database.read() as connection:
        columns = connection.exec_driver_sql(
            "SELECT DISTINCT data_type, coalesce(collation_name, '') FROM information_schema.columns "
            "WHERE table_schema = current_schema AND table_name <> 'alembic_version'"
        ).all()
    assert {tuple(column) for column in columns} <= {("bigint", ""), ("text", "C"), ("bytea", "")}


TOKEN = (
    "INSERT INTO accounts VALUES ('a', 'n', 's', '{}', 0, 0)",
    "INSERT INTO service_tokens (id, account_id, client_id, name, duration, is_enabled, secret_version, created_at,"
    f" updated_at) VALUES ('t', 'a', '{'0' * 32}.access', 'n', '1h', 1, 1, 0, 0)",
    f"INSERT INTO secret_versions VALUES ('t', 1, '\\x{'ab' * 32}', 1, 0)",
    "INSERT INTO history (account_id, kind, entity_id, snapshot, actor, at) VALUES ('a', 'k', 'e', '{}', 'x', 0)",
    "INSERT INTO audit (actor, action, kind, entity_id, at) VALUES ('a', 'k', 'e', 'x', 0)",
)
FORBIDDEN = {
    "empty digest": ("INSERT INTO secret_versions VALUES ('t', 2, '', 1, 1)", "digest_form"),
    "short digest": ("INSERT INTO secret_versions VALUES ('t', 2, '[REDACTED]', 1, 1)", "digest_form"),
    "no digest": ("INSERT INTO secret_versions VALUES ('t', 2, NULL, 1, 1)", "null value"),
    "the same version again": (f"INSERT INTO secret_versions VALUES ('t', 1, '\\x{'cd' * 32}', 1, 0)", "duplicate"),
    "changed digest": (f"UPDATE secret_versions SET digest = '\\x{'cd' * 32}'", "append-only"),
    "changed by conflict": (
        f"INSERT INTO secret_versions VALUES ('t', 1, '\\x{'cd' * 32}', 1, 0) "
        "ON CONFLICT (token_id, version) DO UPDATE SET digest = excluded.digest",
        "append-only",
    ),
    "deleted version": ("DELETE FROM secret_versions", "append-only"),
    "emptied versions": ("TRUNCATE secret_versions", "append-only"),
    "emptied tokens": ("TRUNCATE service_tokens CASCADE", "tombstone|append-only"),
    "another client id": ("UPDATE service_tokens SET client_id = '1'", "keeps its id"),
    "older version": ("UPDATE service_tokens SET secret_version = 0", "only grow"),
    "deleted token": ("DELETE FROM service_tokens", "tombstone"),
    "changed history": ("UPDATE history SET snapshot = ''", "append-only"),
    "deleted audit": ("DELETE FROM audit", "append-only"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_not_even_the_owner_changes_what_is_kept(postgresql_database: PostgresqlDatabase, name: str) -> None:
    postgresql_database.renew()
    database = postgresql_database.open_as_owner("records")
    with database.write() as connection:
        for statement in TOKEN:
            connection.exec_driver_sql(statement)
    statement, why = FORBIDDEN[name]
    with pytest.raises(IntegrityError, match=why), database.write() as connection:
        connection.exec_driver_sql(statement)
    with database.read() as connection:
        digests = connection.exec_driver_sql("SELECT token_id, version, digest FROM secret_versions").all()
    assert [tuple(row) for row in digests] == [("t", 1, bytes.fromhex("ab" * 32))]
    database.close()


def test_error_quotes_no_row(postgresql_database: PostgresqlDatabase) -> None:
    """PostgreSQL's detail of a broken rule holds the whole row, digest included."""
    postgresql_database.renew()
    database = postgresql_database.open_as_owner("records")
    statement = f"INSERT INTO secret_versions VALUES ('nobody', 0, '\\x{'ab' * 32}', 1, 1)"
    with pytest.raises(psycopg.errors.CheckViolation) as refused, database.write() as connection:
        connection.connection.cursor().execute(statement)
    assert "abab" not in f"{refused.value} {refused.value.__cause__!r}"
    database.close()
