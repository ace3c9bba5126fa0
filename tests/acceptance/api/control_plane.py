"""A control plane for tests: the real application on a real socket, with real databases in a temporary folder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cloudflare import Cloudflare

from foregate.access.applications.applications_api import ApplicationsApi
from foregate.access.applications.groups_api import GroupsApi
from foregate.access.applications.policies_api import PoliciesApi
from foregate.access.organization.api import KeysApi, OrganizationApi
from foregate.access.organization.writes import OrganizationSetUp
from foregate.access.tokens.api import ServiceTokensApi
from foregate.access.tokens.model import LastSeenReport
from foregate.api.app import create_app
from foregate.api.auth import Permission
from foregate.api.changes import Changes
from foregate.core.clock import utc_now
from foregate.core.masterkey import MasterKey, load_or_create
from foregate.core.secrets import Secret
from foregate.database.engine import AsyncDatabase
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.stores import SqliteStore, Store
from foregate.identity import issuing
from foregate.identity.api import IdentityApi
from foregate.identity.api_tokens_api import ApiTokensApi
from foregate.identity.credentials import Credentials
from foregate.tunnels.api import TunnelsApi

AUTH_DOMAIN = "auth.localhost"


@dataclass
class LastSeen:
    """Stands for the telemetry reader: answers with `report`, remembers what was asked."""

    report: LastSeenReport = field(default_factory=lambda: LastSeenReport({}, 2, 1.0))
    asked: list[list[str]] = field(default_factory=list)

    async def last_seen(self, client_ids: Sequence[str]) -> LastSeenReport:
        self.asked.append(list(client_ids))
        return self.report


@dataclass
class ControlPlane:
    """A running control plane and the secrets of its first start."""

    port: int
    account_id: str
    admin: Secret
    edge_id: str
    edge_key: Secret
    master_key: MasterKey
    database: AsyncDatabase
    credentials: Credentials
    last_seen: LastSeen
    committed: list[int]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/client/v4"

    def sdk(self, token: Secret | None = None, *, base_url: str | None = None, retries: int = 2) -> Cloudflare:
        return Cloudflare(
            api_token=(token or self.admin).reveal(),
            base_url=base_url or self.base_url,
            max_retries=retries,
            _strict_response_validation=True,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        account_id: str | None = None,
        headers: dict[str, str] | None = None,
        token: Secret | None = None,
        **options: Any,
    ) -> httpx.Response:
        """A plain request, for what the SDK does not show or send. `{account_id}` in the path is filled in."""
        url = self.base_url + path.format(account_id=account_id or self.account_id)
        bearer = {"Authorization": f"Bearer {(token or self.admin).reveal()}"}
        return httpx.request(method, url, headers={**bearer, **(headers or {})}, timeout=10, **options)

    def api_token(
        self,
        *,
        account_id: str | None = None,
        permissions: frozenset[Permission] = frozenset(Permission),
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[str, Secret]:
        """Another API token."""
        with self.database.database.write() as connection:
            principal, secret = issuing.create_api_token(
                connection,
                self.master_key,
                "another",
                utc_now(),
                account_id=account_id,
                permissions=permissions,
                not_before=not_before,
                expires_at=expires_at,
            )
        return principal.token_id, secret


@contextmanager
def run_control_plane(folder: Path, store: Store | None = None) -> Iterator[ControlPlane]:
    """Start one in `folder`, which may hold an earlier one's databases, and stop it at the end. Without a `store` its
    records are a file there."""
    folder.mkdir(exist_ok=True)
    master_key = load_or_create(folder / "master.key")
    records = store or SqliteStore(folder / "records.db", "records")
    records.upgrade()
    database = AsyncDatabase(records.open(CONTROL_PLANE))
    now = datetime.now(UTC)
    set_up = OrganizationSetUp(master_key, AUTH_DOMAIN)
    with database.database.write() as connection:
        account, _ = issuing.create_account(connection, "Test", now, set_ups=[set_up])
        _, admin = issuing.create_api_token(connection, master_key, "admin", now, account_id=None)
        edge, edge_key = issuing.create_edge(connection, master_key, f"edge {now.isoformat()}", now)
    credentials, last_seen, committed = Credentials(database, master_key), LastSeen(), list[int]()
    changes = Changes(database, committed.append)
    app = create_app(
        [
            IdentityApi(database, changes, [set_up]).operations(),
            ApiTokensApi(database, changes, master_key, credentials.forget).operations(),
            ServiceTokensApi(database, changes, master_key, last_seen).operations(),
            ApplicationsApi(database, changes).operations(),
            PoliciesApi(database, changes).operations(),
            GroupsApi(database, changes).operations(),
            OrganizationApi(database, changes, master_key).operations(),
            KeysApi(database, changes, master_key).operations(),
            TunnelsApi(database, changes).operations(),
        ],
        credentials,
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True)
    thread.start()
    try:
        yield ControlPlane(
            port=_port_of(server, thread),
            account_id=account.id,
            admin=admin,
            edge_id=edge.id,
            edge_key=edge_key,
            master_key=master_key,
            database=database,
            credentials=credentials,
            last_seen=last_seen,
            committed=committed,
        )
    finally:
        server.should_exit = True
        thread.join(10)
        database.close()


def _port_of(server: uvicorn.Server, thread: threading.Thread) -> int:
    pause = threading.Event()
    for _ in range(1000):
        if server.started and server.servers:
            return int(server.servers[0].sockets[0].getsockname()[1])
        assert thread.is_alive()
        pause.wait(0.01)
    raise AssertionError("the control plane did not start within 10 s")
