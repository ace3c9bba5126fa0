"""Column types that mean the same on every database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Integer, text

# A whole number of 64 bits, as every one is in SQLite; there alone it must be called INTEGER to be a row's own number.
Whole = BigInteger().with_variant(Integer(), "sqlite")


def only_where(condition: str) -> dict[str, Any]:
    """Arguments of an `Index` that leaves out the rows for which `condition` does not hold."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
