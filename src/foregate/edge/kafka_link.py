"""Topics of Kafka as an edge's link: with them an edge needs nothing but Kafka. For edges that joined.

Its secrets come with its own record in `edge-config`, sealed to its key; once they are on its disk, others are taken
from a record alone that is sealed under the ones it knows. Events and reports are appended to their topics.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from foregate.core.errors import ForegateError
from foregate.core.records import RecordRefused
from foregate.edge.event_message import encode, partition_key
from foregate.edge.feed_client import Expelled, FeedBroken, FeedHandler
from foregate.edge.kafka_feed import KafkaFeed, Places, Topic
from foregate.edge.link import Feed, Upkeep
from foregate.edge.membership import JoinedIdentity
from foregate.edge.parsing import parse_edge
from foregate.edge.rollout import EDGE_KIND
from foregate.edge.sealing import SealBroken
from foregate.edge.shipping import Batch, ControlPlaneAway
from foregate.eventlog.kafka_access import KafkaAccess
from foregate.eventlog.kafka_async import KafkaAppender
from foregate.eventlog.model import EDGE_REPORTS, LOGIN_EVENTS
from foregate.eventlog.packing import unpack_known


class KafkaLink:
    """See `Link`."""

    def __init__(self, access: KafkaAccess, identity: JoinedIdentity, secrets: Path, places: Places) -> None:
        """`secrets` is the file in which the sealed secrets are kept; `places` keeps how far the topic was read."""
        self._identity = identity
        self._secrets = secrets
        self._places = places
        self._topic = Topic(access)
        self._appender = KafkaAppender(access)
        self._unpacker = ThreadPoolExecutor(1, thread_name_prefix="events")

    def feed(self, handler: FeedHandler) -> Feed:
        """See `Link.feed`."""
        return KafkaFeed(self._topic, self._identity.edge_id, handler, self._places)

    async def fetch_secrets(self) -> bytes:
        """See `Link.fetch_secrets`."""
        try:
            kept = await asyncio.to_thread(self._secrets.read_bytes)
            self._identity.open(kept)
            return kept
        except (OSError, SealBroken):
            return await self._find_secrets()

    async def post_events(self, batch: Batch) -> int:
        """See `Link.post_events`. What Kafka keeps is delivered: the worker takes it in whenever it runs."""
        end = batch.offset + batch.size_bytes
        if not batch.size_bytes and not batch.is_final:
            return end
        loop = asyncio.get_running_loop()
        key = await loop.run_in_executor(self._unpacker, _key_of, batch)
        message = encode(
            self._identity.edge_id,
            batch.worker,
            batch.offset,
            batch.size_bytes,
            batch.body if batch.size_bytes else b"",
            is_final=batch.is_final,
        )
        await self._append(LOGIN_EVENTS, key, message)
        return end

    async def send_report(self, report: dict[str, Any]) -> None:
        """See `Link.send_report`."""
        await self._append(EDGE_REPORTS, self._identity.edge_id, orjson.dumps(report))

    def upkeep(self) -> Upkeep | None:
        """See `Link.upkeep`. Its certificate is for the feed alone, which it does not use."""
        return None

    async def close(self) -> None:
        """See `Link.close`."""
        self._unpacker.shutdown(wait=False)
        await asyncio.to_thread(self._appender.close)
        await self._topic.close()

    async def _append(self, topic: str, key: str, value: bytes) -> None:
        try:
            await self._appender.append(topic, key, value)
        except ForegateError as error:
            raise ControlPlaneAway(error.message) from error

    async def _find_secrets(self) -> bytes:
        """Those in the newest record of this edge. It cannot be checked before they are known; that it opens under this
        edge's key and that only the control plane may write the topic is what vouches for it the first time."""
        record = await self._topic.newest(f"{EDGE_KIND}/{self._identity.edge_id}")
        try:
            value = parse_edge(record["value"]) if record is not None else None  # type: ignore[arg-type]
        except (RecordRefused, LookupError) as error:
            raise FeedBroken("this edge's record in Kafka cannot be read") from error
        if value is None:
            raise FeedBroken("Kafka has no record of this edge yet; is the control plane running?")
        if value.is_expelled:
            raise Expelled
        return value.sealed


def _key_of(batch: Batch) -> str:
    return partition_key(unpack_known(batch.body, batch.size_bytes) if batch.size_bytes else b"", batch.worker)
