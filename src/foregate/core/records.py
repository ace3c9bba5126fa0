"""Edge records: the one form in which state reaches an edge, sealed so that a damaged one cannot pass.

A record is `{"v": 1, "key": ..., "seq": ..., "value": {...} | null, "mac": "<64 hex>"}`; a null is a tombstone. The MAC
is HMAC-SHA256 over the canonical JSON of v, key, seq and value. Wire formats only grow: a reader ignores fields of
`value` that it does not know, and refuses a `v` that it does not know.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any

WIRE_VERSION = 1
KEY_FORM = re.compile(r"(token|app|ingress|keys|account|edge)/[A-Za-z0-9.*_-]{1,255}")

# Made once: `json.dumps` would make one for each of a million records.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class RecordRefused(Exception):
    """A record that must not be applied. The text says why and never holds the record's content."""


@dataclass(frozen=True, slots=True)
class Record:
    """One sealed record. `seq` grows over all records of a control plane and never repeats for other content."""

    key: str
    seq: int
    value: dict[str, Any] | None
    mac: str

    @property
    def kind(self) -> str:
        """`token`, `app`, `ingress`, `keys`, `account` or `edge`."""
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        """What stands behind the kind."""
        return self.key.partition("/")[2]

    def to_wire(self) -> dict[str, Any]:
        """The JSON object."""
        return {"v": WIRE_VERSION, "key": self.key, "seq": self.seq, "value": self.value, "mac": self.mac}


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: the same bytes for equal values."""
    return _CANONICAL.encode(value).encode()


def seal(mac_key: bytes, key: str, seq: int, value: dict[str, Any] | None) -> Record:
    """A record with its MAC. ValueError for a key or seq that is not of the form."""
    if not KEY_FORM.fullmatch(key):
        raise ValueError(f"not a record key: {key!r}")
    if seq < 1:
        raise ValueError("seq starts at 1")
    return Record(key, seq, value, _mac(mac_key, key, seq, value))


def open_record(mac_key: bytes, wire: object) -> Record:
    """The record in `wire`, if form and MAC are right; else RecordRefused. Safe on any input."""
    if not isinstance(wire, dict):
        raise RecordRefused("a record is a JSON object")
    if wire.get("v") != WIRE_VERSION:
        raise RecordRefused("unknown record version")
    key, seq, value, mac = wire.get("key"), wire.get("seq"), wire.get("value"), wire.get("mac")
    if not isinstance(key, str) or not KEY_FORM.fullmatch(key):
        raise RecordRefused("malformed key")
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1:
        raise RecordRefused("malformed seq")
    if value is not None and not isinstance(value, dict):
        raise RecordRefused("malformed value")
    if not isinstance(mac, str) or not hmac.compare_digest(mac.encode(), _mac(mac_key, key, seq, value).encode()):
        raise RecordRefused("the MAC does not fit")
    return Record(key, seq, value, mac)


def _mac(mac_key: bytes, key: str, seq: int, value: dict[str, Any] | None) -> str:
    body = canonical({"v": WIRE_VERSION, "key": key, "seq": seq, "value": value})
    return hmac.digest(mac_key, body, hashlib.sha256).hex()
