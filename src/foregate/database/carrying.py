"""Carrying what is in one store over to another, on the same engine or not: page by page in the order of the keys, what
is gone is deleted, what is missing added, what differs changed. Safe to repeat: the second time finds little to do.

It knows tables and no product. Triggers and constraints of the target stay in force, and a fence keeps everybody from
writing into a store that is being left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    MetaData,
    Row,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import tuple_ as row_of

# A page of big rows (batches of events) is some megabytes.
_PAGE_ROWS = 500
# What a fence says, and the sentence that the drivers make of it.
FENCE = "this store is being moved"
MOVED = "The stores of this home are being moved to another database; try again in a moment."

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A table's rows: how many, and a digest of all of them in the order of their keys."""

    rows: int
    digest: str


def carry(source: Connection, target: Connection, metadata: MetaData) -> int:
    """Make every table of `target` what it is in `source`; how many rows had to be touched.

    `source` is one snapshot, `target` a write transaction of the store's owner. Rows that a foreign key asks for are
    added before, and deleted after, those that ask.
    """
    touched = 0
    for table in reversed(metadata.sorted_tables):
        for gone in _gone(source, target, table):
            target.execute(_by_key(delete(table), table), [_key_values(table, row) for row in gone])
            touched += len(gone)
    for table in metadata.sorted_tables:
        for missing, different in _differences(source, target, table):
            if missing:
                target.execute(insert(table), [dict(row._mapping) for row in missing])
            if different:
                columns = [column for column in table.columns if not column.primary_key]
                statement = update(table).values({column.name: bindparam(column.name) for column in columns})
                target.execute(_by_key(statement, table), [_all_values(table, row) for row in different])
            touched += len(missing) + len(different)
    _move_numbers(source, target, metadata)
    return touched


def summarise(connection: Connection, metadata: MetaData) -> Mapping[str, Summary]:
    """Every table's rows, counted and digested. Equal for stores that hold the same, whatever their engines."""
    found: dict[str, Summary] = {}
    for table in metadata.sorted_tables:
        rows, digest = 0, hashlib.sha256()
        for page in _pages(connection, table):
            for row in page:
                digest.update(repr(tuple(row)).encode())
            rows += len(page)
        found[table.name] = Summary(rows, digest.hexdigest())
    return found


def raise_fence(connection: Connection, metadata: MetaData) -> None:
    """From the commit on nobody writes into the store, processes that have it open included. Safe to repeat."""
    lift_fence(connection, metadata)
    for table in metadata.tables:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(
                f"CREATE TRIGGER moved BEFORE INSERT OR UPDATE OR DELETE ON {table} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION refuse('{FENCE}')"
            )
            continue
        for verb in ("INSERT", "UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER moved_{table}_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{FENCE}'); END"
            )


def lift_fence(connection: Connection, metadata: MetaData) -> None:
    """The store may be written again from the commit on. Safe to repeat, and where there is no fence."""
    for table in metadata.tables:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS moved ON {table}")
            continue
        for verb in ("insert", "update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS moved_{table}_{verb}")


def _gone(source: Connection, target: Connection, table: Table) -> Iterator[list[Row[Any]]]:
    """Pages of the target's rows that the source has not, or that stand in the way of another: what must be one of a
    kind has another value there."""
    unique = [list(constraint.columns) for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    columns = [column.name for columns in unique for column in columns if not column.primary_key]
    after: Key | None = None
    for page in _pages(target, table):
        upto = _key(table, page[-1])
        kept = {_key(table, row): row for row in _between(source, table, after, upto)}
        gone = [row for row in page if _is_gone(row, kept.get(_key(table, row)), columns)]
        if gone:
            yield gone
        after = upto


def _is_gone(row: Row[Any], kept: Row[Any] | None, unique: list[str]) -> bool:
    return kept is None or any(row._mapping[name] != kept._mapping[name] for name in unique)


def _differences(
    source: Connection, target: Connection, table: Table
) -> Iterator[tuple[list[Row[Any]], list[Row[Any]]]]:
    """Pages of the source's rows that the target has not, and that it has otherwise."""
    after: Key | None = None
    for page in _pages(source, table):
        upto = _key(table, page[-1])
        there = {_key(table, row): tuple(row) for row in _between(target, table, after, upto)}
        missing = [row for row in page if _key(table, row) not in there]
        different = [row for row in page if there.get(_key(table, row), tuple(row)) != tuple(row)]
        if missing or different:
            yield missing, different
        after = upto


def _pages(connection: Connection, table: Table) -> Iterator[list[Row[Any]]]:
    after: Key | None = None
    while page := _between(connection, table, after, None, limit=_PAGE_ROWS):
        yield page
        after = _key(table, page[-1])


def _between(
    connection: Connection, table: Table, after: Key | None, upto: Key | None, *, limit: int | None = None
) -> list[Row[Any]]:
    """Rows by growing key, from above `after` to `upto`."""
    columns = list(table.primary_key.columns)
    key = row_of(*columns)
    query = select(table).order_by(*columns).limit(limit)
    if after is not None:
        query = query.where(key > row_of(*(_bound(c, v) for c, v in zip(columns, after, strict=True))))
    if upto is not None:
        query = query.where(key <= row_of(*(_bound(c, v) for c, v in zip(columns, upto, strict=True))))
    return list(connection.execute(query))


def _bound(column: Any, value: Any) -> Any:
    return bindparam(None, value, type_=column.type)


def _key(table: Table, row: Row[Any]) -> Key:
    return tuple(row._mapping[column.name] for column in table.primary_key.columns)


def _by_key(statement: Any, table: Table) -> Any:
    return statement.where(*(column == bindparam(f"key_{column.name}") for column in table.primary_key.columns))


def _key_values(table: Table, row: Row[Any]) -> dict[str, Any]:
    return {f"key_{column.name}": row._mapping[column.name] for column in table.primary_key.columns}


def _all_values(table: Table, row: Row[Any]) -> dict[str, Any]:
    rest = {column.name: row._mapping[column.name] for column in table.columns if not column.primary_key}
    return {**rest, **_key_values(table, row)}


def _move_numbers(source: Connection, target: Connection, metadata: MetaData) -> None:
    """Numbers that the database gives go on above every one that was ever given in the source."""
    for table in metadata.sorted_tables:
        if not table.dialect_options["sqlite"]["autoincrement"]:
            continue
        column = next(iter(table.primary_key.columns)).name
        last = max(_last_number(source, table.name, column), _last_number(target, table.name, column))
        if target.dialect.name == "postgresql":
            sequence = func.pg_get_serial_sequence(table.name, column)
            target.execute(select(func.setval(sequence, max(1, last), last > 0)))
        else:
            target.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            target.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))


def _last_number(connection: Connection, table: str, column: str) -> int:
    """The highest number that was ever given, or 0."""
    if connection.dialect.name == "postgresql":
        sequence = connection.execute(select(func.pg_get_serial_sequence(table, column))).scalar_one()
        query = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"  # noqa: S608
        return int(connection.exec_driver_sql(query).scalar_one())
    query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    return int(connection.exec_driver_sql(query, (table,)).scalar() or 0)
