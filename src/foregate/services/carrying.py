"""The worker's threads that take in what edges have put into Kafka: one for each partition, so that one without a
leader keeps no other waiting. New partitions, and topics that were made anew, are found within half a minute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from foregate.access.events.carrying import EventCarrier, ReportCarrier
from foregate.core.clock import to_micros, utc_now
from foregate.core.errors import ForegateError
from foregate.database.elections import Seat
from foregate.database.rights import Rights
from foregate.database.stores import Store
from foregate.database.telemetry_schema import EVENT_INTAKE, REPORT_INTAKE
from foregate.eventlog.consumer import Consumer, Job
from foregate.eventlog.kafka_access import KafkaAccess
from foregate.eventlog.kafka_source import KafkaSource, partitions
from foregate.eventlog.model import EDGE_REPORTS, LOGIN_EVENTS
from foregate.eventlog.runner import run as run_consumers
from foregate.eventlog.seating import PATIENCE_SECONDS
from foregate.eventlog.troubles import Troubles

_LOOK_SECONDS = 30.0
_RETRY_SECONDS = 2.0
_KAFKA = "kafka"


@dataclass(frozen=True, slots=True)
class _Carrier:
    """The thread of a partition."""

    thread: threading.Thread
    stop: threading.Event = field(default_factory=threading.Event)


class Carrying:
    """`run(stop)` blocks its thread until `stop` is set and everything under way has ended."""

    def __init__(self, access: KafkaAccess, telemetry: Store, troubles: Troubles) -> None:
        self._access = access
        self._telemetry = telemetry
        self._troubles = troubles
        self._carriers: dict[str, _Carrier] = {}

    def run(self, stop: threading.Event) -> None:
        """Take in what comes."""
        try:
            while not stop.is_set():
                stop.wait(_LOOK_SECONDS if self._look() else _RETRY_SECONDS)
        finally:
            self._end(set(self._carriers))

    def _look(self) -> bool:
        """Have a thread for each partition that there is. False where Kafka does not say which there are."""
        try:
            events = partitions(self._access, LOGIN_EVENTS)
            reports = partitions(self._access, EDGE_REPORTS)
        except ForegateError as error:
            self._troubles.failed(_KAFKA, error.message, to_micros(utc_now()))
            return False
        self._troubles.worked(_KAFKA)
        self._end(self._carriers.keys() - {*events, *reports})
        for topic in events:
            self._begin(topic, EVENT_INTAKE, lambda topic=topic: EventCarrier(topic, utc_now))  # type: ignore[misc]
        for topic in reports:
            self._begin(topic, REPORT_INTAKE, lambda topic=topic: ReportCarrier(topic))  # type: ignore[misc]
        return True

    def _begin(self, topic: str, rights: Rights, consumer: Callable[[], Consumer]) -> None:
        if topic in self._carriers:
            return
        stop = threading.Event()
        work = (rights, consumer(), stop)
        carrier = _Carrier(threading.Thread(target=self._carry, args=work, name=topic, daemon=True), stop)
        self._carriers[topic] = carrier
        carrier.thread.start()

    def _carry(self, rights: Rights, consumer: Consumer, stop: threading.Event) -> None:
        with closing(self._telemetry.open(rights)) as database:
            seat = Seat(f"intake/{consumer.topic.partition('@')[0]}", database, patience_seconds=PATIENCE_SECONDS)
            job = Job(consumer, database, seat, KafkaSource(self._access, consumer.topic))
            run_consumers([job], [], stop, utc_now, self._troubles)

    def _end(self, topics: set[str]) -> None:
        ending = [self._carriers.pop(topic) for topic in topics]
        for carrier in ending:
            carrier.stop.set()
        for carrier in ending:
            carrier.thread.join()
