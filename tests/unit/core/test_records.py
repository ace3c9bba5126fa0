"""Sealed records: what is damaged cannot pass."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from foregate.core.records import RecordRefused, canonical, open_record, seal

MAC_KEY = b"k" * 32
CLIENT = f"{'0' * 32}.access"
VALUE: dict[str, Any] = {"token_id": "x", "secrets": [{"digest": "ü"}], "enabled": True, "expires_at": None}

# What version 1 looks like on the wire, for ever (architecture, records and keys).
GOLDEN = {
    "v": 1,
    "key": "account/" + "a" * 32,
    "seq": 7,
    "value": {"b": "é", "a": [1, None]},
    "mac": "8c49bc84ca7d7ced08d910ec7800591dd0fbcdb39e56a890c47b532fea78ec18",
}


@pytest.mark.parametrize("value", [VALUE, None, {}], ids=["value", "tombstone", "empty"])
def test_sealed_record_opens_to_itself(value: dict[str, Any] | None) -> None:
    record = seal(MAC_KEY, f"token/{CLIENT}", 1, value)

    assert open_record(MAC_KEY, json.loads(json.dumps(record.to_wire()))) == record
    assert (record.kind, record.name) == ("token", CLIENT)


def test_golden_record_of_version_one_opens() -> None:
    assert open_record(MAC_KEY, GOLDEN).value == {"a": [1, None], "b": "é"}


@pytest.mark.parametrize("key", ["token/x", "app/f-_.*", "ingress/*.example.com", "keys/a", "account/" + "a" * 255])
def test_keys_of_the_known_kinds_can_be_sealed(key: str) -> None:
    assert seal(MAC_KEY, key, 1, {}).key == key


@pytest.mark.parametrize(
    "key", ["", "token", "token/", "other/x", "token/a b", "token/a/b", "token/ä", "app/x\n", "app/" + "a" * 256]
)
def test_other_keys_cannot_be_sealed(key: str) -> None:
    with pytest.raises(ValueError, match="not a record key"):
        seal(MAC_KEY, key, 1, {})


@pytest.mark.parametrize("seq", [0, -1])
def test_seq_starts_at_one(seq: int) -> None:
    with pytest.raises(ValueError, match="seq"):
        seal(MAC_KEY, "app/x", seq, {})


def damaged(**changes: Any) -> dict[str, Any]:
    wire = copy.deepcopy(seal(MAC_KEY, f"token/{CLIENT}", 5, VALUE).to_wire())
    wire.update(changes)
    return wire


def without(name: str) -> dict[str, Any]:
    wire = damaged()
    del wire[name]
    return wire


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(damaged(value={**VALUE, "secrets": [{"digest": ""}]}), id="emptied digest"),
        pytest.param(damaged(value={**VALUE, "enabled": 1}), id="true became 1"),
        pytest.param(damaged(value={**VALUE, "extra": 0}), id="added field"),
        pytest.param(damaged(value=None), id="became a tombstone"),
        pytest.param(damaged(value=[]), id="value of another type"),
        pytest.param(damaged(seq=6), id="other seq"),
        pytest.param(damaged(seq=0), id="seq 0"),
        pytest.param(damaged(seq=True), id="seq true"),
        pytest.param(damaged(seq="5"), id="seq text"),
        pytest.param(damaged(key="token/other"), id="other key"),
        pytest.param(damaged(key="nonsense"), id="malformed key"),
        pytest.param(damaged(key=None), id="no key"),
        pytest.param(damaged(v=2), id="newer version"),
        pytest.param(damaged(mac=""), id="empty MAC"),
        pytest.param(damaged(mac="0" * 64), id="other MAC"),
        pytest.param(damaged(mac="ü" * 64), id="MAC outside ASCII"),
        pytest.param(damaged(mac=None), id="no MAC"),
        *(pytest.param(without(name), id=f"without {name}") for name in ("v", "key", "seq", "value", "mac")),
        pytest.param(None, id="null"),
        pytest.param([], id="list"),
        pytest.param("x", id="text"),
    ],
)
def test_damaged_record_is_refused(wire: object) -> None:
    with pytest.raises(RecordRefused):
        open_record(MAC_KEY, wire)


def test_record_sealed_under_another_key_is_refused() -> None:
    with pytest.raises(RecordRefused, match="MAC"):
        open_record(b"o" * 32, damaged())


def test_canonical_form_does_not_depend_on_the_order_of_members() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": "é"}}) == '{"a":{"c":"é","d":2},"b":1}'.encode()


def test_canonical_form_has_no_infinities() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("inf")})
