"""Making signing keys: RSA 2048 for RS256, with a self-signed certificate; and sealing their private halves.

Making one takes a tenth of a second or more, so it is done on a thread and before a transaction. Source: reference
page, section 3 (form of the JWKS), RFC 7517 and 7518 6.3.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from foregate.access.organization.model import NewKey
from foregate.edge.sealing import seal, unseal

_BITS = 2048
# Edges go on signing with their last key while the control plane is away, so the certificate must outlast any pause.
_CERTIFICATE_DAYS = 3650
_AAD = b"foregate stored signing key "


def new_signing_key(key_encryption_key: bytes, now: datetime) -> NewKey:
    """A new key. `kid` is the SHA-256 of the public key's DER form: 64 hex digits, as Cloudflare's are."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    public = private.public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    kid = hashlib.sha256(der).hexdigest()
    numbers = public.public_numbers()
    jwk = {"kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", "e": _number(numbers.e), "n": _number(numbers.n)}
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return NewKey(kid, jwk, _certificate(private, kid, now), seal(key_encryption_key, pem, _AAD + kid.encode()))


def unseal_private_key(key_encryption_key: bytes, kid: str, sealed: bytes) -> str:
    """The private half, PEM. SealBroken if the row was damaged, or sealed under another master key."""
    return unseal(key_encryption_key, sealed, _AAD + kid.encode()).decode()


def _certificate(private: rsa.RSAPrivateKey, kid: str, now: datetime) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kid)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        # A validator's clock may be behind.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
    )
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _number(value: int) -> str:
    """Base64url of the big-endian bytes without padding (RFC 7518 2, Base64urlUInt)."""
    raw = value.to_bytes(-(-value.bit_length() // 8), "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
