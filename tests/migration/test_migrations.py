"""Every step of both trees of migrations, up and down, and what they lead to: the tables that the code declares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect
from sqlalchemy.exc import IntegrityError

from foregate.core.errors import ForegateError
from foregate.database import records_schema, telemetry_schema
from foregate.database.migrate import HEADS, TREES, current_revision, move, upgrade
from foregate.database.sqlite import SqliteDatabase
from harness.postgresql import ENGINES

METADATA = {"records": records_schema.metadata, "telemetry": telemetry_schema.metadata}
MIGRATIONS = Path(records_schema.__file__).parent / "migrations"


def revisions(tree: str) -> list[str]:
    """The tree's revisions, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS / tree))
    scripts = ScriptDirectory.from_config(config)
    return [script.revision for script in scripts.walk_revisions()][::-1]


# The steps that homes have run, with what they were then. Only grows.
RELEASED = {
    ("records", "0001"): "033e4002ba7bef0f5f0a1ec3a21a8a45ea44ae022b48daf8cfb6fb2c435f0cc8",
    ("records", "0002"): "2e6933a97c224c98c4e270d55916000178f003b6ee71a59b692489581fdab8ca",
    ("telemetry", "0001"): "64222a3f518d0f41708f6cf57f3bdbc560be56a708ff1c2cc00261a6195096f1",
    ("telemetry", "0002"): "cbe92391aa344a054b026105ca1423135bf241367d3955f1f9c8753be078795d",
}
# The same on PostgreSQL, whose SQL stands in files of its own beside them.
RELEASED_ON_POSTGRESQL = {
    ("records", "0001"): "2e17b6940d8cd65c70646016cf303209627b2d7ba93d30de7d8d3652559b6f35",
    ("records", "0002"): "418fc0fcaed78363de4541f95fbe2309a214a06af41943210419a9c0b684d700",
    ("telemetry", "0001"): "1c6e1b25bfcfc49590ebe17568a86b45bd594db45ad83731e50e1c8ebd01d9c1",
    ("telemetry", "0002"): "9353e58f46da6f7d2c62383c2e0916c1ad5186a34a475a0844e4449a0ca0df03",
}
STEPS = [(tree, revision) for tree in TREES for revision in revisions(tree)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase(tmp_path / "some.db", None)
    yield opened
    opened.close()


def schema(connection: Connection) -> list[tuple[Any, ...]]:
    """Everything that a migration made, as SQLite keeps it, Alembic's own table left out."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY 1, 2"
    return [tuple(row) for row in connection.exec_driver_sql(query) if not row[1].startswith("sqlite_")]


@pytest.mark.parametrize("tree", TREES)
def test_head_named_in_the_code_is_the_newest_script(tree: str) -> None:
    assert HEADS[tree] == revisions(tree)[-1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("tree", "revision"), STEPS, ids=[f"{tree}-{revision}" for tree, revision in STEPS])
def test_released_step_is_never_changed(engine: str, tree: str, revision: str) -> None:
    """A home that ran a step never runs it again, so an edit of it reaches new homes alone."""
    digest = hashlib.sha256()
    for path in sorted((MIGRATIONS / tree / "versions").glob(f"{revision}_*")):
        if path.name.endswith(".postgresql.sql") == (engine == "postgresql"):
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
    name, released = {
        "sqlite": ("RELEASED", RELEASED),
        "postgresql": ("RELEASED_ON_POSTGRESQL", RELEASED_ON_POSTGRESQL),
    }[engine]
    assert (tree, revision) in released, f"new step: add ({tree!r}, {revision!r}): {digest.hexdigest()!r} to {name}"
    assert digest.hexdigest() == released[tree, revision], (
        f"step {revision} of {tree} has been edited, and homes that ran it would keep the old schema: "
        "put it back as it was and write the change as a new step"
    )


@pytest.mark.parametrize("tree", TREES)
def test_revisions_are_numbered_without_gaps(tree: str) -> None:
    assert revisions(tree) == [f"{number:04}" for number in range(1, len(revisions(tree)) + 1)]


@pytest.mark.parametrize(("tree", "revision"), STEPS, ids=[f"{tree}-{revision}" for tree, revision in STEPS])
def test_each_step_down_undoes_exactly_its_step_up(database: SqliteDatabase, tree: str, revision: str) -> None:
    steps = revisions(tree)
    before = steps[steps.index(revision) - 1] if revision != steps[0] else "base"
    with database.write() as connection:
        if before != "base":
            move(connection, tree, before)
        earlier = schema(connection)
        move(connection, tree, revision)
        assert current_revision(connection) == revision
        later = schema(connection)
        assert later != earlier
        move(connection, tree, before)
        assert schema(connection) == earlier
        move(connection, tree, revision)
        assert schema(connection) == later


@pytest.mark.parametrize("tree", TREES)
def test_migrations_lead_to_the_declared_tables(database: SqliteDatabase, tree: str) -> None:
    with database.write() as connection:
        move(connection, tree, "head")
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA[tree]) == []


@pytest.mark.parametrize("tree", TREES)
def test_constraints_alembic_does_not_compare_are_equal_too(
    database: SqliteDatabase, tmp_path: Path, tree: str
) -> None:
    declared = SqliteDatabase(tmp_path / "declared.db", None)
    with database.write() as connection:
        move(connection, tree, "head")
        migrated = facts(connection, METADATA[tree])
    with declared.write() as connection:
        METADATA[tree].create_all(connection)
        assert migrated == facts(connection, METADATA[tree])
    declared.close()


def facts(connection: Connection, metadata: MetaData) -> dict[str, Any]:
    """What SQLAlchemy can read back about each table's rules, and whether it has rowids."""
    inspector = inspect(connection)
    found: dict[str, Any] = {}
    for name in metadata.tables:
        sql = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).scalar_one()
        found[name] = {
            "checks": sorted(
                (check["name"], " ".join(check["sqltext"].split())) for check in inspector.get_check_constraints(name)
            ),
            "unique": sorted(tuple(unique["column_names"]) for unique in inspector.get_unique_constraints(name)),
            "key": inspector.get_pk_constraint(name)["constrained_columns"],
            "foreign": sorted(
                (key["constrained_columns"], key["referred_table"], key["options"])
                for key in inspector.get_foreign_keys(name)
            ),
            "nullable": {column["name"]: column["nullable"] for column in inspector.get_columns(name)},
            "without rowid": "WITHOUT ROWID" in sql.upper(),
            "autoincrement": "AUTOINCREMENT" in sql.upper(),
        }
    return found


