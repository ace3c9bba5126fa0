"""Homes with many tokens, made by writing rows: a million creations through the API would take most of an hour.

Only the bench does this. The rows are what the API and the publisher would have written; the edge then takes its
snapshot over the feed as any edge does.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from foregate.core import ids
from foregate.core.clock import to_micros, to_unix
from foregate.core.masterkey import load
from foregate.core.records import seal
from foregate.core.secrets import SERVICE_TOKEN_PREFIX, digest_secret, new_secret
from foregate.edge.wire import SecretVersion, TokenValue

_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller sends."""

    client_id: str
    secret: str


def add_tokens(home: Path, account_id: str, count: int, *, keep: int = 100_000) -> list[Credential]:
    """Write `count` tokens into the stopped home's databases and log. Returns the credentials of the first `keep`."""
    master = load(home / "master.key")
    pepper, mac_key = master.pepper(master.current), master.record_mac_key()
    records = sqlite3.connect(home / "records.db")
    telemetry = sqlite3.connect(home / "telemetry.db")
    now = datetime.now(UTC)
    at, ends = to_micros(now), now + timedelta(hours=8760)
    kept: list[Credential] = []
    (seq,) = records.execute("SELECT coalesce(max(seq), 0) FROM outbox").fetchone()
    for start in range(0, count, _CHUNK):
        tokens, versions, outbox, log = [], [], [], []
        for number in range(start, min(start + _CHUNK, count)):
            seq += 1
            token_id, client_id, secret = ids.new_uuid(), ids.new_client_id(), new_secret(SERVICE_TOKEN_PREFIX)
            digest = digest_secret(secret, pepper, master.current).value
            value = TokenValue(
                token_id, account_id, True, to_unix(ends), (SecretVersion(1, digest.hex(), master.current, None),)
            )
            record = seal(mac_key, f"token/{client_id}", seq, value.to_wire())
            tokens.append((token_id, account_id, client_id, f"bench-{number}", "8760h", to_micros(ends), at, at))
            versions.append((token_id, digest, master.current, at))
            outbox.append((seq, record.key, at, at))
            log.append((seq, "edge-config", record.key, orjson.dumps(record.to_wire()), at))
            if len(kept) < keep:
                kept.append(Credential(client_id, secret.reveal()))
        records.executemany(
            "INSERT INTO service_tokens (id, account_id, client_id, name, duration, is_enabled, expires_at,"
            " secret_version, created_at, updated_at) VALUES (?,?,?,?,?,1,?,1,?,?)",
            tokens,
        )
        records.executemany("INSERT INTO secret_versions VALUES (?,1,?,?,?)", versions)
        records.executemany("INSERT INTO outbox VALUES (?,?,?,?)", outbox)
        telemetry.executemany(
            'INSERT INTO log_records ("offset", topic, key, value, is_tombstone, at) VALUES (?,?,?,?,0,?)', log
        )
        # Or the publisher would take all of them for lost, and publish them again.
        telemetry.execute("UPDATE log_topics SET last_offset = ? WHERE topic = 'edge-config'", (seq,))
        records.commit()
        telemetry.commit()
    records.close()
    telemetry.close()
    secrets.SystemRandom().shuffle(kept)
    return kept
