"""What an edge that joined has from joining: who it is, where the control plane is, and its own keys. One file, 0600.

Both private keys are made on the edge's machine and never leave it. The file is written whole or not at all, so a
certificate and its key always fit. A thief of the file is the edge, until it is expelled (docs/operations/edges.md).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import write_private
from foregate.edge import sealed_box
from foregate.edge.feed_authority import SERVER_NAME
from foregate.edge.feed_tls import client_context, show
from foregate.edge.identity import client
from foregate.edge.secrets import EdgeSecrets, open_secrets_with

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Membership:
    """`control_plane`: the feed's URL. `certificate`, `authority` and `tls_key` are PEM; `sealing_key` has 32 bytes."""

    control_plane: str
    edge_id: str
    name: str
    group: str
    certificate: str
    authority: str
    tls_key: str = field(repr=False)
    sealing_key: bytes = field(repr=False)

    @property
    def pem(self) -> bytes:
        """Private key and certificate, as TLS shows them."""
        return f"{self.tls_key}{self.certificate}".encode()

    @property
    def issued_at(self) -> datetime:
        """From when the certificate holds."""
        return self._x509().not_valid_before_utc

    @property
    def expires_at(self) -> datetime:
        """Until when the certificate holds."""
        return self._x509().not_valid_after_utc

    def open(self, sealed: bytes) -> EdgeSecrets:
        """See `EdgeIdentity.open`."""
        return open_secrets_with(sealed, self.edge_id, self.sealing_key)

    def _x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.encode())


class JoinedIdentity:
    """The `EdgeIdentity` of the member in the file `path`. Its certificate may be replaced while it is in use."""

    def __init__(self, membership: Membership, path: Path) -> None:
        self.membership = membership
        self.path = path
        self._context = client_context(membership.authority, membership.pem)

    def take(self, renewed: Membership) -> None:
        """Show another certificate from the next connection on."""
        show(self._context, renewed.pem)
        self.membership = renewed

    @property
    def edge_id(self) -> str:
        """See `EdgeIdentity`."""
        return self.membership.edge_id

    def connect(self) -> httpx.AsyncClient:
        """See `EdgeIdentity`."""
        return client(self.membership.control_plane, tls=self._context, server_name=SERVER_NAME)

    def open(self, sealed: bytes) -> EdgeSecrets:
        """See `EdgeIdentity`."""
        return self.membership.open(sealed)


def read_membership(path: Path) -> Membership | None:
    """What `path` says; None where this home has never joined. ForegateError(UNAVAILABLE) where it is damaged."""
    try:
        if path.stat().st_mode & 0o077:
            raise ForegateError(ErrorCode.UNAVAILABLE, f"{path} is readable by others; run: chmod 600 {path}")
        found = json.loads(path.read_text())
        if found["v"] != _VERSION:
            raise ForegateError(ErrorCode.UNAVAILABLE, f"{path} was written by a newer Foregate; run that version.")
        return _decode(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is damaged; have this edge join again: foregate edge join --rejoin"
        raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=str(error)) from error


def write_membership(path: Path, membership: Membership) -> None:
    """Write it, whole or not at all."""
    write_private(path, json.dumps(_encode(membership), indent=2).encode() + b"\n")


def _encode(membership: Membership) -> dict[str, Any]:
    return {
        "v": _VERSION,
        "control_plane": membership.control_plane,
        "edge_id": membership.edge_id,
        "name": membership.name,
        "group": membership.group,
        "certificate": membership.certificate,
        "authority": membership.authority,
        "tls_key": membership.tls_key,
        "sealing_key": base64.b64encode(membership.sealing_key).decode(),
    }


def _decode(found: dict[str, Any]) -> Membership:
    membership = Membership(
        control_plane=str(found["control_plane"]),
        edge_id=str(found["edge_id"]),
        name=str(found["name"]),
        group=str(found["group"]),
        certificate=str(found["certificate"]),
        authority=str(found["authority"]),
        tls_key=str(found["tls_key"]),
        sealing_key=base64.b64decode(found["sealing_key"], validate=True),
    )
    if len(membership.sealing_key) != sealed_box.KEY_BYTES:
        raise ValueError("a sealing key has 32 bytes")
    client_context(membership.authority, membership.pem)  # whether they are whole and fit
    return membership
