"""The two calls by which a machine becomes an edge, and the one by which an edge stays one: `/edge/v1/` authority,
join, certificate. On the feed port alone. Who may join is decided by whoever is injected.

`authority` is asked for blindly, before there is anybody to trust: the caller compares its fingerprint with the one in
its join token and sends that token on a second connection, to nobody else.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from foregate.api.parameters import BodyModel, parse_members
from foregate.core.errors import invalid
from foregate.core.secrets import Secret
from foregate.edge.feed import read_body
from foregate.edge.feed_authority import SigningRequest, read_request
from foregate.edge.feed_gates import Gate
from foregate.edge.sealed_box import is_public_key

_MOST_BODY_BYTES = 32_768


class JoinBody(BodyModel):
    """What a machine sends. `request` is PKCS #10, PEM; `sealing_key` base64 of its public X25519 key; `edge_id` the
    edge that it was before, if it was one."""

    token: Annotated[str, Field(max_length=256)]
    name: Annotated[str, Field(max_length=256)]
    request: str
    sealing_key: str
    edge_id: str | None = None


class CertificateBody(BodyModel):
    """What an edge sends for its next certificate."""

    request: str


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """The same, parsed. `token` is whatever was sent as one."""

    token: Secret
    name: str
    request: SigningRequest = field(repr=False)
    sealing_key: bytes
    edge_id: str | None


@dataclass(frozen=True, slots=True)
class Joined:
    """What the machine is from now on. `certificate` is PEM; `sealed` its secrets, for its sealing key."""

    edge_id: str
    name: str
    group: str
    certificate: str
    sealed: bytes = field(repr=False)

    def to_wire(self) -> dict[str, Any]:
        """The answer."""
        return {
            "edge_id": self.edge_id,
            "name": self.name,
            "group": self.group,
            "certificate": self.certificate,
            "sealed": base64.b64encode(self.sealed).decode(),
        }


@dataclass(frozen=True, slots=True)
class JoiningParts:
    """`join` raises ForegateError with a sentence for whoever holds the token; `renew` gives the edge with this id
    another certificate, PEM."""

    authority: str
    gate: Gate
    join: Callable[[JoinRequest], Awaitable[Joined]]
    renew: Callable[[str, SigningRequest], Awaitable[str]]


def joining_router(parts: JoiningParts) -> APIRouter:
    """The routes. They raise ForegateError; the application's handlers turn that into answers."""
    router = APIRouter(prefix="/edge/v1", include_in_schema=False)

    @router.get("/authority")
    async def authority() -> Response:
        return Response(parts.authority, media_type="application/x-pem-file")

    @router.post("/join")
    async def join(request: Request) -> dict[str, Any]:
        body = parse_members(JoinBody, await _members(request), noun="member")
        joined = await parts.join(
            JoinRequest(
                token=Secret(body.token),
                name=body.name,
                request=read_request(body.request),
                sealing_key=_sealing_key(body.sealing_key),
                edge_id=body.edge_id,
            )
        )
        return joined.to_wire()

    @router.post("/certificate")
    async def certificate(request: Request) -> dict[str, str]:
        caller = await parts.gate.admit(request)
        body = parse_members(CertificateBody, await _members(request), noun="member")
        return {"certificate": await parts.renew(caller.edge_id, read_request(body.request))}

    return router


async def _members(request: Request) -> dict[str, Any]:
    try:
        found = orjson.loads(await read_body(request, _MOST_BODY_BYTES))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise invalid("The body must be a JSON object.")
    return found


def _sealing_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if not is_public_key(key):
        raise invalid("The sealing key must be an X25519 public key in base64.", pointer="/sealing_key")
    return key
