"""Who may talk to the feed: an edge with its key on the control plane's own machine, a joined edge with its
certificate.

A gate admits a request or raises; on the port for edge keys no certificate counts, on the feed port no key.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from fastapi import Request

from foregate.core.errors import ErrorCode, ForegateError
from foregate.edge.secrets import EdgeSecrets, seal_secrets, seal_secrets_to


class Caller(Protocol):
    """An edge that a gate has admitted."""

    @property
    def edge_id(self) -> str:
        """Its id."""
        ...

    def sealed_secrets(self) -> bytes:
        """The edge's secrets as it alone can open them."""
        ...


class Gate(Protocol):
    """Says who asks."""

    async def admit(self, request: Request) -> Caller:
        """ForegateError: UNAUTHENTICATED for whoever is no edge of ours, GONE for one that was expelled."""
        ...


@dataclass(frozen=True, slots=True)
class KeyGate:
    """`authenticate` takes the Authorization header and gives the edge's id, or None."""

    authenticate: Callable[[str], Awaitable[str | None]]
    secrets: Callable[[], EdgeSecrets]

    async def admit(self, request: Request) -> Caller:
        """See `Gate`."""
        authorization = request.headers.get("authorization", "")
        edge_id = await self.authenticate(authorization)
        if edge_id is None:
            message = "Give a valid edge key as Authorization: Edge <edge id>:<key>."
            raise ForegateError(ErrorCode.UNAUTHENTICATED, message)
        return _KeyCaller(edge_id, authorization.partition(":")[2].strip(), self.secrets)


@dataclass(frozen=True, slots=True)
class _KeyCaller:
    edge_id: str
    key: str = field(repr=False)
    secrets: Callable[[], EdgeSecrets]

    def sealed_secrets(self) -> bytes:
        return seal_secrets(self.secrets(), self.edge_id, self.key)


@dataclass(frozen=True, slots=True)
class Member:
    """A joined edge as the records have it. `sealing_key`: the public key that its secrets are sealed to."""

    edge_id: str
    sealing_key: bytes
    is_expelled: bool


@dataclass(frozen=True, slots=True)
class CertificateGate:
    """`find` takes a certificate (DER) whose signature TLS has checked, and gives the edge that it was issued to; None
    where it is not known, or no longer."""

    find: Callable[[bytes], Awaitable[Member | None]]
    secrets: Callable[[], EdgeSecrets]

    async def admit(self, request: Request) -> Caller:
        """See `Gate`."""
        certificate = certificate_of(request)
        if certificate is None:
            message = "Show the edge's certificate; a machine that has none joins first (foregate edge join)."
            raise _NotAdmitted(message)
        member = await self.find(certificate)
        if member is None:
            message = (
                "This certificate is not the edge's newest: somebody else may have a copy of its files, or older "
                "records were put back here. Have it join again: foregate edge token create --rejoin NAME"
            )
            raise _NotAdmitted(message)
        if member.is_expelled:
            raise ForegateError(ErrorCode.GONE, "This edge has been expelled; join anew with a new join token.")
        return _CertificateCaller(member, self.secrets)


class _NotAdmitted(ForegateError):
    """Not by this certificate. The connection that showed it ends: the next one may show a newer."""

    headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.UNAUTHENTICATED, message)


@dataclass(frozen=True, slots=True)
class _CertificateCaller:
    member: Member
    secrets: Callable[[], EdgeSecrets]

    @property
    def edge_id(self) -> str:
        return self.member.edge_id

    def sealed_secrets(self) -> bytes:
        return seal_secrets_to(self.secrets(), self.member.edge_id, self.member.sealing_key)


def certificate_of(request: Request) -> bytes | None:
    """The client's certificate (DER), as the server hands it on (ASGI specification, TLS extension)."""
    chain = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain") or ()
    return ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None
