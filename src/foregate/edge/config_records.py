"""The records that a worker's configuration is made from (all but tokens), and which an engine has yet to accept.

A new record that the engine cannot take must not stop the others: its predecessor, which the engine did take, goes on
in its place, and the refusal is kept and reported. Blocking; called on the agent's state thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foregate.core.records import RecordRefused, open_record
from foregate.edge import wire
from foregate.edge.rollout import Value, parse_value
from foregate.edge.state import Note, Row, State, decode

KINDS = ("app", "ingress", "keys", "account")


@dataclass(frozen=True, slots=True)
class ConfigRecords:
    """Applications by id, ingresses by hostname, accounts and keys by account id."""

    apps: Mapping[str, wire.AppValue]
    ingresses: Mapping[str, wire.IngressValue]
    accounts: Mapping[str, wire.AccountValue]
    keys: Mapping[str, wire.KeysValue]


@dataclass(frozen=True, slots=True)
class Loaded:
    """`newest`: the values by key. `pending`: keys no engine has accepted yet, with the value before (None: none).

    `rows`: the newest records of the pending keys. `cursor`: how far the feed was followed when they were read.
    """

    newest: Mapping[str, Value]
    pending: Mapping[str, Value | None]
    rows: Mapping[str, Row]
    cursor: int


def load(state: State, mac_key: bytes) -> Loaded:
    """All configuration records. One that is damaged on disk is forgotten, and the feed is asked for all again."""
    newest: dict[str, Value] = {}
    damaged: list[str] = []
    for kind in KINDS:
        for row in state.rows(kind):
            value = _value(row, mac_key)
            if value is None:
                damaged.append(row.key)
            else:
                newest[row.key] = value
    if damaged:
        with state.transaction():
            for key in damaged:
                state.remove(key)
                state.refuse(Note(key, 0, "damaged on the edge's disk; asked for again"))
            state.set_number("cursor", 0)
    pending = {row.key: _value(row, mac_key) if row.wire is not None else None for row in state.fallbacks()}
    rows = {key: state.get(key) or Row(key, 0, None) for key in pending}
    return Loaded(newest, pending, rows, state.number("cursor"))


def settle(state: State, loaded: Loaded, refused: Mapping[str, str]) -> None:
    """The engine took everything in `loaded` but `refused` (reasons by key), whose predecessors are in force again.

    What came after `load` stays pending. A refused key that is not pending (an engine of another version took it) is
    only noted: it is left out, and tried again with the next worker."""
    before = {row.key: row for row in state.fallbacks()}
    with state.transaction():
        for key, judged in loaded.rows.items():
            now = state.get(key)
            is_newest = now is not None and now.seq == judged.seq
            if key in refused:
                state.refuse(Note(key, judged.seq, refused[key]))
                if is_newest:
                    # Under the refused record's seq: the feed will repeat it, and once is enough.
                    state.put(Row(key, judged.seq, before[key].wire))
            if is_newest or key not in refused:
                state.drop_fallbacks([key])
            if not is_newest and key not in refused:
                # A still newer one has come meanwhile; should it fail, the one just accepted goes on.
                state.keep_fallback(judged)
        for key in refused.keys() - loaded.rows.keys():
            state.refuse(Note(key, 0, refused[key]))


def arrange(values: Mapping[str, Value]) -> ConfigRecords:
    """Values by key, as a compiler wants them."""
    apps: dict[str, wire.AppValue] = {}
    ingresses: dict[str, wire.IngressValue] = {}
    accounts: dict[str, wire.AccountValue] = {}
    keys: dict[str, wire.KeysValue] = {}
    for key, value in values.items():
        name = key.partition("/")[2]
        match value:
            case wire.AppValue():
                apps[name] = value
            case wire.IngressValue():
                ingresses[name] = value
            case wire.AccountValue():
                accounts[name] = value
            case wire.KeysValue():
                keys[name] = value
            case wire.TokenValue():
                raise ValueError("a token is no part of a configuration")
    return ConfigRecords(apps, ingresses, accounts, keys)


def with_predecessors(loaded: Loaded, keys: set[str]) -> dict[str, Value]:
    """The values with what was before in place of the newest of `keys`."""
    values = dict(loaded.newest)
    for key in keys:
        before = loaded.pending.get(key)
        if before is None:
            values.pop(key, None)
        else:
            values[key] = before
    return values


def _value(row: Row, mac_key: bytes) -> Value | None:
    try:
        return parse_value(open_record(mac_key, decode(row.wire or b"")))
    except RecordRefused:
        return None
