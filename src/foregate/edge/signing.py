"""Signs what an edge vouches for with an account's current key: assertions for origins, metadata for cloudflared.

RS256 (RFC 7515, RFC 7518 3.3). Claims as Cloudflare's application tokens have them (reference page, section 3). Pure
but for the randomness inside RSA; private keys are opened here and never leave.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from foregate.core.records import RecordRefused
from foregate.edge.sealing import SealBroken, unseal_signing_key
from foregate.edge.wire import KeysValue

_LEAST_KEY_BITS = 2_048  # RFC 7518 3.3


@dataclass(frozen=True, slots=True)
class Signer:
    """An account's current key, opened. `head` is the encoded JOSE header."""

    kid: str
    head: bytes
    key: rsa.RSAPrivateKey = field(repr=False)

    def sign(self, claims: dict[str, Any]) -> str:
        """A signed JWT of `claims`. Takes about a millisecond of CPU; safe to call from several threads."""
        signed = self.head + b"." + _encode(orjson.dumps(claims))
        signature = self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return (signed + b"." + _encode(signature)).decode()


def open_signer(sealing_key: bytes, keys: KeysValue) -> Signer:
    """The signer of the current (first) key. RecordRefused where it does not open or is no key for RS256."""
    current = keys.keys[0]
    try:
        pem = unseal_signing_key(sealing_key, current.kid, current.private_key)
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (SealBroken, ValueError, TypeError) as error:
        raise RecordRefused("the signing key does not open") from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _LEAST_KEY_BITS:
        raise RecordRefused("the signing key is no RSA key of 2048 bits or more")
    numbers = key.public_key().public_numbers()
    if current.jwk.get("n") != _encode(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")).decode():
        raise RecordRefused("the signing key and its public half do not fit")
    head = _encode(orjson.dumps({"alg": "RS256", "kid": current.kid, "typ": "JWT"}))
    return Signer(current.kid, head, key)


def assertion_claims(aud: str, auth_domain: str, client_id: str, now: int, session_seconds: int) -> dict[str, Any]:
    """What an origin is told of a service token's request; `now` in Unix seconds."""
    return {
        "type": "app",
        "aud": [aud],
        "iss": f"https://{auth_domain}",
        "iat": now,
        "exp": now + session_seconds,
        "sub": "",
        "common_name": client_id,
    }


def metadata_claims(aud: str, auth_domain: str, hostname: str, app_hostname: str, now: int) -> dict[str, Any]:
    """What cloudflared asks for before it logs in (`cf-access-metadata`); it takes an `iat` of up to 24 hours."""
    return {
        "type": "match",
        "hostname": hostname,
        "auth_domain": auth_domain,
        "aud": aud,
        "app_hostname": app_hostname,
        "iat": now,
    }


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
