"""The edge's last good state on its own disk: one SQLite file, records by key, and how far the feed has been followed.

A million tokens must not cost memory, so nothing here holds them all: rows are read by key or streamed. What a record
changes and the feed position that it stands for are committed together and synced, so after a crash, a kill or a power
cut the two agree. One thread at a time may use a `State`.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

_SCHEMA_VERSION = 1
# Base maps are numbered anew in a new state: what belongs to another one is told by `id`.
# Records stand in the order in which they came, and an index finds them: their keys come in none, and kept in the order
# of keys a million of them is written four times over. States made before keep the other way; both are asked alike.
_SCHEMA = """
CREATE TABLE records (
  key TEXT PRIMARY KEY NOT NULL, seq INTEGER NOT NULL, wire BLOB, entry TEXT, entry_sum INTEGER
);
CREATE TABLE fallbacks (key TEXT PRIMARY KEY, seq INTEGER NOT NULL, wire BLOB) WITHOUT ROWID;
CREATE TABLE changed (client_id TEXT PRIMARY KEY, fold INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE held (key TEXT PRIMARY KEY, seq INTEGER NOT NULL, wire BLOB NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE refused (
  key TEXT, seq INTEGER NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (key, seq)
) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('id', lower(hex(randomblob(8))));
"""
_LIVE_OF_KIND = "FROM records WHERE key > ? AND key < ? AND wire IS NOT NULL ORDER BY key LIMIT ?"
# Enough to see what is going wrong; a feed gone mad must not fill the disk.
_MOST_REFUSED = 200
_PAGE_CACHE_KIB = 16_384
_CHECKPOINT_PAGES = 1_000  # SQLite's own
# While a snapshot is taken, keys come in no order: pages that are written back in between are written again and again.
_SNAPSHOT_CACHE_KIB = 65_536
_SNAPSHOT_CHECKPOINT_PAGES = 20_000
_ROWS_AT_ONCE = 2_000
# Far below what SQLite takes as parameters (32,766, sqlite.org/limits.html).
_KEYS_AT_ONCE = 1_000


class StateDamaged(Exception):
    """The file is no database, or a damaged one. It must be moved aside and fetched anew from the feed."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored record: `wire` is its JSON as it came (MAC and all), None for a tombstone."""

    key: str
    seq: int
    wire: bytes | None


@dataclass(frozen=True, slots=True)
class Note:
    """A record that was refused or is held: which one, and why."""

    key: str
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What there is to report beside the position."""

    tokens: int
    refused: list[Note]
    held: list[Note]


class State:
    """The file, open. Methods that write must be called inside `transaction()`."""

    def __init__(self, path: Path) -> None:
        """Opens `path` or makes it (0600). StateDamaged where its content cannot be used."""
        self.path = path
        if not path.exists():
            path.touch(mode=0o600)
        # Whether anything is held or refused: most of the time nothing is, and then no record has to end it.
        self._has_notes = True
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with _damage():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are kept together, synced to the disk, or not at all."""
        with _damage():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._has_notes = self._find_notes()
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # What is known

    def number(self, name: str) -> int:
        """A number kept by `set_number`, 0 before the first: `cursor` (the feed's seq up to which all is decided)..."""
        return int(self.text(name) or 0)

    def text(self, name: str) -> str:
        """A text kept by `set_text`, '' before the first."""
        with _damage():
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def get(self, key: str) -> Row | None:
        """What is stored of one key, tombstones included."""
        with _damage():
            row = self._connection.execute("SELECT key, seq, wire FROM records WHERE key = ?", (key,)).fetchone()
        return Row(*row) if row else None

    def get_all(self, keys: Iterable[str]) -> dict[str, Row]:
        """`get` of many keys at once, which is a good deal faster; those of which nothing is stored are left out."""
        wanted = iter(keys)
        found: dict[str, Row] = {}
        with _damage():
            while some := list(itertools.islice(wanted, _KEYS_AT_ONCE)):
                marks = ",".join("?" * len(some))
                query = f"SELECT key, seq, wire FROM records WHERE key IN ({marks})"  # noqa: S608 (marks alone)
                found.update((row[0], Row(*row)) for row in self._connection.execute(query, some))
        return found

    def rows(self, kind: str) -> Iterator[Row]:
        """All live records of a kind, by key. Streams; the state may be written to between rows."""
        query = f"SELECT key, seq, wire {_LIVE_OF_KIND}"
        for page in self._pages(query, kind):
            yield from (Row(*row) for row in page)

    def token_entries(self) -> Iterator[tuple[str, str | None]]:
        """(client id, engine entry) of all live tokens; None where the stored entry is damaged or of another engine."""
        query = f"SELECT key, entry, entry_sum {_LIVE_OF_KIND}"
        for page in self._pages(query, "token"):
            for key, entry, entry_sum in page:
                is_whole = entry is not None and _sum(key, entry) == entry_sum
                yield key[6:], entry if is_whole else None

    def token_entry(self, client_id: str) -> str | None:
        """The engine's entry of a live token; None where there is none, or it is damaged."""
        key = f"token/{client_id}"
        query = "SELECT entry, entry_sum FROM records WHERE key = ? AND wire IS NOT NULL"
        with _damage():
            row = self._connection.execute(query, (key,)).fetchone()
        return str(row[0]) if row and row[0] is not None and _sum(key, row[0]) == row[1] else None

    def changed_tokens(self) -> Iterator[tuple[str, str | None]]:
        """(client id, entry; None: gone, or damaged here) of the tokens that the base map in force may have wrong."""
        query = (
            "SELECT client_id, wire IS NOT NULL, entry, entry_sum FROM changed "
            "LEFT JOIN records ON key = 'token/' || client_id ORDER BY client_id"
        )
        with _damage():
            for client_id, is_live, entry, entry_sum in self._connection.execute(query):
                is_whole = entry is not None and _sum(f"token/{client_id}", entry) == entry_sum
                yield client_id, entry if is_live and is_whole else None

    def held(self) -> list[tuple[Note, bytes]]:
        """The held records and their wire JSON."""
        with _damage():
            rows = self._connection.execute("SELECT key, seq, reason, wire FROM held ORDER BY seq").fetchall()
        return [(Note(key, seq, reason), wire) for key, seq, reason, wire in rows]

    def refused(self) -> list[Note]:
        """The latest refusals, oldest first; a key's refusals go when a newer record of it is applied."""
        with _damage():
            rows = self._connection.execute("SELECT key, seq, reason FROM refused ORDER BY at, seq").fetchall()
        return [Note(*row) for row in rows]

    def notes(self) -> Notes:
        """What there is to report."""
        return Notes(self.number("tokens"), self.refused(), [note for note, _ in self.held()])

    def fallbacks(self) -> list[Row]:
        """For each key whose newest record no engine has accepted yet: the one before, which an engine did accept."""
        with _damage():
            return [Row(*row) for row in self._connection.execute("SELECT key, seq, wire FROM fallbacks ORDER BY key")]

    def _set_caches(self, cache_kib: int, checkpoint_pages: int) -> None:
        self._connection.execute(f"PRAGMA cache_size=-{cache_kib}")
        self._connection.execute(f"PRAGMA wal_autocheckpoint={checkpoint_pages}")
        self._connection.execute("PRAGMA shrink_memory")

    def _find_notes(self) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM held) OR EXISTS (SELECT 1 FROM refused)"
        return bool(self._connection.execute(query).fetchone()[0])

    # What changes

    def set_number(self, name: str, value: int) -> None:
        """Keep a number under a name."""
        self.set_text(name, str(value))

    def set_text(self, name: str, value: str) -> None:
        """Keep a text under a name."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def put(self, row: Row, entry: str | None = None) -> None:
        """Store a record (or tombstone) with the engine's entry for it; ends what was held or refused of its key."""
        entry_sum = None if entry is None else _sum(row.key, entry)
        self._connection.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", (row.key, row.seq, row.wire, entry, entry_sum)
        )
        if self._has_notes:
            self._connection.execute("DELETE FROM held WHERE key = ? AND seq <= ?", (row.key, row.seq))
            self._connection.execute("DELETE FROM refused WHERE key = ? AND seq < ?", (row.key, row.seq))

    def mark_changed(self, client_ids: Iterable[str], fold: int) -> None:
        """These tokens changed while base map number `fold` was the newest one begun."""
        rows = ((client_id, fold) for client_id in client_ids)
        self._connection.executemany("INSERT OR REPLACE INTO changed VALUES (?, ?)", rows)

    def drop_changed(self, fold: int) -> None:
        """Base map number `fold` is in force: it holds what changed before it was begun."""
        self._connection.execute("DELETE FROM changed WHERE fold < ?", (fold,))

    def remove(self, key: str) -> None:
        """Forget a key altogether, as for a row that no longer passes its MAC; the feed must bring it again."""
        self._connection.execute("DELETE FROM records WHERE key = ?", (key,))

    def hold(self, note: Note, wire: bytes) -> None:
        """Keep a record aside; of two for one key the newer stays."""
        self._has_notes = True
        self._connection.execute(
            "INSERT INTO held VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "seq = excluded.seq, wire = excluded.wire, reason = excluded.reason WHERE excluded.seq >= held.seq",
            (note.key, note.seq, wire, note.reason),
        )

    def refuse(self, note: Note) -> None:
        """Remember a refusal; the oldest go beyond a bound."""
        self._has_notes = True
        values = (note.key, note.seq, note.reason, time.time())
        self._connection.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", values)
        self._connection.execute(
            "DELETE FROM refused WHERE (key, seq) IN (SELECT key, seq FROM refused ORDER BY at DESC LIMIT -1 OFFSET ?)",
            (_MOST_REFUSED,),
        )

    def drop_refusals(self, key: str) -> None:
        """What was refused of a key counts no longer; '' stands for whole snapshots."""
        self._connection.execute("DELETE FROM refused WHERE key = ?", (key,))

    def keep_fallback(self, row: Row) -> None:
        """Remember the last accepted record of a key; the first one remembered stays until `drop_fallbacks`."""
        self._connection.execute("INSERT OR IGNORE INTO fallbacks VALUES (?, ?, ?)", (row.key, row.seq, row.wire))

    def drop_fallbacks(self, keys: Iterable[str]) -> None:
        """The engine has accepted (or finally refused) the newest record of these keys."""
        self._connection.executemany("DELETE FROM fallbacks WHERE key = ?", ((key,) for key in keys))

    # Snapshots

    def begin_snapshot(self) -> None:
        """Start to remember which keys the feed's snapshot holds (on disk, in a temporary table)."""
        with _damage():
            self._set_caches(_SNAPSHOT_CACHE_KIB, _SNAPSHOT_CHECKPOINT_PAGES)
            self._connection.execute("DROP TABLE IF EXISTS temp.seen")
            self._connection.execute("CREATE TEMP TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID")

    def see(self, keys: Iterable[str]) -> None:
        """These keys stand in the snapshot."""
        self._connection.executemany("INSERT OR IGNORE INTO temp.seen VALUES (?)", ((key,) for key in keys))

    def unseen(self, seq: int) -> Iterator[str]:
        """Live keys not younger than `seq` that the snapshot did not hold."""
        query = (
            "SELECT key FROM records WHERE wire IS NOT NULL AND seq <= ? AND NOT EXISTS "
            "(SELECT 1 FROM temp.seen WHERE seen.key = records.key)"
        )
        with _damage():
            for (key,) in self._connection.execute(query, (seq,)):
                yield key

    def end_snapshot(self) -> None:
        """Forget what `see` remembered."""
        self._connection.execute("DROP TABLE IF EXISTS temp.seen")
        self._set_caches(_PAGE_CACHE_KIB, _CHECKPOINT_PAGES)

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode=WAL")
        # A revocation that was reported as applied must survive a power cut, also when nobody is there to repeat it.
        execute("PRAGMA synchronous=FULL")
        self._set_caches(_PAGE_CACHE_KIB, _CHECKPOINT_PAGES)
        execute("PRAGMA temp_store=FILE")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={_SCHEMA_VERSION};COMMIT")
        elif version != _SCHEMA_VERSION:
            raise StateDamaged(f"state of another form ({version})")
        execute("SELECT count(*) FROM meta").fetchone()

    def _pages(self, query: str, kind: str) -> Iterator[list[Any]]:
        after, end = f"{kind}/", f"{kind}0"  # '0' follows '/' in ASCII
        while True:
            with _damage():
                page = self._connection.execute(query, (after, end, _ROWS_AT_ONCE)).fetchall()
            if not page:
                return
            yield page
            after = page[-1][0]


def decode(wire: bytes) -> object:
    """The JSON of a stored record, None if it is damaged."""
    try:
        return orjson.loads(wire)
    except ValueError:
        return None


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if any(words in str(error) for words in ("no such table", "malformed", "not a database")):
            raise StateDamaged(str(error)) from error
        raise
    except sqlite3.DatabaseError as error:
        raise StateDamaged(str(error)) from error


def _sum(key: str, entry: str) -> int:
    return zlib.crc32(f"{key} {entry}".encode())
