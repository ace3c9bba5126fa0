"""Whether a database file is whole, asked from outside: read only, and without a trace, while a product runs on it too.

Standard library alone, as the supervisor asks before it starts anything and stays small.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

_PATIENCE_SECONDS = 2
# SQLite's words for a file that is not what it should be, and no others: a full disk or a lock is no damage.
_WORDS = ("image is malformed", "malformed database schema", "file is not a database", "unsupported file format")


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that can change nothing, without transactions of its own. sqlite3.Error where the file is absent.

    A reader of a WAL holds up nobody (sqlite.org/wal.html).
    """
    # Without a WAL beside it nobody has it open: then it is read as it lies there, and no WAL is left behind.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    raw = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}", uri=True, timeout=_PATIENCE_SECONDS, check_same_thread=False
    )
    raw.isolation_level = None
    return raw


def find_damage(path: Path, *, is_thorough: bool) -> str:
    """What is wrong with the file as a database, in SQLite's words; empty if nothing was found.

    Thorough: every page and row is read (`PRAGMA quick_check`), at some hundred MB a second; else the schema alone.
    """
    question = "PRAGMA quick_check(1)" if is_thorough else "SELECT 'ok' FROM (SELECT count(*) FROM sqlite_master)"
    try:
        raw = open_read_only(path)
        try:
            found = str(raw.execute(question).fetchone()[0])
        finally:
            raw.close()
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else " ".join(found.removeprefix("*** in database main ***").split())


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite says that the file is damaged."""
    return any(words in str(error) for words in _WORDS)
