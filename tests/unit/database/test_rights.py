"""Each user of a database can do what its work needs and nothing else, hand-written SQL included."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError, IntegrityError

from foregate.database import migrate
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.rights import Rights
from foregate.database.sqlite import SqliteDatabase
from foregate.database.telemetry_schema import BLOCK_WRITER, INGEST, LAST_SEEN_WRITER, RETENTION, ROLLUP_WRITER

WORKER = [LAST_SEEN_WRITER, ROLLUP_WRITER, BLOCK_WRITER, RETENTION]

ACCOUNT = "a" * 32
CLIENT_ID = "0" * 32 + ".access"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A records database with one account and one token of one secret."""
    path = tmp_path / "records.db"
    migrate.upgrade(path, "records")
    database = SqliteDatabase(path, CONTROL_PLANE)
    with database.write() as connection:
        connection.exec_driver_sql(f"INSERT INTO accounts VALUES ('{ACCOUNT}', 'one', 'standard', '{{}}', 1, 1)")
        connection.exec_driver_sql(
            "INSERT INTO service_tokens (id, account_id, client_id, name, duration, is_enabled, secret_version,"
            f" created_at, updated_at) VALUES ('t', '{ACCOUNT}', '{CLIENT_ID}', 'n', '1h', 1, 1, 1, 1)"
        )
        connection.exec_driver_sql("INSERT INTO secret_versions VALUES ('t', 1, zeroblob(32), 1, 1)")
    database.close()
    return path


FORBIDDEN_TO_THE_CONTROL_PLANE = [
    "UPDATE secret_versions SET digest = zeroblob(32)",
    "UPDATE secret_versions SET pepper_version = 2",
    "DELETE FROM secret_versions",
    "UPDATE service_tokens SET client_id = '1'",
    "UPDATE service_tokens SET account_id = '1'",
    "DELETE FROM service_tokens",
    "UPDATE history SET snapshot = ''",
    "DELETE FROM history",
    "DELETE FROM audit",
    "UPDATE api_tokens SET digest = zeroblob(32)",
    "UPDATE signing_keys SET private_key = x'00'",
    "INSERT OR REPLACE INTO secret_versions VALUES ('t', 1, randomblob(32), 1, 1)",
    "DROP TABLE secret_versions",
    "DROP TRIGGER secret_versions_no_update",
    "ATTACH DATABASE ':memory:' AS other",
    "PRAGMA writable_schema=ON",
]


@pytest.mark.parametrize("statement", FORBIDDEN_TO_THE_CONTROL_PLANE)
def test_control_plane_cannot(records: Path, statement: str) -> None:
    database = SqliteDatabase(records, CONTROL_PLANE)
    with pytest.raises(DatabaseError), database.write() as connection:
        connection.exec_driver_sql(statement)
    with database.read() as connection:
        digests = connection.exec_driver_sql("SELECT token_id, version, digest FROM secret_versions").fetchall()
    assert [tuple(row) for row in digests] == [("t", 1, bytes(32))]
    database.close()


FORBIDDEN_TO_ANYONE = [
    ("UPDATE secret_versions SET digest = randomblob(32)", "append-only"),
    ("DELETE FROM secret_versions", "append-only"),
    ("UPDATE service_tokens SET client_id = '1'", "keeps its id"),
    ("UPDATE service_tokens SET secret_version = 0", "only grow"),
    ("DELETE FROM service_tokens", "tombstone"),
    ("INSERT INTO secret_versions VALUES ('t', 2, '', 1, 1)", "digest_form"),
    ("INSERT INTO secret_versions VALUES ('t', 2, x'', 1, 1)", "digest_form"),
    ("INSERT INTO secret_versions VALUES ('t', 2, '[REDACTED]', 1, 1)", "digest_form"),
    ("INSERT INTO secret_versions VALUES ('t', 2, NULL, 1, 1)", "NOT NULL"),
]


@pytest.mark.parametrize(("statement", "why"), FORBIDDEN_TO_ANYONE)
def test_database_itself_refuses(records: Path, statement: str, why: str) -> None:
    database = SqliteDatabase(records, None)
    with pytest.raises(IntegrityError, match=why), database.write() as connection:
        connection.exec_driver_sql(statement)
    database.close()


def test_replace_cannot_slip_past_the_append_only_triggers(records: Path) -> None:
    database = SqliteDatabase(records, None)
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.exec_driver_sql("INSERT OR REPLACE INTO secret_versions VALUES ('t', 1, randomblob(32), 1, 1)")
    database.close()


@pytest.mark.parametrize("statement", ["SELECT * FROM log_records, last_seen", "SELECT * FROM consumer_offsets"])
def test_worker_can_read_its_tables(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "telemetry.db"
    migrate.upgrade(path, "telemetry")
    database = SqliteDatabase(path, LAST_SEEN_WRITER)
    with database.read() as connection:
        assert connection.exec_driver_sql(statement).fetchall() == []
    database.close()


@pytest.mark.parametrize("rights", [INGEST, *WORKER], ids=lambda rights: rights.user)
def test_telemetry_holds_no_credential_table(tmp_path: Path, rights: object) -> None:
    path = tmp_path / "telemetry.db"
    migrate.upgrade(path, "telemetry")
    database = SqliteDatabase(path, rights)  # type: ignore[arg-type]
    with pytest.raises(DatabaseError), database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM secret_versions")
    database.close()


@pytest.mark.parametrize("rights", WORKER, ids=lambda rights: rights.user)
def test_worker_cannot_append_to_the_log(tmp_path: Path, rights: Rights) -> None:
    path = tmp_path / "telemetry.db"
    migrate.upgrade(path, "telemetry")
    database = SqliteDatabase(path, rights)
    with pytest.raises(DatabaseError, match="not authorized"), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO log_records (topic, key, value, at) VALUES ('edge-config', '', '', 1)")
    database.close()


def test_rights_name_only_tables_that_exist(tmp_path: Path) -> None:
    for tree, all_rights in (("records", [CONTROL_PLANE]), ("telemetry", [INGEST, *WORKER])):
        path = tmp_path / f"{tree}.db"
        migrate.upgrade(path, tree)
        database = SqliteDatabase(path, None)
        with database.read() as connection:
            rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
        tables = {row[0] for row in rows}
        for rights in all_rights:
            assert set(rights.tables) <= tables
        database.close()
