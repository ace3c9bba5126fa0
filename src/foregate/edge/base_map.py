"""The base map on disk: one line per token, written from the state now and then, so that a worker starts fast.

What changed since a base map was begun stands in the state's `changed` and goes into the overlay. A file is named by
its number and carries a MAC in the state: one that is torn, or that anybody altered, is not served but written anew.
Blocking; a base map is written over a connection of its own beside the running agent.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from foregate.core.records import RecordRefused, open_record
from foregate.edge import wire
from foregate.edge.rollout import parse_value
from foregate.edge.state import Row, State, decode

_CHUNK_LINES = 2_000


@dataclass(frozen=True, slots=True)
class BaseMap:
    """A base map that is whole. `damaged`: client ids that it lacks, because their rows on disk are not."""

    fold: int
    path: Path
    tokens: int
    damaged: tuple[str, ...] = ()


def begin(state: State) -> int:
    """The number of the base map to write next; from here on, what changes is marked as newer. Commits."""
    with state.transaction():
        fold = state.number("fold") + 1
        state.set_number("fold", fold)
    return fold


def write(state: State, folder: Path, fold: int, mac_key: bytes) -> tuple[BaseMap, str]:
    """Write base map number `fold` of all live tokens; the map, and the MAC to keep. Never leaves half a file.

    `state` may be a second connection; what others commit meanwhile may or may not be in the map, and is marked.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"base-{fold}.map"
    beside = path.with_suffix(".new")
    mac = hmac.new(mac_key, _preface(fold), hashlib.sha256)
    damaged: list[str] = []
    count = 0
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        lines: list[str] = []
        for client_id, entry in state.token_entries():
            if entry is None:
                damaged.append(client_id)
                continue
            count += 1
            lines.append(f"{client_id} {entry}\n")
            if len(lines) >= _CHUNK_LINES:
                _put(file.write, mac, lines)
                lines = []
        _put(file.write, mac, lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    return BaseMap(fold, path, count, tuple(damaged)), mac.hexdigest()


def adopt(state: State, base: BaseMap, mac: str) -> None:
    """From here on `base` is the one in force, also after a restart. Commits; older files go."""
    with state.transaction():
        state.set_number("base", base.fold)
        state.set_text("base_mac", mac)
        state.set_number("base_tokens", base.tokens)
        state.drop_changed(base.fold)
        if next(state.changed_tokens(), None) is None:
            state.set_number("tokens", base.tokens)  # counted, where the number kept so far was reckoned
    for path in base.path.parent.glob("base-*"):
        if path != base.path:
            path.unlink(missing_ok=True)


def find(state: State, folder: Path, mac_key: bytes) -> BaseMap | None:
    """The base map in force, if its file is here and whole; None: it must be written."""
    fold = state.number("base")
    path = folder / f"base-{fold}.map"
    mac = hmac.new(mac_key, _preface(fold), hashlib.sha256)
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                mac.update(chunk)
    except FileNotFoundError:
        return None
    if not hmac.compare_digest(mac.hexdigest(), state.text("base_mac")):
        return None
    return BaseMap(fold, path, state.number("base_tokens"))


def renew(state: State, form: str, mac_key: bytes, token_entry: Callable[[str, wire.TokenValue], str]) -> None:
    """Where the entries kept are not of `form`, have each made anew from its record, and the base map written. Commits;
    a token takes about 0.1 ms. Rows that are damaged are left to `write`, which finds them."""
    if state.text("entry_form") == form:
        return
    for rows in _batched(state.rows("token"), _CHUNK_LINES):
        with state.transaction():
            for row in rows:
                value = _value(row, mac_key)
                state.put(row, None if value is None else token_entry(row.key.partition("/")[2], value))
    with state.transaction():
        state.set_text("base_mac", "")
        state.set_text("entry_form", form)


def repair(
    state: State, client_ids: tuple[str, ...], mac_key: bytes, token_entry: Callable[[str, wire.TokenValue], str]
) -> int:
    """Rows whose entry is damaged: made anew from their record where that is whole, else forgotten. Commits.

    Returns how many were forgotten; then the cursor is back at 0, so that the feed brings them again.
    """
    forgotten = 0
    with state.transaction():
        for client_id in client_ids:
            row = state.get(f"token/{client_id}")
            if row is None or row.wire is None:
                continue
            value = _value(row, mac_key)
            if value is None:
                forgotten += 1
                state.remove(row.key)
            else:
                state.put(row, token_entry(client_id, value))
        state.mark_changed(client_ids, state.number("fold"))
        if forgotten:
            state.set_number("cursor", 0)
    return forgotten


def _value(row: Row, mac_key: bytes) -> wire.TokenValue | None:
    try:
        value = parse_value(open_record(mac_key, decode(row.wire or b"")))
    except RecordRefused:
        return None
    return value if isinstance(value, wire.TokenValue) else None


def _batched(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while part := list(islice(rows, size)):
        yield part


def _preface(fold: int) -> bytes:
    """Ties a file to its number, so that an older one put in its place is noticed."""
    return b"foregate base map %d\n" % fold


def _put(write_bytes: Callable[[bytes], object], mac: hmac.HMAC, lines: list[str]) -> None:
    content = "".join(lines).encode()
    write_bytes(content)
    mac.update(content)
