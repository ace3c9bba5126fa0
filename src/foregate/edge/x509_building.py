"""Making CAs and the certificates they sign: ECDSA over P-256, SHA-256. Pure but for the randomness in keys.

For the local CA of an edge (`edge/certificates.py`) and the CA of the feed (`edge/feed_authority.py`). Source: RFC
5280.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key over P-256, which every client of the last ten years takes."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(name: str, now: datetime, life: timedelta, *, backdate: timedelta) -> tuple[bytes, bytes]:
    """A CA's certificate and private key, PEM. It signs leaves alone. A digest behind `name` tells two CAs apart."""
    key = new_key()
    digest = hashlib.sha256(public_der(key.public_key())).hexdigest()[:8]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {digest}")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        builder(subject, subject, key.public_key(), not_before=now - backdate, not_after=now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private_pem(key)


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    """A certificate without extensions, not signed yet."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def sign_leaf(
    unsigned: x509.CertificateBuilder,
    key: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    authority_key: CertificateIssuerPrivateKeyTypes,
    purpose: x509.ObjectIdentifier,
) -> x509.Certificate:
    """A certificate that is good for `purpose` (an ExtendedKeyUsageOID) and for nothing else."""
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    issuer_key = authority.public_key()
    return (
        unsigned.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)  # type: ignore[arg-type]
        .sign(authority_key, hashes.SHA256())
    )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, not encrypted."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_der(key: object) -> bytes:
    """SubjectPublicKeyInfo: two keys are the same where these bytes are."""
    encode = key.public_bytes  # type: ignore[attr-defined]
    return bytes(encode(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
