"""Which log the API process works on: that in telemetry.db, or Kafka where a setting names one. Nothing else asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from foregate.access.events.intake import EventIntake, Intake, LogIntake
from foregate.core.clock import utc_now
from foregate.core.errors import ForegateError
from foregate.database.engine import AsyncDatabase
from foregate.edge.followers import Followers
from foregate.eventlog.kafka_access import require_client
from foregate.eventlog.model import EDGE_CONFIG, EventLog, LogAccess
from foregate.eventlog.sql import SqlLog
from foregate.services.home import Home
from foregate.services.kafka import kafka_access
from foregate.services.settings import Settings

if TYPE_CHECKING:
    from foregate.eventlog.kafka_async import KafkaThread

_NEWS_SECONDS = 1.0
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Logs:
    """`publishing` and `following` run work on `event_log(opened)`; `intake` takes what edges send. For what other
    processes publish, `catch_up(followers)` is called when the telemetry store has changed, and `watch(followers)` runs
    for ever."""

    publishing: LogAccess
    following: LogAccess
    event_log: Callable[[Any], EventLog]
    intake: Intake
    catch_up: Callable[[Followers], Awaitable[None]]
    watch: Callable[[Followers], Coroutine[Any, Any, None]]
    close: Callable[[], None]


def open_logs(settings: Settings, home: Home, telemetry: AsyncDatabase) -> Logs:
    """The log that the settings ask for. ForegateError where Kafka's client or its login is missing."""
    return _open_kafka(settings, home, telemetry) if settings.kafka else _open_sql(telemetry)


def _open_sql(telemetry: AsyncDatabase) -> Logs:
    intake = EventIntake(telemetry, utc_now)

    async def watch(_: Followers) -> None:
        """Nothing beside `catch_up`: the log is in the store."""
        await asyncio.Event().wait()

    return Logs(telemetry, telemetry, SqlLog, intake, Followers.catch_up, watch, intake.close)


def _open_kafka(settings: Settings, home: Home, telemetry: AsyncDatabase) -> Logs:
    require_client()
    from foregate.eventlog.kafka_async import KafkaAppender, KafkaThread

    access = kafka_access(settings, home, "api")
    # One each, so that whoever waits for news, or for a page of a snapshot, keeps no change waiting.
    publishing, following, news = (KafkaThread(access, name) for name in ("publish", "follow", "news"))
    appender = KafkaAppender(access)
    intake = LogIntake(telemetry, utc_now, appender.append)

    async def catch_up(_: Followers) -> None:
        """What is published is not in the store."""

    async def watch(followers: Followers) -> None:
        while True:
            try:
                # It reads to the end itself, so that what it waits for next is news.
                await news.read(lambda log: log.wait(EDGE_CONFIG, _NEWS_SECONDS))
                await followers.catch_up()
            except ForegateError as error:
                structlog.get_logger("foregate.api").error("log_unreadable", error=error.message, detail=error.detail)
                await asyncio.sleep(_RETRY_SECONDS)

    def close() -> None:
        intake.close()
        appender.close()
        # Side by side: each may have to wait for a call that Kafka does not answer.
        with ThreadPoolExecutor(thread_name_prefix="kafka-close") as closing:
            closing.map(_close, (publishing, following, news))

    return Logs(publishing, following, lambda log: log, intake, catch_up, watch, close)


def _close(thread: KafkaThread) -> None:
    with suppress(ForegateError):
        thread.close()
