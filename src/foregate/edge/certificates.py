"""Certificates for the edge's TLS listener: your own first, and for every other host one leaf from a local CA.

One leaf per host, because no client accepts `*.localhost`. The CA is made once and kept; leaves are renewed long before
they end. Everything ends up in one folder of PEM files (key, certificate, chain) that HAProxy reads whole. Blocking;
called by the agent when hosts change and once a day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import write_private
from foregate.edge.x509_building import builder, new_authority, new_key, private_pem, public_der, sign_leaf

_CA_LIFE = timedelta(days=3_650)
# As long as public CAs give today; renewed with a third left, so that an edge switched off for weeks still starts well.
_LEAF_LIFE = timedelta(days=90)
_RENEW_BEFORE = timedelta(days=30)
# Clients whose clock is a little slow must take a certificate that was made a moment ago.
_BACKDATE = timedelta(hours=1)
_COMMON_NAME_LENGTH = 64  # X.520 ub-common-name


@dataclass(frozen=True, slots=True)
class Authority:
    """The local CA."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes


@dataclass(frozen=True, slots=True)
class Outcome:
    """`has_changed`: the folder is not what it was, HAProxy must read it anew. `problems`: sentences for the status."""

    has_changed: bool
    problems: tuple[str, ...]


class Certificates:
    """The folder HAProxy reads, kept in step with the hosts. `ca_folder` and `folder` are the edge's own."""

    def __init__(self, ca_folder: Path, folder: Path, own_folder: Path) -> None:
        self._ca_folder = ca_folder
        self._folder = folder
        self._own_folder = own_folder

    def ensure(self, hosts: Iterable[str], now: datetime) -> Outcome:
        """Make the folder hold a certificate for each host (`*.example.com` for a wildcard), and no others.

        Safe to repeat. ForegateError(UNAVAILABLE) where the CA's files cannot be used.
        """
        authority = self.authority(now)
        own, problems = self._read_own(now)
        covered = {name for _, names in own.values() for name in names}
        wanted: dict[str, bytes] = {name: content for name, (content, _) in own.items()}
        for host in sorted(set(hosts)):
            name = _subject(host)
            if name is None:
                problems.append(f"No certificate can name the hosts {host}; put your own into {self._own_folder}.")
            elif not _is_covered(name, covered):
                path = self._folder / f"{_file_name(name)}.pem"
                wanted[path.name] = _still_good(path, authority, name, now) or _issue(authority, name, now)
        return Outcome(self._write(wanted), tuple(problems))

    def authority(self, now: datetime) -> Authority:
        """The local CA, made if there is none yet."""
        certificate_path, key_path = self._ca_folder / "ca.pem", self._ca_folder / "ca.key"
        if not certificate_path.exists() and not key_path.exists():
            self._ca_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            certificate, key = new_authority("Foregate local CA", now, _CA_LIFE, backdate=_BACKDATE)
            write_private(key_path, key)
            write_private(certificate_path, certificate)
        try:
            loaded = serialization.load_pem_private_key(key_path.read_bytes(), None)
            certificate_read = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            message = f"The local CA in {self._ca_folder} is damaged; put the saved copy back, or remove both files."
            raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=str(error)) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ForegateError(ErrorCode.UNAVAILABLE, f"The local CA in {self._ca_folder} is not one of Foregate's.")
        return Authority(certificate_read, loaded)

    def _read_own(self, now: datetime) -> tuple[dict[str, tuple[bytes, set[str]]], list[str]]:
        """Your own certificates: file name -> (key and chain, names). A bad one is left out, with a sentence."""
        found: dict[str, tuple[bytes, set[str]]] = {}
        problems: list[str] = []
        for path in sorted([*self._own_folder.glob("*.pem"), *self._own_folder.glob("*.crt")]):
            key_path = path.with_suffix(".key")
            try:
                content = path.read_bytes() + (key_path.read_bytes() if key_path.exists() else b"")
                found[f"0-{path.stem}.pem"] = (content, _check_own(content, now))
            except (OSError, ValueError, UnsupportedAlgorithm) as error:
                problems.append(f"The certificate {path} is not used: {str(error) or type(error).__name__}.")
        return found, problems

    def _write(self, wanted: dict[str, bytes]) -> bool:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        has_changed = False
        for name, content in wanted.items():
            path = self._folder / name
            if not path.exists() or path.read_bytes() != content:
                write_private(path, content)
                has_changed = True
        for path in self._folder.glob("*.pem"):
            if path.name not in wanted:
                path.unlink()
                has_changed = True
        return has_changed


def _issue(authority: Authority, host: str, now: datetime) -> bytes:
    key = new_key()
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= _COMMON_NAME_LENGTH else []
    issuer, not_after = authority.certificate.subject, now + _LEAF_LIFE
    unsigned = builder(
        x509.Name(attributes), issuer, key.public_key(), not_before=now - _BACKDATE, not_after=not_after
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=not attributes)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH
    leaf = sign_leaf(unsigned, key.public_key(), authority.certificate, authority.key, purpose)
    chain = authority.certificate.public_bytes(serialization.Encoding.PEM)
    return private_pem(key) + leaf.public_bytes(serialization.Encoding.PEM) + chain


def _still_good(path: Path, authority: Authority, host: str, now: datetime) -> bytes | None:
    """The leaf on disk, if it is whole, for this host, of this CA, and not to be renewed yet."""
    try:
        content = path.read_bytes()
        names = _check_own(content, now)
        certificate = x509.load_pem_x509_certificates(content)[0]
        certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # whatever is wrong with it, a new one mends it
        return None
    is_fresh = certificate.not_valid_after_utc - now > _RENEW_BEFORE
    return content if is_fresh and names == {host} else None


def _check_own(content: bytes, now: datetime) -> set[str]:
    """The names of the first certificate in `content`. ValueError where key and certificate are not fit for use."""
    certificates = x509.load_pem_x509_certificates(content)
    key = serialization.load_pem_private_key(_key_part(content), None)
    leaf = certificates[0]
    if public_der(key.public_key()) != public_der(leaf.public_key()):
        raise ValueError("its key belongs to another certificate")
    if leaf.not_valid_after_utc <= now:
        raise ValueError("it has expired")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {name.lower() for name in names.get_values_for_type(x509.DNSName)}


def _key_part(content: bytes) -> bytes:
    found = re.search(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", content, re.DOTALL)
    if found is None:
        raise ValueError("it has no private key, neither in the file nor in a .key file beside it")
    return found[0]


def _subject(host: str) -> str | None:
    """The name in a certificate for a host pattern; None where there is none (RFC 6125 6.4.3: only the first label)."""
    first, _, rest = host.partition(".")
    if "*" in rest or ("*" in first and not rest):
        return None
    return f"*.{rest}" if "*" in first else host


def _is_covered(name: str, covered: set[str]) -> bool:
    return name in covered or f"*.{name.partition('.')[2]}" in covered


def _file_name(name: str) -> str:
    return "1-" + name.replace("*", "_")
