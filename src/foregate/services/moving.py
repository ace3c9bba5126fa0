"""`foregate migrate`: carries a home's stores over to a PostgreSQL database while the product runs, and back again.

Most is copied beside the running product. Then a fence keeps everybody from writing, what changed meanwhile is carried
over, both sides are compared row by row, and the setting is changed. The edges notice nothing: they need no database.
A move that fails in between leaves the home as it was.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import MetaData, select

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.masterkey import write_private
from foregate.database import records_schema, telemetry_schema
from foregate.database.carrying import carry, lift_fence, raise_fence, summarise
from foregate.database.engine import Database
from foregate.database.postgresql.address import Address, parse_address
from foregate.database.stores import Store, Stores
from foregate.services.holder import find_holder
from foregate.services.home import Home, open_home
from foregate.services.process import lock_path
from foregate.services.rolling import restart
from foregate.services.settings import FILE_NAME, PREFIX, Settings
from foregate.services.status import read_status
from foregate.services.stores import look_at, stores_of

Say = Callable[[str], None]
_METADATA = {"records": records_schema.metadata, "telemetry": telemetry_schema.metadata}


def move_to(settings: Settings, url: str, say: Say) -> None:
    """Move a home from its files to the database at `url`, which was set up for it. Safe to repeat after a failure.

    Raises ForegateError: INVALID_INPUT for what is no address, UNAVAILABLE with what to do where it cannot be done.
    """
    try:
        address, _ = parse_address(url)
    except ValueError as error:
        raise invalid(f"The database must be {error}.") from None
    if not settings.keeps_files:
        raise invalid(f"This home keeps its stores on PostgreSQL already: {settings.database}.")
    _require_no_variable()
    home = open_home(settings.home)
    if not home.records_db.exists():
        raise invalid(f"There is nothing to move in {home.root}; set {PREFIX}DATABASE and start.")
    _move(stores_of(settings), stores_of(replace(settings, database=address)), home, address, say)
    status = read_status(home)
    if status.pid is None:
        say("Start Foregate: it uses the database from now on.")
        return
    restart(home, [one.name for one in status.processes if one.name.split("-")[0] in ("api", "worker")], say)
    say("Foregate uses the database now. The files stay as they were; nobody can write into them.")


def move_back(settings: Settings, say: Say) -> None:
    """Move a home from PostgreSQL back to its files, with all that has changed since. Nothing of it may be running.

    Raises ForegateError as `move_to`.
    """
    if settings.database is None:
        raise invalid("This home keeps its stores in files already.")
    _require_no_variable()
    home = open_home(settings.home)
    for name in ("up", "api", "worker"):
        if find_holder(lock_path(home, name)) is not None:
            message = f"foregate {name} runs on {home.root}; end it first. Processes on other machines must end too."
            raise ForegateError(ErrorCode.UNAVAILABLE, message)
    files = stores_of(replace(settings, database=None))
    for store in (files.records, files.telemetry):
        store.upgrade()
    _move(stores_of(settings), files, home, None, say)
    say("Start Foregate: it uses the files from now on. Nobody can write into the database.")


def _move(source: Stores, target: Stores, home: Home, address: Address | None, say: Say) -> None:
    pairs = [(source.records, target.records), (source.telemetry, target.telemetry)]
    look_at(target)
    look_at(source)
    _require_ours(*pairs[0])
    for from_store, to_store in pairs:
        began = time.monotonic()
        rows = _carry(from_store, to_store)
        say(f"{from_store.tree}: {rows} rows copied in {time.monotonic() - began:.1f} s, beside what runs")
    began = time.monotonic()
    with _fenced(source):
        for from_store, to_store in pairs:
            rows = _carry(from_store, to_store)
            _compare(from_store, to_store, say)
            say(f"{from_store.tree}: {rows} rows more; every table is the same on both sides")
        _write_setting(home.root / FILE_NAME, address)
    say(f"Nothing could be written for {time.monotonic() - began:.1f} s; the edges went on meanwhile.")


def _carry(from_store: Store, to_store: Store) -> int:
    metadata = _METADATA[from_store.tree]
    with _owned(from_store) as source, _owned(to_store) as target, source.read() as read, target.write() as write:
        lift_fence(write, metadata)
        return carry(read, write, metadata)


def _compare(from_store: Store, to_store: Store, say: Say) -> None:
    metadata = _METADATA[from_store.tree]
    with _owned(from_store) as source, _owned(to_store) as target, source.read() as one, target.read() as other:
        here, there = summarise(one, metadata), summarise(other, metadata)
    for table, summary in here.items():
        if there[table] != summary:
            message = (
                f"{to_store.where}: the table {table} is not the same ({summary.rows} and {there[table].rows} rows)"
            )
            raise ForegateError(ErrorCode.UNAVAILABLE, f"{message}; nothing was switched, try again.")
    say(f"{from_store.tree}: {sum(summary.rows for summary in here.values())} rows in {len(here)} tables compared")


@contextmanager
def _fenced(stores: Stores) -> Iterator[None]:
    """Nobody writes into the stores, and nobody ever again unless it fails."""
    with ExitStack() as stack:
        owned = [(stack.enter_context(_owned(one)), _METADATA[one.tree]) for one in (stores.records, stores.telemetry)]
        try:
            _for_all(owned, raise_fence)
            yield
        except BaseException:
            _for_all(owned, lift_fence)
            raise


def _for_all(owned: list[tuple[Database, MetaData]], work: Callable[..., None]) -> None:
    for database, metadata in owned:
        with database.write() as connection:
            work(connection, metadata)


@contextmanager
def _owned(store: Store) -> Iterator[Database]:
    database = store.open_as_owner()
    try:
        yield database
    finally:
        database.close()


def _require_ours(source: Store, target: Store) -> None:
    """The target holds nothing, or what an earlier try has carried: never another Foregate's accounts."""
    accounts = select(records_schema.accounts.c.id)
    with source.look_into() as one, target.look_into() as other:
        foreign = set(other.execute(accounts).scalars()) - set(one.execute(accounts).scalars())
    if foreign:
        message = (
            f"{target.where} holds the accounts of another Foregate; name a database that was set up for this home."
        )
        raise ForegateError(ErrorCode.UNAVAILABLE, message)


def _require_no_variable() -> None:
    if f"{PREFIX}DATABASE" in os.environ:
        raise invalid(
            f"Unset {PREFIX}DATABASE, and keep the setting in {FILE_NAME}: the environment would win over it."
        )


def _write_setting(path: Path, address: Address | None) -> None:
    """Set `database` in the settings file, or take it out; the rest of the file stays as it is."""
    text = path.read_text() if path.exists() else ""
    rest = re.sub(r"^[ \t]*database[ \t]*=.*\n?", "", text, flags=re.MULTILINE)
    line = "" if address is None else f'database = "{address.url}"\n'
    # Before the first table, should there be one: behind it the line would belong to that.
    write_private(path, (line + rest).encode())
