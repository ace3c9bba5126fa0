"""Follows the topic `edge-config` of Kafka from the edge, for ever: the same as the feed, record by record.

The place in the topic is kept beside the records. An edge that has none, or whose topic was made anew or cut off, or
that was away for longer than Kafka keeps tombstones, reads the topic from its start to its end, as a snapshot. A topic
that holds less than the edge knows is not taken for one: the control plane is about to fill it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson
import structlog

from foregate.core.errors import ForegateError
from foregate.edge.feed_client import FeedBroken, FeedHandler, FeedStatus
from foregate.edge.feed_lines import SnapshotEnd
from foregate.edge.rollout import EDGE_KIND
from foregate.eventlog.kafka import seq_of, value_of
from foregate.eventlog.kafka_access import Complaints, KafkaAccess
from foregate.eventlog.kafka_plan import TOMBSTONES_KEPT
from foregate.eventlog.kafka_reader import Place, Reader, offset_of
from foregate.eventlog.kafka_source import topic_id
from foregate.eventlog.model import EDGE_CONFIG

if TYPE_CHECKING:
    from confluent_kafka import Message

T = TypeVar("T")
log = structlog.get_logger(__name__)

_PAGE = 2_000
# How long the reading thread waits for news: as long as the end of the edge may take.
_WAIT_SECONDS = 0.5
_RETRY_SECONDS = 1.0
# So often the topic is looked at: whether it is still the same one.
_LOOK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class TopicPlace:
    """How far the topic with this id has been read: `position` is Kafka's own number for what comes next, `seq` the
    highest that came before."""

    topic_id: str
    position: int
    seq: int

    def to_text(self) -> str:
        """For keeping."""
        return f"{self.topic_id} {self.position} {self.seq}"

    @classmethod
    def parse(cls, text: str) -> TopicPlace | None:
        """The inverse; None for what is none."""
        words = text.split()
        if len(words) != 3 or not all(word.isdecimal() for word in words[1:]):
            return None
        return cls(words[0], int(words[1]), int(words[2]))


class Places(Protocol):
    """Keeps the place beside the records. OSError where the disk does not do its part."""

    async def read(self) -> str:
        """What was kept, '' before the first."""
        ...

    async def keep(self, text: str) -> None:
        """Keep it."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """The topic as it is. Of what stands before `kept_from`, tombstones may be gone; `newest` is the highest seq."""

    topic_id: str
    end: int
    kept_from: int
    newest: int


class Topic:
    """`edge-config`, read on one thread. Raises FeedBroken with a sentence where Kafka does not do its part."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        complaints = Complaints()
        place = Place(EDGE_CONFIG)
        self._reader = Reader(access, place, complaints, has_marks=True)
        self._scout = Reader(access, place, complaints, has_marks=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edge-config")

    async def look(self) -> Extent:
        """How far it reaches now."""
        return await self._run(self._look)

    async def page(self, position: int) -> list[Message]:
        """What stands at `position` and later, some of it; none at the end."""
        return await self._run(lambda: self._reader.read(position, limit=_PAGE))

    async def news(self) -> bool:
        """Whether something came after what was read last; waits a moment for it."""
        return await self._run(lambda: self._reader.has_more(_WAIT_SECONDS))

    async def newest(self, key: str) -> dict[str, object] | None:
        """The newest record of a key, as sent; None where there is none. Reads the whole topic."""

        def find() -> dict[str, object] | None:
            found, position = None, 0
            while messages := self._scout.read(position, limit=_PAGE):
                position = offset_of(messages[-1]) + 1
                found = next((m for m in reversed(messages) if m.key() == key.encode()), None) or found
            return None if found is None else parse(value_of(found))

        return await self._run(find)

    async def close(self) -> None:
        """Close the connections."""
        for reader in (self._reader, self._scout):
            await self._run(reader.close)
        self._thread.shutdown()

    def _look(self) -> Extent:
        identity = topic_id(self._access, EDGE_CONFIG)
        low, end = self._scout.watermarks()
        before = int((time.time() - TOMBSTONES_KEPT / timedelta(seconds=1)) * 1000)
        kept_from = self._scout.position_at(before)
        newest, back = 0, _PAGE
        while not newest and low < end:
            position = max(low, end - back)
            newest = max((seq_of(message) for message in self._scout.read(position, limit=back)), default=0)
            if position == low:
                break
            back *= 8
        return Extent(identity, end, end if kept_from is None else kept_from, newest)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except ForegateError as error:
            raise FeedBroken(error.message) from error


class KafkaFeed:
    """See `Feed`."""

    def __init__(self, topic: Topic, edge_id: str, handler: FeedHandler, places: Places) -> None:
        self._topic = topic
        self._own = f"{EDGE_KIND}/{edge_id}"
        self._handler = handler
        self._places = places
        self.status = FeedStatus("connecting", "", time.time())

    async def run(self) -> None:
        """See `Feed.run`."""
        while True:
            try:
                await self._follow()
            except (FeedBroken, OSError) as error:
                self._set("waiting", str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        self._set("connecting", self.status.reason)
        await self._handler.prepare()
        extent = await self._topic.look()
        place = await self._place_in(extent)
        self._set("following", "", connections=self.status.connections + 1)
        place = await self._snapshot(extent) if place is None else place
        looked_at = time.monotonic()
        is_told = False
        while True:
            if messages := await self._topic.page(place.position):
                place = await self._take(messages, place)
                is_told = False
            elif not is_told:
                await self._handler.caught_up(place.seq)
                is_told = True
            elif time.monotonic() - looked_at > _LOOK_SECONDS:
                looked_at = time.monotonic()
                await self._handler.caught_up(place.seq)
                await self._require_same(place)
            else:
                await self._topic.news()

    async def _place_in(self, extent: Extent) -> TopicPlace | None:
        """Where to go on; None where a snapshot is needed. FeedBroken where the topic holds less than is known here."""
        cursor = self._handler.cursor()
        if extent.newest < cursor:
            raise FeedBroken(
                f"Kafka's topic {EDGE_CONFIG} ends at change {extent.newest}, this edge is at {cursor}; "
                "the control plane is to fill it again"
            )
        place = TopicPlace.parse(await self._places.read())
        is_whole = (
            place is not None
            and place.topic_id == extent.topic_id
            and extent.kept_from <= place.position <= extent.end
            and place.seq <= max(cursor, 1)
        )
        return place if is_whole else None

    async def _snapshot(self, extent: Extent) -> TopicPlace:
        await self._handler.begin_snapshot()
        place, records = TopicPlace(extent.topic_id, 0, 0), 0
        while place.position < extent.end and (messages := await self._topic.page(place.position)):
            found = self._records(messages)
            records += len(found)
            await self._handler.take(found)
            place = self._after(messages, place)
        await self._handler.end_snapshot(SnapshotEnd(max(place.seq, extent.newest), records))
        await self._places.keep(place.to_text())
        return place

    async def _take(self, messages: list[Message], place: TopicPlace) -> TopicPlace:
        self.status = replace(self.status, last_line_at=time.time())
        if records := self._records(messages):
            await self._handler.take(records)
        reached = self._after(messages, place)
        await self._handler.passed(reached.seq)
        await self._places.keep(reached.to_text())
        return reached

    async def _require_same(self, place: TopicPlace) -> None:
        extent = await self._topic.look()
        self.status = replace(self.status, control_plane_seq=extent.newest)
        if extent.topic_id != place.topic_id or extent.end < place.position:
            raise FeedBroken(f"Kafka's topic {EDGE_CONFIG} was made anew, or cut off")

    def _after(self, messages: list[Message], place: TopicPlace) -> TopicPlace:
        seq = max(place.seq, *(seq_of(message) for message in messages))
        self.status = replace(self.status, control_plane_seq=max(seq, self.status.control_plane_seq))
        return TopicPlace(place.topic_id, offset_of(messages[-1]) + 1, seq)

    def _records(self, messages: list[Message]) -> list[dict[str, object]]:
        """As sent, without those about other edges, and without what is no record at all, which is told."""
        found = []
        for message in messages:
            record = parse(value_of(message))
            if record is None:
                self._set("following", f"garbage at {offset_of(message)} in Kafka's topic {EDGE_CONFIG}")
                continue
            key = str(record.get("key", ""))
            if not key.startswith(f"{EDGE_KIND}/") or key == self._own:
                found.append(record)
        return found

    def _set(self, state: str, reason: str, **more: Any) -> None:
        if reason and reason != self.status.reason:
            log.warning("feed_waiting" if state == "waiting" else "feed_odd", reason=reason)
        self.status = replace(self.status, state=state, reason=reason, since=time.time(), **more)


def parse(value: bytes) -> dict[str, object] | None:
    """A record as sent; None for what is none."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