@pytest.mark.parametrize("tree", TREES)
def test_upgrade_makes_a_private_file_and_may_be_repeated(tmp_path: Path, tree: str) -> None:
    path = tmp_path / f"{tree}.db"
    upgrade(path, tree)
    upgrade(path, tree)
    assert path.stat().st_mode & 0o777 == 0o600
    opened = SqliteDatabase(path, None)
    with opened.read() as connection:
        assert current_revision(connection) == HEADS[tree]
    opened.close()


@pytest.mark.parametrize("tree", TREES)
def test_database_of_a_newer_foregate_is_left_alone(tmp_path: Path, tree: str) -> None:
    path = tmp_path / f"{tree}.db"
    upgrade(path, tree)
    opened = SqliteDatabase(path, None)
    with opened.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        before = schema(connection)
    with pytest.raises(ForegateError, match="newer Foregate"):
        upgrade(path, tree)
    with opened.read() as connection:
        assert schema(connection) == before
    opened.close()


def test_failed_migration_leaves_nothing_behind(database: SqliteDatabase) -> None:
    """The steps of one upgrade are one transaction: cut off in the middle, the database is as it was."""
    with pytest.raises(RuntimeError, match="cut off"), database.write() as connection:
        move(connection, "records", "head")
        raise RuntimeError("cut off")
    with database.read() as connection:
        assert schema(connection) == []
        assert current_revision(connection) is None


def run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


CLIENT_ID = "0" * 32 + ".access"
TOKEN = (
    "INSERT INTO service_tokens (id, account_id, client_id, name, duration, is_enabled, secret_version, created_at,"
    f" updated_at) VALUES ('t', 'a', '{CLIENT_ID}', 'n', '1h', 1, 1, 0, 0)"
)
ACCOUNT = "INSERT INTO accounts (id, name, type, settings, created_at, updated_at) VALUES ('a', 'n', 's', '{}', 0, 0)"
VERSION = "INSERT INTO secret_versions (token_id, version, digest, pepper_version, issued_at) VALUES ('t', 1, {}, 1, 0)"
DIGEST = "x'" + "ab" * 32 + "'"

FORBIDDEN: dict[str, str] = {
    "empty digest": VERSION.format("x''"),
    "short digest": VERSION.format("x'abcd'"),
    "digest as text": VERSION.format(f"'{'a' * 32}'"),
    "no digest": VERSION.format("NULL"),
    "the same version again": VERSION.format("x'" + "cd" * 32 + "'"),
    "replaced version": VERSION.format("x'" + "cd" * 32 + "'").replace("INSERT", "INSERT OR REPLACE"),
    "changed digest": "UPDATE secret_versions SET digest = x'" + "cd" * 32 + "'",
    "deleted version": "DELETE FROM secret_versions",
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_writer_changes_a_digest_not_even_with_all_rights(database: SqliteDatabase, name: str) -> None:
    with database.write() as connection:
        move(connection, "records", "head")
        run(connection, ACCOUNT, TOKEN)
        if name not in ("empty digest", "short digest", "digest as text", "no digest"):
            run(connection, VERSION.format(DIGEST))
    with database.read() as connection:
        before = connection.exec_driver_sql("SELECT * FROM secret_versions").all()
    with pytest.raises(IntegrityError), database.write() as connection:
        run(connection, FORBIDDEN[name])
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT * FROM secret_versions").all() == before
