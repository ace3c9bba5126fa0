"""From what edges send to what is counted: whichever log and database, every event counts once."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection, text

from event_lines import ACCOUNT, NOON, batch, client, later, line
from foregate.access.events.batch import SpoolBatch, to_message
from foregate.access.events.carrying import EventCarrier
from foregate.access.events.consumers import event_jobs
from foregate.access.events.ingest import take_in
from foregate.core.clock import to_micros
from foregate.core.errors import ForegateError
from foregate.database.engine import Database
from foregate.database.stores import Store, Stores
from foregate.database.telemetry_schema import EVENT_INTAKE, INGEST
from foregate.eventlog.consumer import Job
from foregate.eventlog.kafka import KafkaLog
from foregate.eventlog.kafka_access import KafkaAccess
from foregate.eventlog.kafka_source import KafkaSource, partitions
from foregate.eventlog.model import LOGIN_EVENTS
from foregate.eventlog.runner import Runner
from foregate.eventlog.sql import SqlLog
from harness.kafka import Broker
from harness.waiting import until


class Killed(Exception):
    """As if the process had ended here."""


@dataclass
class Carrier(EventCarrier):
    """One that is killed between its result and its offset, so many times."""

    kills: int = 0

    def __init__(self, topic: str) -> None:
        super().__init__(topic, lambda: later(3600))

    def store(self, connection: Connection, finished: list[SpoolBatch]) -> None:
        super().store(connection, finished)
        if self.kills:
            self.kills -= 1
            raise Killed


@dataclass
class Pipeline:
    """`send` is the edge, `run` is a worker that begins anew each time."""

    telemetry: Store
    broker: Broker | None
    opened: list[Database] = field(default_factory=list)
    carriers: list[Carrier] = field(default_factory=list)

    def send(self, *batches: SpoolBatch) -> None:
        for one in batches:
            self._send(one, to_message(one))

    def send_garbage(self) -> None:
        self._send(None, b"garbage")

    def run(self) -> None:
        jobs = event_jobs(self.telemetry)
        if self.broker is not None:
            for carrier in self.carriers:
                source = KafkaSource(KafkaAccess(self.broker.servers), carrier.topic)
                self._all(Runner([Job(carrier, self._open(EVENT_INTAKE), source=source)], lambda: NOON))
                source.close()
        self._all(Runner(jobs, lambda: NOON))
        for job in jobs:
            job.database.close()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.telemetry.look_into() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    @property
    def events(self) -> int:
        """How many are counted."""
        ((count,),) = self.rows("SELECT coalesce(sum(events), 0) FROM rollups")
        return int(str(count))

    def _send(self, one: SpoolBatch | None, message: bytes) -> None:
        if self.broker is not None:
            log = KafkaLog(KafkaAccess(self.broker.servers))
            log.append(f"{LOGIN_EVENTS}/0", ACCOUNT, message, to_micros(NOON))
            log.close()
            return
        with self._open(INGEST).write() as connection:
            if one is None:
                SqlLog(connection).append(LOGIN_EVENTS, "", message, to_micros(NOON))
            else:
                take_in(connection, one, later(3600))

    def _open(self, rights: object) -> Database:
        self.opened.append(self.telemetry.open(rights))  # type: ignore[arg-type]
        return self.opened[-1]

    @staticmethod
    def _all(runner: Runner) -> None:
        deadline = time.monotonic() + 30
        turn = runner.round()
        while turn.moved or turn.has_failed:
            assert time.monotonic() < deadline, "a consumer keeps failing"
            turn = runner.round()


@pytest.fixture(params=["sql", "kafka"])
def pipeline(request: pytest.FixtureRequest, stores: Stores) -> Iterator[Pipeline]:
    made = Pipeline(stores.telemetry, None)
    if request.param == "kafka":
        made.broker = request.getfixturevalue("kafka")
        assert made.broker is not None
        made.broker.make_topics({LOGIN_EVENTS: {"retention.ms": "-1"}}, partitions=2)
        made.carriers = [Carrier(topic) for topic in until(lambda: found(made.broker), 10, "the topic is made")]
    yield made
    for database in made.opened:
        database.close()


def found(broker: Broker | None) -> tuple[str, ...]:
    """The partitions, none while Kafka is still making them."""
    assert broker is not None
    try:
        return partitions(KafkaAccess(broker.servers), LOGIN_EVENTS)
    except ForegateError:
        return ()


LINES = [line(number, second=number) for number in range(6)]


def test_batches_are_counted_and_tokens_seen(pipeline: Pipeline) -> None:
    pipeline.send(batch(b"".join(LINES[:3])), batch(LINES[3], start=len(b"".join(LINES[:3])), is_final=True))
    pipeline.run()
    assert pipeline.events == 4
    assert pipeline.rows("SELECT client_id, edge_id FROM last_seen") == [(client(1), "edge-1")]
    size = len(b"".join(LINES[:4]))
    assert pipeline.rows("SELECT next_byte, is_final FROM spool_positions") == [(size, 1)]


def test_batch_that_is_sent_again_counts_once(pipeline: Pipeline) -> None:
    first = batch(b"".join(LINES[:3]))
    pipeline.send(first, first)
    pipeline.run()
    pipeline.send(first)
    pipeline.run()
    assert pipeline.events == 3


def test_batch_that_is_sent_again_in_other_bounds_counts_once(pipeline: Pipeline) -> None:
    two = len(b"".join(LINES[:2]))
    pipeline.send(batch(b"".join(LINES[:3])), batch(b"".join(LINES[2:]), start=two), batch(b"".join(LINES)))
    pipeline.run()
    assert pipeline.events == len(LINES)


def test_batches_in_another_order_leave_no_gap(pipeline: Pipeline) -> None:
    three = len(b"".join(LINES[:3]))
    pipeline.send(batch(b"".join(LINES[3:]), start=three), batch(b"".join(LINES[:3])))
    pipeline.run()
    assert pipeline.events == len(LINES)
    assert pipeline.rows("SELECT * FROM spool_gaps") == []


def test_worker_that_was_killed_between_result_and_offset_counts_nothing_twice(pipeline: Pipeline) -> None:
    pipeline.send(batch(b"".join(LINES[:3])))
    for carrier in pipeline.carriers:
        carrier.kills = 2
    pipeline.run()
    pipeline.send(batch(b"".join(LINES[3:]), start=len(b"".join(LINES[:3]))))
    pipeline.run()
    assert pipeline.events == len(LINES)


def test_what_is_no_batch_is_set_aside_and_counted(pipeline: Pipeline) -> None:
    pipeline.send(batch(LINES[0]))
    pipeline.send_garbage()
    pipeline.send(batch(LINES[1], start=len(LINES[0])))
    pipeline.run()
    assert pipeline.events == 2
    ((aside,),) = pipeline.rows("SELECT max(set_aside) FROM consumer_offsets")
    assert aside == 1
    assert len(pipeline.rows("SELECT * FROM poison_records")) == (1 if pipeline.broker else 3)


def test_lines_that_are_not_what_the_batch_says_are_set_aside(pipeline: Pipeline) -> None:
    lying = SpoolBatch("edge-1", "w1", 0, 10_000, False, zlib.compress(LINES[0]))
    pipeline.send(lying, batch(LINES[1], worker="w2"))
    pipeline.run()
    assert pipeline.events == 1


def test_many_batches_of_a_worker_that_was_away_are_all_counted(pipeline: Pipeline) -> None:
    for number in range(40):
        pipeline.send(batch(line(number), worker=f"w{number}"))
    pipeline.run()
    assert pipeline.events == 40
