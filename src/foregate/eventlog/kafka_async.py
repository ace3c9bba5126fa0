"""The log on Kafka for asyncio code: `KafkaThread` runs work on a log of its own, `KafkaAppender` appends side by side.

Both are used from one event loop, and never keep it waiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from foregate.core.errors import ErrorCode, ForegateError
from foregate.eventlog.kafka import SAFE_WRITES, KafkaLog
from foregate.eventlog.kafka_access import Complaints, KafkaAccess, require_client, unavailable

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

T = TypeVar("T")

# What waits in memory for Kafka: some tens of the largest batches. Beyond it whoever sends keeps the rest.
_WAITING_KILOBYTES = 64 << 10
_POLL_SECONDS = 0.2


class KafkaThread:
    """A `LogAccess`: one thread, and one `KafkaLog` that only it uses."""

    def __init__(self, access: KafkaAccess, name: str) -> None:
        self._log = KafkaLog(access)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"kafka-{name}")

    async def read(self, work: Callable[[KafkaLog], T]) -> T:
        """`work(log)` on the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._log)

    async def write(self, work: Callable[[KafkaLog], T]) -> T:
        """The same: each call of the log is a transaction by itself."""
        return await self.read(work)

    def close(self) -> None:
        """End the thread, once what is under way has ended, and close the connections."""
        self._thread.shutdown(cancel_futures=True)
        self._log.close()


class KafkaAppender:
    """Appends to kept topics, many records at once on their way, each once and in order for its key."""

    def __init__(self, access: KafkaAccess) -> None:
        require_client()
        from confluent_kafka import Producer

        self._access = access
        self._complaints = Complaints()
        more = {**SAFE_WRITES, "queue.buffering.max.kbytes": _WAITING_KILOBYTES}
        self._producer = Producer(access.settings(self._complaints, **more))
        self._is_closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-appender", daemon=True)
        self._poller.start()

    async def append(self, topic: str, key: str, value: bytes) -> None:
        """Add a record; returns once Kafka keeps it. Its partition follows from the key.

        ForegateError(UNAVAILABLE) where Kafka does not take it: it may be there all the same.
        """
        from confluent_kafka import KafkaException

        loop = asyncio.get_running_loop()
        done: asyncio.Future[KafkaError | None] = loop.create_future()

        def delivered(error: KafkaError | None, _: Message) -> None:
            loop.call_soon_threadsafe(_settle, done, error)

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered)
        except BufferError:
            message = f"Kafka at {self._access.servers} takes records slower than they come; they are sent again."
            raise ForegateError(ErrorCode.UNAVAILABLE, message) from None
        except KafkaException as error:
            raise unavailable(self._access, error.args[0], topic=topic, complaints=self._complaints) from error
        if (failure := await done) is not None:
            raise unavailable(self._access, failure, topic=topic, complaints=self._complaints)

    def close(self) -> None:
        """End. What is on its way may arrive or not."""
        self._is_closed.set()
        self._poller.join()

    def _poll(self) -> None:
        while not self._is_closed.is_set():
            self._producer.poll(_POLL_SECONDS)
        self._producer.flush(_POLL_SECONDS)


def _settle(done: asyncio.Future[T], result: T) -> None:
    if not done.done():  # whoever waited may have been cancelled
        done.set_result(result)
