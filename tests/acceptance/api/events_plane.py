"""A control plane with telemetry for tests: API, feed and consumers in one process, on a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cloudflare import Cloudflare
from fastapi import FastAPI

from foregate.access.events.api import EventsApi
from foregate.access.events.consumers import event_jobs
from foregate.access.events.edges_api import EdgesApi
from foregate.access.events.intake import EventIntake
from foregate.access.events.last_seen import TelemetryLastSeen
from foregate.access.tokens.api import ServiceTokensApi
from foregate.api.app import create_app
from foregate.api.changes import Changes
from foregate.core.clock import utc_now
from foregate.core.masterkey import load_or_create
from foregate.core.secrets import Secret
from foregate.database.engine import AsyncDatabase, Database
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.stores import Store, Stores
from foregate.database.telemetry_schema import INGEST
from foregate.edge.feed import FeedParts, feed_router
from foregate.edge.feed_gates import KeyGate
from foregate.edge.followers import Followers
from foregate.eventlog.runner import run as run_consumers
from foregate.eventlog.sql import SqlLog
from foregate.identity import issuing
from foregate.identity.api import IdentityApi
from foregate.identity.credentials import Credentials
from foregate.services.feed_port import edge_secrets
from harness.waiting import until

Envelope = dict[str, Any]


@dataclass(frozen=True)
class EventsPlane:
    """A running one. `account_token` may see its one account alone."""

    port: int
    account_id: str
    other_account_id: str
    admin: Secret
    account_token: Secret
    edge_id: str
    edge_key: Secret
    records: Database
    telemetry: Database

    def sdk(self) -> Cloudflare:
        """The official SDK, pointed here."""
        return Cloudflare(
            api_token=self.admin.reveal(),
            base_url=f"http://127.0.0.1:{self.port}/client/v4",
            _strict_response_validation=True,
        )

    def get(self, path: str, *, bearer: Secret | None = None, status: int = 200, **query: Any) -> Envelope:
        """The envelope of a GET below the account."""
        url = f"http://127.0.0.1:{self.port}/client/v4/accounts/{self.account_id}{path}"
        headers = {"Authorization": f"Bearer {(bearer or self.admin).reveal()}"}
        answer = httpx.get(url, params=query, headers=headers, timeout=40)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def send(self, worker: str, lines: bytes, *, offset: int = 0, is_final: bool = False) -> int:
        """Send a batch as an edge does: the next offset."""
        query = f"worker={worker}&offset={offset}&final={int(is_final)}"
        answer = self.post(f"/edge/v1/events?{query}", zlib.compress(lines))
        assert answer.status_code == 200, answer.text
        return int(answer.json()["next_offset"])

    def report(self, **parts: Any) -> None:
        """Report as an edge does."""
        spool = {"files": 1, "backlog_bytes": 0, "lost_bytes": 0, "lost_lines": 0, "error": ""}
        whole = {"applied_seq": 0, "refused": [], "held": [], "at": 0, "worker": "w", "spool": spool, **parts}
        assert self.post("/edge/v1/reports", json.dumps(whole).encode()).status_code == 200

    def post(self, path: str, body: bytes) -> httpx.Response:
        """Any request of the edge."""
        headers = {"Authorization": f"Edge {self.edge_id}:{self.edge_key.reveal()}"}
        return httpx.post(f"http://127.0.0.1:{self.port}{path}", content=body, headers=headers, timeout=10)

    def until_consumed(self) -> None:
        """Wait for the consumers to have taken everything."""

        def is_consumed() -> bool:
            states = self.get("/foregate/pipeline")["result"]["consumers"]
            return len(states) == 3 and all(state["lag_records"] == 0 for state in states)

        until(is_consumed, 5, "everything is consumed")


@contextmanager
def run_events_plane(folder: Path, stores: Stores) -> Iterator[EventsPlane]:
    """Start one on two empty stores, its key in `folder`, and stop it at the end."""
    records = AsyncDatabase(stores.records.open(CONTROL_PLANE))
    telemetry = AsyncDatabase(stores.telemetry.open(INGEST))
    master_key = load_or_create(folder / "master.key")
    now = datetime.now(UTC)
    with records.database.write() as connection:
        account, _ = issuing.create_account(connection, "Test", now)
        other, _ = issuing.create_account(connection, "Other", now)
        _, admin = issuing.create_api_token(connection, master_key, "admin", now, account_id=None)
        _, narrow = issuing.create_api_token(connection, master_key, "narrow", now, account_id=account.id)
        edge, edge_key = issuing.create_edge(connection, master_key, "first", now)
    credentials = Credentials(records, master_key)
    intake = EventIntake(telemetry, utc_now)
    changes = Changes(records, lambda _: None)
    feed = FeedParts(
        followers=Followers(telemetry, SqlLog, mac_key=master_key.record_mac_key()),
        gate=KeyGate(credentials.authenticate_edge, lambda: edge_secrets(master_key)),
        ingest=intake.ingest,
        take_report=intake.take_report,
    )
    last_seen = TelemetryLastSeen(telemetry, records, utc_now)
    app = create_app(
        [
            IdentityApi(records, changes).operations(),
            ServiceTokensApi(records, changes, master_key, last_seen).operations(),
            EventsApi(telemetry, records, intake.arrivals).operations(),
            EdgesApi(telemetry, records, utc_now).operations(),
        ],
        credentials,
        routers=[feed_router(feed)],
    )
    with _serving(app) as port, _consuming(stores.telemetry):
        yield EventsPlane(
            port, account.id, other.id, admin, narrow, edge.id, edge_key, records.database, telemetry.database
        )
    intake.close()
    for database in (records, telemetry):
        database.close()


@contextmanager
def _serving(app: FastAPI) -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True)
    thread.start()
    try:
        until(lambda: server.started and bool(server.servers), 10, "the server listens")
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def _consuming(telemetry: Store) -> Iterator[None]:
    stop, jobs = threading.Event(), event_jobs(telemetry)
    thread = threading.Thread(target=run_consumers, args=(jobs, [], stop, utc_now), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        for job in jobs:
            job.database.close()
