"""The rules by which an edge takes, ignores, refuses or holds a record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foregate.core.records import RecordRefused, open_record, seal
from foregate.edge import wire
from foregate.edge.rollout import Apply, Checks, Hold, Ignore, Known, Refuse, judge

MAC_KEY = bytes(range(32))
CLIENT_ID = "0" * 32 + ".access"
KEY = f"token/{CLIENT_ID}"
TOKEN = wire.TokenValue(
    token_id="t1",
    account_id="a" * 32,
    is_enabled=True,
    expires_at=None,
    secrets=(wire.SecretVersion(2, "b" * 64, 1, None), wire.SecretVersion(1, "a" * 64, 1, 2_000_000_000)),
)
KNOWN = Known(10, TOKEN)


def _no_check(_: wire.KeysValue) -> None:
    return None


CHECKS = Checks(MAC_KEY, frozenset({1}), _no_check)


def sealed(value: wire.TokenValue | dict[str, Any] | None, seq: int = 11) -> dict[str, Any]:
    content = value.to_wire() if isinstance(value, wire.TokenValue) else value
    return seal(MAC_KEY, KEY, seq, content).to_wire()


def test_a_new_token_is_applied() -> None:
    verdict = judge(CHECKS, None, sealed(TOKEN))
    assert isinstance(verdict, Apply)
    assert verdict.value == TOKEN


@pytest.mark.parametrize("seq", [1, 9, 10])
def test_a_record_that_is_not_newer_is_ignored(seq: int) -> None:
    assert judge(CHECKS, KNOWN, sealed(None, seq)) == Ignore(KEY, seq)


def test_a_tombstone_is_applied() -> None:
    verdict = judge(CHECKS, KNOWN, sealed(None))
    assert isinstance(verdict, Apply)
    assert verdict.value is None


ROTATED = replace(
    TOKEN,
    secrets=(wire.SecretVersion(3, "c" * 64, 1, None), wire.SecretVersion(2, "b" * 64, 1, 2_000_000_000)),
)

ALLOWED_CHANGES = {
    "disabled": replace(TOKEN, is_enabled=False),
    "longer": replace(TOKEN, expires_at=2_000_000_001),
    "rotated with overlap": ROTATED,
    "rotated at once": replace(TOKEN, secrets=ROTATED.secrets[:1]),
    "previous secret ended": replace(TOKEN, secrets=TOKEN.secrets[:1]),
}


@pytest.mark.parametrize("value", ALLOWED_CHANGES.values(), ids=ALLOWED_CHANGES.keys())
def test_a_change_that_keeps_every_digest_is_applied(value: wire.TokenValue) -> None:
    verdict = judge(CHECKS, KNOWN, sealed(value))
    assert isinstance(verdict, Apply)
    assert verdict.value == value


def _digest(digest: str) -> dict[str, Any]:
    value = TOKEN.to_wire()
    value["secrets"][0]["digest"] = digest
    return value


REFUSED_CHANGES: dict[str, tuple[wire.TokenValue | dict[str, Any], str]] = {
    "current digest": (_digest("c" * 64), "digest of secret version 2 changed"),
    "previous digest": (
        replace(TOKEN, secrets=(TOKEN.secrets[0], replace(TOKEN.secrets[1], digest="c" * 64))),
        "digest of secret version 1 changed",
    ),
    "pepper of a version": (
        replace(TOKEN, secrets=(replace(TOKEN.secrets[0], pepper_version=2),)),
        "digest of secret version 2 changed",
    ),
    "version back": (
        replace(TOKEN, secrets=(wire.SecretVersion(1, "a" * 64, 1, None),)),
        "went back",
    ),
    "empty digest": (_digest(""), "digest is empty or malformed"),
    "masked digest": (_digest("****"), "digest is empty or malformed"),
    "upper-case digest": (_digest("B" * 64), "digest is empty or malformed"),
    "no secret": ({**TOKEN.to_wire(), "secrets": []}, "one or two"),
    "another account": (replace(TOKEN, account_id="b" * 32), "id or account changed"),
    "another token": (replace(TOKEN, token_id="t2"), "id or account changed"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED_CHANGES.values(), ids=REFUSED_CHANGES.keys())
def test_a_digest_that_changes_or_is_malformed_is_refused(value: wire.TokenValue | dict[str, Any], reason: str) -> None:
    verdict = judge(CHECKS, KNOWN, sealed(value))
    assert isinstance(verdict, Refuse)
    assert verdict.is_authentic
    assert reason in verdict.reason


@pytest.mark.parametrize(("value", "reason"), REFUSED_CHANGES.values(), ids=REFUSED_CHANGES.keys())
def test_a_revocation_wins_even_in_a_damaged_record(value: wire.TokenValue | dict[str, Any], reason: str) -> None:
    content = value.to_wire() if isinstance(value, wire.TokenValue) else value
    verdict = judge(CHECKS, KNOWN, sealed({**content, "enabled": False}))
    assert isinstance(verdict, Apply)
    assert verdict.value == replace(TOKEN, is_enabled=False)
    assert reason in verdict.warning
    # What is kept on disk passes the same check as any other record.
    assert open_record(MAC_KEY, verdict.record.to_wire()) == verdict.record


def test_a_pepper_that_is_not_here_holds_the_record() -> None:
    new = replace(ROTATED, secrets=(wire.SecretVersion(3, "c" * 64, 2, None),))
    verdict = judge(CHECKS, KNOWN, sealed(new))
    assert isinstance(verdict, Hold)
    assert verdict.record.seq == 11
    assert isinstance(judge(replace(CHECKS, pepper_versions=frozenset({1, 2})), KNOWN, sealed(new)), Apply)


def test_a_revocation_is_never_held() -> None:
    new = replace(ROTATED, is_enabled=False, secrets=(wire.SecretVersion(3, "c" * 64, 2, None),))
    assert isinstance(judge(CHECKS, KNOWN, sealed(new)), Apply)


def test_signing_keys_that_do_not_open_are_refused() -> None:
    def closed(_: wire.KeysValue) -> None:
        raise RecordRefused("the signing key does not open")

    value = wire.KeysValue((wire.SigningKey("k", {}, "", ""),)).to_wire()
    verdict = judge(replace(CHECKS, check_keys=closed), None, seal(MAC_KEY, "keys/x", 1, value).to_wire())
    assert verdict == Refuse("keys/x", 1, "the signing key does not open", True)


@given(
    name=st.sampled_from(["v", "key", "seq", "value", "mac"]),
    junk=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
)
def test_any_altered_record_is_refused_as_not_authentic(name: str, junk: object) -> None:
    record = sealed(TOKEN)
    if record[name] == junk:
        return
    verdict = judge(CHECKS, KNOWN, {**record, name: junk})
    assert isinstance(verdict, Refuse)
    assert not verdict.is_authentic


@given(junk=st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.dictionaries(st.text(), st.integers()))
def test_junk_is_refused_without_an_error(junk: object) -> None:
    assert isinstance(judge(CHECKS, None, junk), Refuse)


@given(order=st.permutations(list(range(6))), repeats=st.lists(st.integers(0, 5), max_size=6))
def test_any_order_with_repeats_ends_at_the_newest_record(order: list[int], repeats: list[int]) -> None:
    states: list[wire.TokenValue | None] = [
        TOKEN,
        replace(TOKEN, is_enabled=False),
        ROTATED,
        replace(ROTATED, expires_at=5),
        replace(ROTATED, is_enabled=False),
        None,
    ]
    known: Known | None = None
    for index in [*order, *repeats]:
        verdict = judge(CHECKS, known, sealed(states[index], index + 1))
        if isinstance(verdict, Apply):
            known = Known(verdict.record.seq, None if verdict.value is None else states[index])
    assert known == Known(6, None)
