"""Sealing to a public key: whoever has it may seal, whoever has the private half alone can open.

A box is one byte of version, an ephemeral X25519 public key (32 bytes), and AES-256-GCM (nonce, ciphertext, tag) under
HKDF-SHA256 of the shared secret, bound to both public keys and to its purpose (docs/decisions/0013). It keeps a secret;
it does not say who sealed it: that is the MAC's part in a record, and TLS's in an answer.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from foregate.edge.sealing import SealBroken, seal, unseal

KEY_BYTES = 32
_VERSION = b"\x01"
_SALT = b"foregate sealed box 1"


def new_private_key() -> bytes:
    """A private key, 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key_of(private_key: bytes) -> bytes:
    """Its public half, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def is_public_key(key: bytes) -> bool:
    """Whether a box can be sealed to it: 32 bytes, and none of the few points that give every sealer the same secret
    (RFC 7748, 6.1)."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def seal_to(public_key: bytes, plain: bytes, purpose: bytes) -> bytes:
    """`plain` in a box for the holder of `public_key`. `purpose` must be given again to open it.

    ValueError for what `is_public_key` denies.
    """
    ephemeral = X25519PrivateKey.generate()
    own = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public_key))
    return _VERSION + own + seal(_key(shared, own, public_key, purpose), plain, purpose)


def open_box(private_key: bytes, box: bytes, purpose: bytes) -> bytes:
    """The inverse of `seal_to`. SealBroken for anything else; safe on any input."""
    version, ephemeral, sealed = box[:1], box[1 : 1 + KEY_BYTES], box[1 + KEY_BYTES :]
    if version != _VERSION:
        raise SealBroken("a sealed box of an unknown version")
    own = X25519PrivateKey.from_private_bytes(private_key)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    except ValueError:
        raise SealBroken("no sealed box") from None
    return unseal(_key(shared, ephemeral, own.public_key().public_bytes_raw(), purpose), sealed, purpose)


def _key(shared: bytes, ephemeral: bytes, recipient: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, _SALT, ephemeral + recipient + purpose).derive(shared)
