"""Statements of the hot path, compiled once and given to the driver with plain values: 4 us instead of 15 to 20.

Only for statements that run with every change, whose values need no conversion (integers, text, bytes), and that are
written in the SQL that all supported databases share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, TextClause
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql.dml import Insert


class Prepared:
    """One statement. Safe to share between threads: a second compilation gives the same."""

    def __init__(self, statement: Insert | TextClause, columns: tuple[str, ...] = ()) -> None:
        """`columns` are those that an INSERT sets; a text names its own values (`:name`), and for `run_many` they
        stand in `columns` in the order in which it names them."""
        self._statement = statement
        self._columns = list(columns)
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None]] = {}

    def run(self, connection: Connection, values: dict[str, Any]) -> DBAPICursor:
        """Run it. `values` by column or name; KeyError where one is missing. Errors are the driver's own, which
        `database.engine` understands as well as SQLAlchemy's."""
        dialect = connection.dialect
        text, order = self._compiled.get(dialect.name) or self._compile(dialect)
        cursor = connection.connection.cursor()
        cursor.execute(text, values if order is None else tuple([values[name] for name in order]))
        return cursor

    def run_many(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it for each of `rows`: values in the order of `columns`."""
        dialect = connection.dialect
        text, order = self._compiled.get(dialect.name) or self._compile(dialect)
        columns = self._columns
        values: Sequence[Any] = rows if order else [dict(zip(columns, row, strict=True)) for row in rows]
        connection.connection.cursor().executemany(text, values)

    def _compile(self, dialect: Dialect) -> tuple[str, tuple[str, ...] | None]:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns or None)
        positions = compiled.positiontup if compiled.positional else None
        self._compiled[dialect.name] = (str(compiled), None if positions is None else tuple(positions))
        return self._compiled[dialect.name]
