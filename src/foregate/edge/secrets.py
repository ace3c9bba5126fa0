"""What an edge must know in secret: the peppers, the record MAC key, and the key that opens signing keys.

Sealed on the way and on the edge's disk, so neither a copy of the answer nor of the disk without the edge's own key is
of use: under the edge key where edge and control plane are one machine, to the public key of an edge that joined. The
control plane seals, the agent opens; both ends are here so that they agree.
"""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass, field
from pathlib import Path

from foregate.core.masterkey import derive, write_private
from foregate.edge import sealed_box
from foregate.edge.sealing import SealBroken, seal, unseal

_AAD = b"foregate edge secrets "
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class EdgeSecrets:
    """`peppers` by version; all keys have 32 bytes."""

    peppers: dict[int, bytes] = field(repr=False)
    record_mac_key: bytes = field(repr=False)
    sealing_key: bytes = field(repr=False)

    def is_older_than(self, other: EdgeSecrets) -> bool:
        """Whether these are what `other` were before peppers came to them. Peppers are added and never taken away, so
        whoever sends these has yet to hear of the newest."""
        return self.peppers.items() < other.peppers.items() and (self.record_mac_key, self.sealing_key) == (
            other.record_mac_key,
            other.sealing_key,
        )


def seal_secrets(secrets: EdgeSecrets, edge_id: str, edge_key: str) -> bytes:
    """The secrets as only the edge with this key can open them."""
    return seal(derive(edge_key.encode(), "secrets"), _encode_secrets(secrets), _AAD + edge_id.encode())


def open_secrets(sealed: bytes, edge_id: str, edge_key: str) -> EdgeSecrets:
    """The inverse of `seal_secrets`. SealBroken where the bytes are damaged or meant for another edge or key."""
    return _decode_secrets(unseal(derive(edge_key.encode(), "secrets"), sealed, _AAD + edge_id.encode()))


def seal_secrets_to(secrets: EdgeSecrets, edge_id: str, public_key: bytes) -> bytes:
    """The secrets as only the edge with the private half of `public_key` (X25519, 32 bytes) can open them."""
    return sealed_box.seal_to(public_key, _encode_secrets(secrets), _AAD + edge_id.encode())


def open_secrets_with(sealed: bytes, edge_id: str, private_key: bytes) -> EdgeSecrets:
    """The inverse of `seal_secrets_to`. SealBroken as `open_secrets`."""
    return _decode_secrets(sealed_box.open_box(private_key, sealed, _AAD + edge_id.encode()))


def mark_of(secrets: EdgeSecrets) -> bytes:
    """32 bytes that change with the secrets and tell nothing of them."""
    return hmac.digest(secrets.record_mac_key, b"foregate edge secrets mark " + _encode_secrets(secrets), "sha256")


def keep_secrets(path: Path, sealed: bytes) -> None:
    """Keep the sealed bytes on disk (0600), whole or not at all."""
    write_private(path, sealed)


def _encode_secrets(secrets: EdgeSecrets) -> bytes:
    body = {
        "peppers": {str(version): _encode(pepper) for version, pepper in sorted(secrets.peppers.items())},
        "record_mac_key": _encode(secrets.record_mac_key),
        "sealing_key": _encode(secrets.sealing_key),
    }
    return json.dumps(body).encode()


def _decode_secrets(plain: bytes) -> EdgeSecrets:
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


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _decode(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != _KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return key
