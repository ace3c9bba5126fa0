"""Authenticated encryption (AES-256-GCM) of what may lie on an edge's disk or travel to it but must not be read there.

Two uses: the edge's own secrets, sealed under its edge key, and signing keys inside `keys/` records, sealed under the
sealing key that those secrets hold. `edge/sealed_box.py` builds on it. Knows nothing of files or HTTP.
"""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_SIGNING_KEY_AAD = b"foregate signing key "


class SealBroken(Exception):
    """The sealed bytes are damaged, or were sealed under another key or for another purpose."""


def seal(key: bytes, plain: bytes, aad: bytes) -> bytes:
    """Nonce (12 random bytes), ciphertext and tag. `key` is 32 bytes; `aad` names the purpose and must be given again.

    Random nonces are safe up to 2^32 seals under one key (NIST SP 800-38D, 8.3); an edge sees a few a day.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The inverse of `seal`. SealBroken for anything else; safe on any input."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        raise SealBroken("sealed bytes do not open under this key") from None


def seal_signing_key(sealing_key: bytes, kid: str, private_pem: str) -> str:
    """`wire.SigningKey.private_key`: base64 of the sealed PEM, bound to its `kid`."""
    return base64.b64encode(seal(sealing_key, private_pem.encode(), _SIGNING_KEY_AAD + kid.encode())).decode()


def unseal_signing_key(sealing_key: bytes, kid: str, sealed: str) -> str:
    """The PEM inside `wire.SigningKey.private_key`. SealBroken if it does not open or belongs to another `kid`."""
    try:
        raw = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        raise SealBroken("not base64") from None
    return unseal(sealing_key, raw, _SIGNING_KEY_AAD + kid.encode()).decode()
