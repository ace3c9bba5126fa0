"""Whether an edge takes a record: apply, ignore, refuse or hold. Pure: what is known and one record in, a verdict out.

Rules, in this order. The MAC must fit. A record about an edge is no state: it is ignored here (`edge/following.py`
looks at its own). A record not newer than what is known of its key is ignored, so the stream may
repeat itself. A tombstone is applied. A value must parse. A token keeps its id and account, its current secret version
never goes back, and within one version the digest never changes. A pepper that is not here yet is waited for.
A revocation said in so many words (tombstone, `enabled: false`) wins over every rule but the MAC and the order: where
the rest of the record cannot be taken, the known token is disabled and the rest refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from foregate.core.records import Record, RecordRefused, open_record, seal
from foregate.edge import parsing, wire

Value = wire.TokenValue | wire.AppValue | wire.IngressValue | wire.KeysValue | wire.AccountValue
EDGE_KIND = "edge"

_PARSERS: Mapping[str, Callable[[dict[str, Any]], Value]] = {
    "token": parsing.parse_token,
    "app": parsing.parse_app,
    "ingress": parsing.parse_ingress,
    "keys": parsing.parse_keys,
    "account": parsing.parse_account,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What the edge holds of a record's key: the last seq decided, and the value in force (None: none, or deleted)."""

    seq: int
    value: Value | None


@dataclass(frozen=True, slots=True)
class Checks:
    """What a verdict depends on beside the record: the MAC key, the peppers that are here, whether keys open."""

    mac_key: bytes = field(repr=False)
    pepper_versions: frozenset[int]
    # Raises RecordRefused for a signing key that does not open under this edge's sealing key.
    check_keys: Callable[[wire.KeysValue], None]


@dataclass(frozen=True, slots=True)
class Apply:
    """Take it. `record` is what to keep (sealed), `value` what it means. `warning`: what of it was refused, or ''."""

    record: Record
    value: Value | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Ignore:
    """A repeat, or older than what is known: nothing to do, nothing wrong."""

    key: str
    seq: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Must not be applied. `key` and `seq` as claimed ('' and 0 where unreadable); `is_authentic`: the MAC did fit."""

    key: str
    seq: int
    reason: str
    is_authentic: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """Well-formed, but not now. Kept aside until the cause is gone; the last good state stays in force."""

    record: Record
    reason: str


Verdict = Apply | Ignore | Refuse | Hold

# A snapshot carries tombstones, so keys that it leaves out without a word should be few: beyond this share of the
# tokens (and this number, for small edges) it is taken for damage at the sender.
_MOST_UNEXPLAINED_SHARE = 0.05
_MOST_UNEXPLAINED = 20


@dataclass(frozen=True, slots=True)
class SnapshotLoss:
    """What a finished snapshot leaves out: records sent (None: not said) and received, live tokens, tokens missing."""

    sent: int | None
    received: int
    tokens: int
    missing: int


def judge(checks: Checks, known: Known | None, wire_record: object) -> Verdict:
    """The verdict on one wire object. `known` is what the edge holds of the key that `claimed_key` reads from it.

    Never raises, whatever the input. Safe to repeat: an applied record is ignored the second time.
    """
    try:
        record = open_record(checks.mac_key, wire_record)
    except RecordRefused as error:
        return Refuse(claimed_key(wire_record), claimed_seq(wire_record), str(error), False)
    except (ValueError, RecursionError):  # canonical JSON of NaN, of lone surrogates, or of absurd depth
        return Refuse(claimed_key(wire_record), claimed_seq(wire_record), "malformed record", False)
    if record.kind == EDGE_KIND or (known is not None and record.seq <= known.seq):
        return Ignore(record.key, record.seq)
    if record.value is None:
        return Apply(record, None)
    try:
        value = parse_value(record)
        _check(checks, known.value if known else None, value)
    except (RecordRefused, RecursionError) as error:
        return _refused(checks, known, record, str(error))
    if isinstance(value, wire.TokenValue) and value.is_enabled:
        missing = {secret.pepper_version for secret in value.secrets} - checks.pepper_versions
        if missing:
            return Hold(record, f"pepper {min(missing)} is not here yet")
    return Apply(record, value)


def judge_snapshot(loss: SnapshotLoss) -> str:
    """Why the keys that a snapshot left out must stay in force; '' if they may be dropped."""
    if loss.sent is not None and loss.sent != loss.received:
        return f"the snapshot was not whole: {loss.received} of {loss.sent} records came; nothing was dropped"
    if loss.missing > max(_MOST_UNEXPLAINED, loss.tokens * _MOST_UNEXPLAINED_SHARE):
        return (
            f"the snapshot leaves out {loss.missing} of {loss.tokens} tokens without revoking them; none was dropped. "
            "Restore the control plane's records or, if they are meant to be gone, have this edge forget all it knows "
            "(docs/operations/running.md, A snapshot that is held back)"
        )
    return ""


def check_form(record: Record) -> None:
    """RecordRefused for a record, of whatever kind, that an edge would not take. The MAC is not looked at."""
    if record.kind == EDGE_KIND and record.value is not None:
        parsing.parse_edge(record.value)
    elif record.value is not None:
        parse_value(record)


def parse_value(record: Record) -> Value:
    """The value of a record of state that is no tombstone. RecordRefused if it is malformed; the MAC is not looked
    at."""
    if record.value is None:
        raise RecordRefused("a tombstone has no value")
    if record.kind not in _PARSERS:
        raise RecordRefused("no record of state")
    return _PARSERS[record.kind](record.value)


def claimed_key(wire_record: object) -> str:
    """The key a wire object claims, '' where it has none. Says nothing about whether the object is authentic."""
    key = wire_record.get("key") if isinstance(wire_record, dict) else None
    return key[:300] if isinstance(key, str) else ""


def claimed_seq(wire_record: object) -> int:
    """The seq a wire object claims, 0 where it has none."""
    seq = wire_record.get("seq") if isinstance(wire_record, dict) else None
    # SQLite and JSON readers stop at 64 bits; a seq beyond is nobody's.
    return seq if isinstance(seq, int) and not isinstance(seq, bool) and 0 < seq < 2**63 else 0


def _check(checks: Checks, known: Value | None, value: Value) -> None:
    match value:
        case wire.TokenValue():
            if isinstance(known, wire.TokenValue):
                _check_token(known, value)
        case wire.KeysValue():
            checks.check_keys(value)
        case _:
            pass


def _check_token(known: wire.TokenValue, value: wire.TokenValue) -> None:
    if value.account_id != known.account_id or value.token_id != known.token_id:
        raise RecordRefused("the token's id or account changed")
    if value.secrets[0].version < known.secrets[0].version:
        raise RecordRefused("the current secret version went back")
    digests = {secret.version: (secret.digest, secret.pepper_version) for secret in known.secrets}
    for secret in value.secrets:
        if digests.get(secret.version, (secret.digest, secret.pepper_version)) != (
            secret.digest,
            secret.pepper_version,
        ):
            raise RecordRefused(f"the digest of secret version {secret.version} changed")


def _refused(checks: Checks, known: Known | None, record: Record, reason: str) -> Verdict:
    revokes = record.kind == "token" and record.value is not None and record.value.get("enabled") is False
    if revokes and known is not None and isinstance(known.value, wire.TokenValue):
        disabled = replace(known.value, is_enabled=False)
        resealed = seal(checks.mac_key, record.key, record.seq, disabled.to_wire())
        return Apply(resealed, disabled, f"{reason}; only the revocation was applied")
    return Refuse(record.key, record.seq, reason, True)
