"""The CA of the feed: it vouches for the control plane to its edges, and for joined edges to the control plane.

It trusts nobody and is trusted by nobody outside: an edge knows it by the fingerprint in its join token. Who may join
is decided elsewhere (`identity/joining.py`); files, databases and sockets are none of its business.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from foregate.core.errors import invalid
from foregate.edge.x509_building import builder, new_authority, new_key, private_pem, public_der, sign_leaf

# The control plane's name in its certificate, whatever address an edge reaches it by. `.internal` is nobody's (ICANN).
SERVER_NAME = "feed.foregate.internal"
EDGE_CERTIFICATE_LIFE = timedelta(days=7)
SERVER_CERTIFICATE_LIFE = timedelta(days=90)
_AUTHORITY_LIFE = timedelta(days=3_650)
# An edge whose clock is an hour off, or as far as a wrong time zone takes it, must still be able to join.
_BACKDATE = timedelta(days=1)
_EDGE_URI = "urn:foregate:edge:"
_MOST_REQUEST_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class FeedAuthority:
    """The CA, opened."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """Its certificate."""
        return pem_of(self.certificate)


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A certificate signing request whose signature is right: who sent it has the private key."""

    key: ec.EllipticCurvePublicKey

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the public key."""
        return hashlib.sha256(public_der(self.key)).digest()


def new_feed_authority(now: datetime) -> tuple[bytes, bytes]:
    """A CA's certificate and private key, PEM."""
    return new_authority("Foregate feed CA", now, _AUTHORITY_LIFE, backdate=_BACKDATE)


def open_feed_authority(certificate: bytes, private_key: bytes) -> FeedAuthority:
    """The inverse of `new_feed_authority`. ValueError for anything else."""
    key = serialization.load_pem_private_key(private_key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the feed's CA has another kind of key")
    return FeedAuthority(x509.load_pem_x509_certificate(certificate), key)


def new_request() -> tuple[bytes, str]:
    """A new private key of an edge and its signing request, PEM. The name is the CA's to give."""
    key = new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return private_pem(key), request.public_bytes(serialization.Encoding.PEM).decode()


def read_request(text: str) -> SigningRequest:
    """The request, if it is one for a key over P-256. ForegateError(INVALID_INPUT) for anything else."""
    refusal = invalid("The certificate request must be a PKCS #10 request for a P-256 key.", pointer="/request")
    if len(text) > _MOST_REQUEST_BYTES:
        raise refusal
    try:
        request = x509.load_pem_x509_csr(text.encode())
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise refusal from None
    if not is_signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise refusal
    return SigningRequest(key)


def certify_edge(authority: FeedAuthority, request: SigningRequest, edge_id: str, now: datetime) -> x509.Certificate:
    """A short-lived certificate by which the edge `edge_id` shows itself to the feed."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, edge_id)])
    not_after = now + EDGE_CERTIFICATE_LIFE
    issuer = authority.certificate.subject
    unsigned = builder(name, issuer, request.key, not_before=now - _BACKDATE, not_after=not_after)
    unsigned = unsigned.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(_EDGE_URI + edge_id)]), critical=False
    )
    return sign_leaf(unsigned, request.key, authority.certificate, authority.key, ExtendedKeyUsageOID.CLIENT_AUTH)


def certify_server(authority: FeedAuthority, now: datetime) -> bytes:
    """A new private key of a feed port and its certificate, PEM."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    not_after = now + SERVER_CERTIFICATE_LIFE
    issuer = authority.certificate.subject
    unsigned = builder(name, issuer, key.public_key(), not_before=now - _BACKDATE, not_after=not_after)
    unsigned = unsigned.add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
    leaf = sign_leaf(unsigned, key.public_key(), authority.certificate, authority.key, ExtendedKeyUsageOID.SERVER_AUTH)
    return private_pem(key) + leaf.public_bytes(serialization.Encoding.PEM)


def fingerprint_of(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the whole certificate."""
    return certificate.fingerprint(hashes.SHA256())


def pem_of(certificate: x509.Certificate) -> str:
    """The certificate, PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
