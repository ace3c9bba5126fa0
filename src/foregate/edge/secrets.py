"""What an edge must know in secret: the peppers, the record MAC key, and the key that opens signing keys.

Sealed under the edge key on the way and on the edge's disk, so neither a copy of the answer nor of the disk without
the edge key file is of use. The control plane seals, the agent opens; both ends are here so that they agree.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

from foregate.core.masterkey import derive, write_private
from foregate.edge.sealing import SealBroken, seal, unseal

_AAD = b"foregate edge secrets "
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class EdgeSecrets:
    """`peppers` by version; all keys have 32 bytes."""

    peppers: dict[int, bytes] = field(repr=False)
    record_mac_key: bytes = field(repr=False)
    sealing_key: bytes = field(repr=False)


def seal_secrets(secrets: EdgeSecrets, edge_id: str, edge_key: str) -> bytes:
    """The secrets as only this edge can open them."""
    body = {
        "peppers": {str(version): _encode(pepper) for version, pepper in sorted(secrets.peppers.items())},
        "record_mac_key": _encode(secrets.record_mac_key),
        "sealing_key": _encode(secrets.sealing_key),
    }
    return seal(derive(edge_key.encode(), "secrets"), json.dumps(body).encode(), _AAD + edge_id.encode())


def open_secrets(sealed: bytes, edge_id: str, edge_key: str) -> EdgeSecrets:
    """The inverse of `seal_secrets`. SealBroken where the bytes are damaged or meant for another edge or key."""
    plain = unseal(derive(edge_key.encode(), "secrets"), sealed, _AAD + edge_id.encode())
    try:
        body = json.loads(plain)
        secrets = EdgeSecrets(
            {int(version): _decode(text) for version, text in body["peppers"].items()},
            _decode(body["record_mac_key"]),
            _decode(body["sealing_key"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SealBroken("the secrets are not of the form asked for") from None
    if not secrets.peppers:
        raise SealBroken("the secrets hold no pepper")
    return secrets


def load_secrets(path: Path, edge_id: str, edge_key: str) -> EdgeSecrets | None:
    """The secrets kept on disk; None where there are none. SealBroken where they do not open: fetch them again."""
    try:
        return open_secrets(path.read_bytes(), edge_id, edge_key)
    except FileNotFoundError:
        return None


def keep_secrets(path: Path, sealed: bytes) -> None:
    """Keep the sealed bytes on disk (0600), whole or not at all."""
    write_private(path, sealed)


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _decode(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != _KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return key
