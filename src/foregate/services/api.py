"""The API process: control API and feed on one port, the feed of joined edges on another where a setting asks for it,
and the publisher that carries changes to the edges.

It alone opens the records. There may be any number of them, here or on other machines: each follows what the others
commit, and one of them publishes. Everything it is made of is put together here, by hand.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from foregate.access.applications.applications_api import ApplicationsApi
from foregate.access.applications.edge_config import compile_record as compile_application
from foregate.access.applications.groups_api import GroupsApi
from foregate.access.applications.policies_api import PoliciesApi
from foregate.access.events.api import EventsApi
from foregate.access.events.edges_api import EdgesApi
from foregate.access.events.intake import Arrivals
from foregate.access.events.last_seen import TelemetryLastSeen
from foregate.access.organization.api import KeysApi, OrganizationApi
from foregate.access.organization.edge_config import compile_account, keys_compiler
from foregate.access.organization.rotation import rotate_due
from foregate.access.organization.writes import OrganizationSetUp
from foregate.access.tokens.api import ServiceTokensApi
from foregate.access.tokens.edge_config import compile_record as compile_token
from foregate.api.app import create_app
from foregate.api.changes import Changes
from foregate.api.operations import Operations
from foregate.core.clock import utc_now
from foregate.core.errors import ForegateError
from foregate.core.masterkey import MasterKey, load_or_create
from foregate.database.elections import Seat
from foregate.database.engine import AsyncDatabase
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.telemetry_schema import INGEST
from foregate.edge.feed import FeedParts, feed_router
from foregate.edge.feed_gates import KeyGate
from foregate.edge.followers import Followers
from foregate.edge.publisher import CompileRecord, Publisher
from foregate.identity.api import IdentityApi
from foregate.identity.api_tokens_api import ApiTokensApi
from foregate.identity.credentials import Credentials
from foregate.identity.edge_config import edge_compiler
from foregate.identity.issuing import AccountSetUp
from foregate.identity.memberships import Memberships
from foregate.operations.rebuild_api import RebuildApi
from foregate.services.bootstrap import bootstrap
from foregate.services.feed_port import FeedPort, JoinedEdges, edge_secrets, listen_for_edges, prepare_feed_port
from foregate.services.home import open_home
from foregate.services.listening import listen
from foregate.services.logs import Logs, open_logs
from foregate.services.settings import PREFIX, Settings
from foregate.services.stores import stores_of, when_there
from foregate.services.web import serve
from foregate.services.wholeness import require_whole
from foregate.tunnels.api import TunnelsApi
from foregate.tunnels.edge_config import compile_record as compile_ingress

# Signing keys are replaced and taken back on days, so a look each minute is early enough.
_ROTATION_EVERY_SECONDS = 60.0
_LOG_RETRY_SECONDS = 1.0


async def run(
    settings: Settings,
    told: asyncio.Event,
    *,
    listener: socket.socket | None = None,
    feed_listener: socket.socket | None = None,
) -> None:
    """Serve until told to end; then finish what is being answered. What is not published yet is at the next start.

    `listener` and `feed_listener`: listening sockets, which other API processes may share; by default its own ones.
    """
    home = open_home(settings.home)
    listener = listener or listen(settings.api_host, settings.api_port, f"{PREFIX}API_PORT")
    feed_listener = feed_listener or listen_for_edges(settings)
    await asyncio.to_thread(require_whole, settings)
    master_key = load_or_create(home.master_key)
    stores = stores_of(settings)
    database = stores.records.open(CONTROL_PLANE)
    records, telemetry = AsyncDatabase(database), AsyncDatabase(stores.telemetry.open(INGEST))
    set_ups = (OrganizationSetUp(master_key, settings.auth_domain),)

    def prepare() -> _Parts:
        stores.records.upgrade()
        stores.telemetry.upgrade()
        bootstrap(database, home, master_key, set_ups, utc_now())
        with database.write() as connection:
            feed_port = prepare_feed_port(connection, settings, feed_listener, master_key, utc_now())
        logs = open_logs(settings, home, telemetry)
        return _Parts(records, telemetry, logs, master_key, set_ups, feed_port, home.run)

    try:
        parts = await when_there(prepare, told)
        if parts is not None:
            await _serve_and_close(parts, listener, told)
    finally:
        telemetry.close()
        records.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What all of the API process shares."""

    records: AsyncDatabase
    telemetry: AsyncDatabase
    logs: Logs
    master_key: MasterKey
    set_ups: tuple[AccountSetUp, ...]
    feed_port: FeedPort | None
    run_folder: Path


async def _serve_and_close(parts: _Parts, listener: socket.socket, told: asyncio.Event) -> None:
    try:
        await _serve(parts, listener, told)
    finally:
        await asyncio.to_thread(parts.logs.close)


