"""All of the API process that is about edges which joined: the calls that make and end them, and the feed port (TLS),
which is open only where a setting asks for it. It has the same followers, events and reports as the port for the edge
of this machine.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from foregate.access.organization.rotation import rotate_all
from foregate.api.app import create_app
from foregate.api.auth import Authenticator
from foregate.api.changes import Changes
from foregate.api.operations import Operations
from foregate.core.clock import utc_now
from foregate.core.masterkey import MasterKey
from foregate.database.engine import AsyncDatabase
from foregate.edge.feed import FeedParts, feed_router
from foregate.edge.feed_authority import FeedAuthority, certify_server
from foregate.edge.feed_gates import CertificateGate
from foregate.edge.feed_joining import JoiningParts, joining_router
from foregate.edge.feed_tls import server_context, show
from foregate.edge.secrets import EdgeSecrets
from foregate.identity.edge_config import renew_secrets
from foregate.identity.edges_api import EdgeMembersApi
from foregate.identity.joining import Joining, ensure_authority
from foregate.identity.memberships import Memberships
from foregate.services.listening import listen
from foregate.services.settings import PREFIX, Settings
from foregate.services.web import serve

# A third of the certificate's life: a process that runs for months always shows a fresh one.
_CERTIFIED_EVERY = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class FeedPort:
    """The port, bound, and the CA that vouches for it."""

    listener: socket.socket
    number: int
    authority: FeedAuthority


def listen_for_edges(settings: Settings) -> socket.socket | None:
    """The listening socket of the feed port; None where no setting asks for one."""
    if not settings.feed_bind:
        return None
    return listen(settings.feed_bind, settings.feed_port, f"{PREFIX}FEED_PORT")


def prepare_feed_port(
    connection: Connection, settings: Settings, listener: socket.socket | None, master_key: MasterKey, now: datetime
) -> FeedPort | None:
    """What joined edges need of the records at a start: the CA, and records with the newest secrets."""
    renew_secrets(connection, edge_secrets(master_key), now)
    if listener is None:
        return None
    return FeedPort(listener, settings.feed_port, ensure_authority(connection, master_key, now))


def edge_secrets(master_key: MasterKey) -> EdgeSecrets:
    """What an edge must know in secret. The master key's file is read at a start, so they are fixed for a process."""
    return EdgeSecrets(master_key.peppers(), master_key.record_mac_key(), master_key.edge_sealing_key())


@dataclass(frozen=True, slots=True)
class JoinedEdges:
    """`port` None: there is no feed port. `wake` is called when there is something to publish; `expel` ends the streams
    of the edge with this id."""

    records: AsyncDatabase
    master_key: MasterKey = field(repr=False)
    port: FeedPort | None
    memberships: Memberships
    wake: Callable[[], None]
    expel: Callable[[str], None]

    def operations(self, changes: Changes) -> Operations:
        """The calls that make and end edges."""
        return EdgeMembersApi(
            changes,
            self.master_key,
            authority=None if self.port is None else self.port.authority,
            feed_port=0 if self.port is None else self.port.number,
            expelled=self._expelled,
            replace_keys=self._replace_keys,
        ).operations()

    async def serve(self, feed: FeedParts, authenticator: Authenticator, told: asyncio.Event) -> None:
        """Serve the feed port, if there is one, until told to end. `feed` is what the other port serves; here another
        gate leads to it."""
        if self.port is None:
            await told.wait()
            return
        authority, secrets = self.port.authority, edge_secrets(self.master_key)
        gate = CertificateGate(self.memberships.find, lambda: secrets)
        joining = Joining(
            database=self.records,
            master_key=self.master_key,
            authority=authority,
            secrets=lambda: secrets,
            on_change=self.wake,
            forget=self.memberships.forget,
            clock=utc_now,
        )
        parts = JoiningParts(authority.pem, gate, joining.join, joining.renew)
        app = create_app([], authenticator, routers=[feed_router(replace(feed, gate=gate)), joining_router(parts)])
        context = server_context(authority.pem, certify_server(authority, utc_now()))

        async def certify() -> None:
            while True:
                await asyncio.sleep(_CERTIFIED_EVERY.total_seconds())
                show(context, certify_server(authority, utc_now()))

        _allow_many_connections()
        certifying = asyncio.create_task(certify())
        try:
            await serve(app, self.port.listener, told, tls=context)
        finally:
            certifying.cancel()

    def _expelled(self, edge_id: str) -> None:
        self.memberships.forget()
        self.expel(edge_id)

    async def _replace_keys(self, actor: str, now: datetime) -> list[str]:
        accounts = await rotate_all(self.records, self.master_key, now, actor=actor)
        self.wake()
        return accounts


def _allow_many_connections() -> None:
    """Each edge takes two descriptors or three; what a process may have without asking is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
