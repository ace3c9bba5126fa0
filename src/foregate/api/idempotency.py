"""A create or rotate that the SDK repeats by itself must not waste a secret: the first answer is given again.

The answer is kept for ten minutes in the same transaction as the change, sealed under a key that is derived from the
caller's bearer token. The database holds no bearer token, so the row is of no use to whoever reads the database, this
program included. Why so, and what it cannot do: docs/decisions/0004-retries-do-not-waste-secrets.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, select, text

from foregate.api.envelope import Answer, encode_answer
from foregate.api.operations import Call
from foregate.core.clock import to_micros
from foregate.core.errors import invalid
from foregate.database.prepared import Prepared
from foregate.database.records_schema import replayable_answers

# The SDKs give up after 2 to 10 retries, within four minutes and their own timeouts of 60 s.
KEPT_FOR = timedelta(minutes=10)
_NONCE_BYTES = 12

StillTrue = Callable[[Connection, dict[str, Any]], bool]
"""Whether an answer's `result` still holds: a replay never hands out a secret that has been replaced since."""


@dataclass(frozen=True, slots=True)
class _Caller:
    fingerprint: bytes
    request: bytes
    sealing_key: bytes


def run_once(
    connection: Connection, call: Call[Any, Any], work: Callable[[Connection], Answer], still_true: StillTrue | None
) -> Answer:
    """`work(connection)`, or the kept answer of the same request if this is its repeat.

    Writers run one after another, so a repeat that comes in while the first is under way waits for it here.
    """
    retry = call.retry
    if retry.key is not None or retry.count > 0:
        kept = _find(connection, _caller(call), call.at, is_keyed=retry.key is not None)
        if kept is not None:
            if still_true is None or still_true(connection, orjson.loads(kept.encoded or b"{}").get("result") or {}):
                return kept
            if retry.key is not None:
                raise invalid(
                    "This Idempotency-Key was used and its answer no longer holds, as the secret was replaced since; "
                    "send a new key to do it again."
                )
    answer = work(connection)
    return _keep(connection, _caller(call), answer, call.at) if answer.is_kept_for_retry else answer


def purge(connection: Connection, now: datetime) -> int:
    """Delete the answers whose time is over; how many there were."""
    expired = replayable_answers.c.expires_at <= to_micros(now)
    return connection.execute(delete(replayable_answers).where(expired)).rowcount


def _caller(call: Call[Any, Any]) -> _Caller:
    retry = call.retry
    # Keyed BLAKE2b is a pseudo-random function like HKDF-SHA256 on a key this strong, at a tenth of the time.
    bearer = hashlib.sha256(retry.bearer.reveal().encode()).digest()
    request = _derive(bearer, b"request", b"\0".join((retry.method.encode(), retry.path.encode(), retry.body)))
    chosen = request if retry.key is None else _derive(bearer, b"chosen key", retry.key.encode())
    return _Caller(chosen, request, _derive(bearer, b"seal", b""))


def _derive(bearer: bytes, purpose: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=bearer, person=purpose, digest_size=32).digest()


def _find(connection: Connection, caller: _Caller, now: datetime, *, is_keyed: bool) -> Answer | None:
    table = replayable_answers
    row = connection.execute(
        select(table.c.first_tries, table.c.status, table.c.sealed).where(
            table.c.fingerprint == caller.fingerprint, table.c.expires_at > to_micros(now)
        )
    ).one_or_none()
    # Two first tries of the same request: nobody can say which of them this one repeats.
    if row is None or (not is_keyed and row.first_tries > 1):
        return None
    try:
        plain = AESGCM(caller.sealing_key).decrypt(
            row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:], caller.fingerprint
        )
    except (InvalidTag, ValueError):  # a damaged row: as if there were none
        return None
    kept = orjson.loads(plain)
    if bytes.fromhex(kept["request"]) != caller.request:
        raise invalid("This Idempotency-Key was used for another request; choose a new one for each.")
    return Answer(
        encoded=kept["body"].encode(), status=row.status or None, change_seq=kept["change_seq"], is_replay=True
    )


# The answer of a second first try takes the place of the first one's; the count says that it may be either's.
_UPSERT = Prepared(
    text(
        "INSERT INTO replayable_answers (fingerprint, first_tries, status, sealed, expires_at)"
        " VALUES (:fingerprint, 1, :status, :sealed, :expires_at)"
        " ON CONFLICT (fingerprint) DO UPDATE SET status = excluded.status, sealed = excluded.sealed,"
        " first_tries = CASE WHEN replayable_answers.expires_at <= :now THEN 1"
        " ELSE replayable_answers.first_tries + 1 END, expires_at = excluded.expires_at"
    )
)


def _keep(connection: Connection, caller: _Caller, answer: Answer, at: datetime) -> Answer:
    body = encode_answer(answer)
    plain = orjson.dumps({"request": caller.request.hex(), "change_seq": answer.change_seq, "body": body.decode()})
    # A nonce from the content itself (as in SIV): another content gets another one, the same content says nothing new.
    nonce = hashlib.blake2b(plain, key=caller.sealing_key, person=b"nonce", digest_size=_NONCE_BYTES).digest()
    sealed = nonce + AESGCM(caller.sealing_key).encrypt(nonce, plain, caller.fingerprint)
    now = to_micros(at)
    _UPSERT.run(
        connection,
        {
            "fingerprint": caller.fingerprint,
            "status": answer.status or 0,
            "sealed": sealed,
            "expires_at": now + KEPT_FOR // timedelta(microseconds=1),
            "now": now,
        },
    )
    return Answer(encoded=body, status=answer.status, change_seq=answer.change_seq)
