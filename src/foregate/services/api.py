"""The API process: control API and feed on one port, and the publisher that carries changes to the edges.

It alone opens the records. Everything it is made of is put together here, by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Connection

from foregate.access.applications.applications_api import ApplicationsApi
from foregate.access.applications.edge_config import compile_record as compile_application
from foregate.access.applications.groups_api import GroupsApi
from foregate.access.applications.policies_api import PoliciesApi
from foregate.access.events.intake import EventIntake
from foregate.access.tokens.api import ServiceTokensApi
from foregate.access.tokens.edge_config import compile_record as compile_token
from foregate.api.app import create_app
from foregate.api.changes import Changes
from foregate.core.clock import utc_now
from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import MasterKey, load_or_create
from foregate.database.engine import AsyncDatabase, Database
from foregate.database.migrate import upgrade
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.telemetry_schema import INGEST
from foregate.edge.feed import FeedParts, feed_router
from foregate.edge.followers import Followers
from foregate.edge.publisher import Publisher
from foregate.edge.secrets import EdgeSecrets
from foregate.eventlog.sql import SqlLog
from foregate.identity.api import IdentityApi
from foregate.identity.credentials import Credentials
from foregate.services.bootstrap import bootstrap
from foregate.services.home import Home, open_home
from foregate.services.settings import PREFIX, Settings
from foregate.services.web import listen, serve
from foregate.tunnels.api import TunnelsApi
from foregate.tunnels.edge_config import compile_record as compile_ingress

_COMPILERS: dict[str, Callable[[Connection, str], dict[str, Any] | None]] = {
    "token": compile_token,
    "app": compile_application,
    "ingress": compile_ingress,
}


async def run(settings: Settings, told: asyncio.Event) -> None:
    """Serve until told to end; then finish what is being answered and published."""
    home = open_home(settings.home)
    listener = listen(settings.api_host, settings.api_port, f"{PREFIX}API_PORT")
    master_key = _master_key(home)
    upgrade(home.records_db, "records")
    upgrade(home.telemetry_db, "telemetry")
    records_database = Database(home.records_db, CONTROL_PLANE)
    bootstrap(records_database, home, master_key, [], utc_now())
    records = AsyncDatabase(records_database)
    telemetry = AsyncDatabase(Database(home.telemetry_db, INGEST))
    intake = EventIntake(telemetry, utc_now)
    followers = Followers(telemetry, SqlLog)
    publisher = Publisher(
        records,
        telemetry,
        event_log=SqlLog,
        compile_record=_compile_record,
        mac_key=master_key.record_mac_key(),
        notify=followers.publish,
    )
    try:
        await followers.start()
        app = _app(records, master_key, publisher, followers, intake)
        serving = serve(app, listener, told, before_drain=followers.close)
        await _while_alive(publisher.run(), serving)
    finally:
        intake.close()
        telemetry.close()
        records.close()


def _app(
    records: AsyncDatabase, master_key: MasterKey, publisher: Publisher, followers: Followers, intake: EventIntake
) -> FastAPI:
    credentials = Credentials(records, master_key)
    changes = Changes(records, lambda _seq: publisher.wake())
    feed = FeedParts(
        followers=followers,
        secrets=lambda: EdgeSecrets(master_key.peppers(), master_key.record_mac_key(), master_key.edge_sealing_key()),
        authenticate=credentials.authenticate_edge,
        ingest=intake.ingest,
        take_report=intake.take_report,
    )
    products = [
        IdentityApi(records, changes, []).operations(),
        ApplicationsApi(records, changes).operations(),
        PoliciesApi(records, changes).operations(),
        GroupsApi(records, changes).operations(),
        TunnelsApi(records, changes).operations(),
    ]
    return create_app(products, credentials, routers=[feed_router(feed)])


def _compile_record(connection: Connection, key: str) -> dict[str, Any] | None:
    kind, _, name = key.partition("/")
    return _COMPILERS[kind](connection, name)


def _master_key(home: Home) -> MasterKey:
    """The master key. A new one is made only for a new home: with it, no secret in older records would ever fit."""
    if home.records_db.exists() and not home.master_key.exists():
        raise ForegateError(
            ErrorCode.UNAVAILABLE,
            f"{home.master_key} is missing, and the records in {home.records_db} are of no use without it; "
            "put the saved copy back.",
        )
    return load_or_create(home.master_key)


async def _while_alive(background: Awaitable[None], foreground: Awaitable[None]) -> None:
    """Run both; end with `foreground`. `background` runs for ever, so its end is a bug and ends both."""
    beside = asyncio.ensure_future(background)
    front = asyncio.ensure_future(foreground)
    await asyncio.wait({beside, front}, return_when=asyncio.FIRST_COMPLETED)
    if beside.done():
        front.cancel()
        beside.result()
        raise RuntimeError("the publisher ended by itself")
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)
    front.result()
