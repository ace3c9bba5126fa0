"""How a machine becomes an edge: a join token is made, is used once, and gives the machine its id and its certificate.

A join token is for one edge and a short time; the control plane keeps a digest of it. Called by the API process on its
event loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from foregate.core.clock import Clock, format_time
from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.ids import new_uuid
from foregate.core.masterkey import MasterKey
from foregate.core.secrets import EDGE_JOIN_TOKEN_PREFIX, Secret, new_secret, parse_secret
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import Change, enqueue
from foregate.edge.feed_authority import (
    FeedAuthority,
    SigningRequest,
    certify_edge,
    new_feed_authority,
    open_feed_authority,
    pem_of,
)
from foregate.edge.feed_joining import Joined, JoinRequest
from foregate.edge.rollout import EDGE_KIND
from foregate.edge.sealing import seal, unseal
from foregate.edge.secrets import EdgeSecrets, seal_secrets_to
from foregate.identity import edges_store, store
from foregate.identity.issuing import digest_key
from foregate.identity.model import Edge, JoinToken

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_AUTHORITY_AAD = b"foregate feed authority"


def check_name(name: str, *, pointer: str = "/name") -> str:
    """The name of an edge or a group, if it can be one."""
    if not _NAME.fullmatch(name):
        message = "A name has 1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first."
        raise invalid(message, pointer=pointer)
    return name


def ensure_authority(connection: Connection, master_key: MasterKey, now: datetime) -> FeedAuthority:
    """The CA of the feed, made if there is none yet: one for all processes and machines of a control plane."""
    key = master_key.key_encryption_key()
    found = edges_store.find_feed_authority(connection)
    if found is None:
        certificate, private_key = new_feed_authority(now)
        edges_store.insert_feed_authority(connection, certificate, seal(key, private_key, _AUTHORITY_AAD), now)
        return open_feed_authority(certificate, private_key)
    certificate, sealed = found
    return open_feed_authority(certificate, unseal(key, sealed, _AUTHORITY_AAD))


def create_join_token(
    connection: Connection,
    master_key: MasterKey,
    *,
    group: str,
    edge: Edge | None,
    lifetime: timedelta,
    now: datetime,
    actor: str,
) -> tuple[JoinToken, Secret]:
    """A new join token and its secret. `edge`: the one that is to join again, None for a new one."""
    token = JoinToken(new_uuid(), group, None if edge is None else edge.id, now + lifetime)
    secret = new_secret(EDGE_JOIN_TOKEN_PREFIX)
    edges_store.insert_join_token(connection, token, digest_key(master_key.api_token_key(), secret), now)
    store.insert_audit(connection, Change(actor, "create", "edge_join_token", token.id, ""), now)
    return token, secret


@dataclass(frozen=True, slots=True)
class Joining:
    """The calls behind `edge/feed_joining.py`. `on_change` is called when there is something to publish, `forget` when
    a certificate is no longer what it was."""

    database: AsyncDatabase
    master_key: MasterKey = field(repr=False)
    authority: FeedAuthority
    secrets: Callable[[], EdgeSecrets]
    on_change: Callable[[], None]
    forget: Callable[[], None]
    clock: Clock

    async def join(self, request: JoinRequest) -> Joined:
        """Make the sender an edge, or the edge that it was before. Safe to repeat with the same token and key, as an
        answer may be lost on its way."""
        secret = parse_secret(request.token.reveal(), EDGE_JOIN_TOKEN_PREFIX, pointer="/token")
        now = self.clock()

        def work(connection: Connection) -> Joined:
            token = self._find_token(connection, secret, request, now)
            edge = _admit(connection, token, request, now)
            certificate = certify_edge(self.authority, request.request, edge.id, now)
            edges_store.drop_certificates(connection, edge.id)
            edges_store.insert_certificate(connection, edge.id, certificate, now)
            edges_store.use_join_token(connection, token.id, edge.id, request.request.fingerprint, now)
            seq = enqueue(connection, f"{EDGE_KIND}/{edge.id}", now)
            change = Change(f"edge_join_token:{token.id}", "join", "edge", edge.id, "")
            store.insert_audit(connection, change, now, change_seq=seq)
            sealed = seal_secrets_to(self.secrets(), edge.id, request.sealing_key)
            return Joined(edge.id, edge.name, edge.group, pem_of(certificate), sealed)

        joined = await self.database.write(work)
        self.forget()
        self.on_change()
        return joined

    async def renew(self, edge_id: str, request: SigningRequest) -> str:
        """The edge's next certificate, PEM. The one before is good until this one is used."""
        now = self.clock()
        certificate = certify_edge(self.authority, request, edge_id, now)
        await self.database.write(lambda c: edges_store.insert_certificate(c, edge_id, certificate, now))
        return pem_of(certificate)

    def _find_token(self, connection: Connection, secret: Secret, request: JoinRequest, now: datetime) -> JoinToken:
        token = edges_store.find_join_token(connection, digest_key(self.master_key.api_token_key(), secret))
        again = "make another one on the control plane's machine: foregate edge token create"
        if token is None:
            message = f"This join token is not known here: it was made elsewhere, or ended long ago; {again}"
            raise ForegateError(ErrorCode.UNAUTHENTICATED, message)
        if token.used_by not in (None, request.request.fingerprint):
            message = f"This join token has been used already, and is good for one edge; {again}"
            raise ForegateError(ErrorCode.UNAUTHENTICATED, message)
        if token.expires_at <= now:
            message = f"This join token ended at {format_time(token.expires_at)}; {again}"
            raise ForegateError(ErrorCode.UNAUTHENTICATED, message)
        return token


def _admit(connection: Connection, token: JoinToken, request: JoinRequest, now: datetime) -> Edge:
    """The edge that the sender becomes: a new one, or the one that the token names."""
    if token.edge_id is None:
        return _new_edge(connection, token, request, now)
    edge = edges_store.find_edge(connection, token.edge_id)
    if edge is None or edge.revoked_at is not None:
        raise invalid("The edge that this token was made for has been expelled; join as a new one, with a new token.")
    if request.edge_id not in (None, edge.id):
        message = f"This token was made for the edge {edge.name}, and this home is another edge's; use another home."
        raise invalid(message)
    edges_store.set_sealing_key(connection, edge.id, request.sealing_key)
    return edge


def _new_edge(connection: Connection, token: JoinToken, request: JoinRequest, now: datetime) -> Edge:
    if request.edge_id is not None:
        message = (
            "This home is an edge already. To have it join again, make its token with: "
            "foregate edge token create --rejoin NAME"
        )
        raise invalid(message)
    name = check_name(request.name)
    if edges_store.find_edge_by_name(connection, name) is not None:
        message = (
            f"There is an edge {name} already; give this one another name with --name. If it is to take the place of "
            f"that one, make its token with: foregate edge token create --rejoin {name}"
        )
        raise ForegateError(ErrorCode.ALREADY_EXISTS, message)
    edge = Edge(new_uuid(), name, now, group=token.group, sealing_key=request.sealing_key)
    edges_store.insert_edge(connection, edge, None)
    return edge