async def _serve(parts: _Parts, listener: socket.socket, told: asyncio.Event) -> None:
    records, telemetry, master_key = parts.records, parts.telemetry, parts.master_key
    logs = parts.logs
    intake = logs.intake
    followers = Followers(logs.following, logs.event_log, mac_key=master_key.record_mac_key(), folder=parts.run_folder)
    compile_record = _compiler(master_key)
    publisher = Publisher(
        records,
        telemetry,
        log_access=logs.publishing,
        event_log=logs.event_log,
        compile_record=compile_record,
        mac_key=master_key.record_mac_key(),
        notify=followers.publish,
        seat=Seat("publisher", telemetry.database),
    )
    credentials, secrets = Credentials(records, master_key), edge_secrets(master_key)
    memberships = Memberships(records)
    joined = JoinedEdges(records, master_key, parts.feed_port, memberships, wake=publisher.wake, expel=followers.expel)
    feed = FeedParts(
        followers=followers,
        gate=KeyGate(credentials.authenticate_edge, lambda: secrets),
        ingest=intake.ingest,
        take_report=intake.take_report,
    )
    changes = Changes(records, lambda _seq: publisher.wake())
    rebuild = RebuildApi(
        records,
        logs.publishing,
        event_log=logs.event_log,
        compile_record=compile_record,
        wake=publisher.wake,
        clock=utc_now,
    )
    products = [
        *_products(parts, changes, intake.arrivals, credentials),
        joined.operations(changes),
        rebuild.operations(),
    ]

    async def records_changed() -> None:
        publisher.wake()
        if await credentials.look():
            memberships.forget()

    async def telemetry_changed() -> None:
        await logs.catch_up(followers)
        await intake.look()
        await publisher.keep_seat()

    def end_streams() -> None:
        followers.close()
        intake.arrivals.end()

    app = create_app(products, credentials, routers=[feed_router(feed)])
    await _while_alive(
        _both(serve(app, listener, told, before_drain=end_streams), joined.serve(feed, credentials, told)),
        _publish(logs, followers, publisher, telemetry.follow(telemetry_changed)),
        _rotate_keys(records, master_key, publisher),
        records.follow(records_changed),
    )


def _products(parts: _Parts, changes: Changes, arrivals: Arrivals, credentials: Credentials) -> list[Operations]:
    records, telemetry, master_key = parts.records, parts.telemetry, parts.master_key
    last_seen = TelemetryLastSeen(telemetry, records, utc_now)
    return [
        IdentityApi(records, changes, parts.set_ups).operations(),
        ApiTokensApi(records, changes, master_key, credentials.forget).operations(),
        OrganizationApi(records, changes, master_key).operations(),
        KeysApi(records, changes, master_key).operations(),
        ServiceTokensApi(records, changes, master_key, last_seen).operations(),
        ApplicationsApi(records, changes).operations(),
        PoliciesApi(records, changes).operations(),
        GroupsApi(records, changes).operations(),
        TunnelsApi(records, changes).operations(),
        EventsApi(telemetry, records, arrivals).operations(),
        EdgesApi(telemetry, records, utc_now).operations(),
    ]


def _compiler(master_key: MasterKey) -> CompileRecord:
    """What gives a record key's value now, by the kind in front of it."""
    compilers: dict[str, CompileRecord] = {
        "token": compile_token,
        "app": compile_application,
        "ingress": compile_ingress,
        "account": compile_account,
        "keys": keys_compiler(master_key),
        "edge": edge_compiler(edge_secrets(master_key)),
    }

    def compile_record(connection: Connection, key: str) -> dict[str, Any] | None:
        kind, _, name = key.partition("/")
        return compilers[kind](connection, name)

    return compile_record


async def _publish(
    logs: Logs, followers: Followers, publisher: Publisher, following: Coroutine[Any, Any, None]
) -> None:
    """Carry changes to the edges, once the log can be read."""
    while True:
        try:
            await followers.start()
            break
        except ForegateError as error:
            structlog.get_logger("foregate.api").error("log_unreadable", error=error.message, detail=error.detail)
            await asyncio.sleep(_LOG_RETRY_SECONDS)
    await asyncio.gather(publisher.run(), logs.watch(followers), following)


async def _rotate_keys(records: AsyncDatabase, master_key: MasterKey, publisher: Publisher) -> None:
    while True:
        try:
            # One of several API processes does it; two that did would only make a key in vain.
            if publisher.is_seated and await rotate_due(records, master_key, utc_now()) is not None:
                publisher.wake()
        except ForegateError as error:  # the disk is full, say: the next look may do better
            structlog.get_logger("foregate.api").error("keys_not_rotated", error=error.message, detail=error.detail)
        await asyncio.sleep(_ROTATION_EVERY_SECONDS)


async def _both(*works: Coroutine[Any, Any, None]) -> None:
    """Run all, to the end of the last; what one fails of ends the others."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def _while_alive(foreground: Awaitable[None], *background: Awaitable[None]) -> None:
    """Run all; end with `foreground`. What runs in the background never ends but by a bug, which then ends all."""
    front = asyncio.ensure_future(foreground)
    beside = [asyncio.ensure_future(one) for one in background]
    await asyncio.wait([front, *beside], return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in beside if task.done()]
    for task in (*beside, *([front] if failed else [])):
        task.cancel()
    await asyncio.gather(*beside, *([front] if failed else []), return_exceptions=True)
    for task in failed:
        task.result()
        raise RuntimeError("a background task of the API ended by itself")
    front.result()
