"""However a worker's lines are cut into batches, repeated and reordered, and whenever they are consumed: the same
"last seen", the same counts, the same numbers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from event_lines import NOON_MICROS, NOTICE, Telemetry, batch, client, later, line
from foregate.access.events.batch import SpoolBatch
from foregate.access.events.events import MalformedLine, is_notice, parse_line

MALFORMED = b'{"n":3,"t":17\n'

event_lines = st.builds(
    line,
    st.integers(0, 50),
    second=st.integers(0, 150_000).map(lambda ms: ms / 1000),
    client_id=st.one_of(st.just(""), st.integers(0, 3).map(client)),
    reason=st.sampled_from(["service_auth", "bypass", "secret_mismatch", "token_unknown", "", "edge_answer"]),
    path=st.sampled_from(["/", '/"id":"', f'","id":"{client(9)}","pol":"","why":"service_auth","host":"', "/ü\n"]),
)
files = st.lists(st.one_of(event_lines, st.just(NOTICE), st.just(MALFORMED)), min_size=1, max_size=10)


@dataclass(frozen=True)
class Delivery:
    """The files of some workers, and an order in which parts of them arrive; None: the consumers run."""

    files: dict[tuple[str, str], list[bytes]]
    steps: list[SpoolBatch | None]


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    workers = draw(
        st.lists(st.tuples(st.sampled_from(["e1", "e2"]), st.sampled_from(["w1", "w2"])), min_size=1, unique=True)
    )
    found = {worker: draw(files) for worker in workers}
    steps: list[SpoolBatch | None] = []
    for (edge, worker), lines in found.items():
        cuts = sorted({0, len(lines), *draw(st.lists(st.integers(0, len(lines)), max_size=4))})
        spans = list(pairwise(cuts))
        # Parts that overlap what else is sent, as after a lost answer.
        ends = st.tuples(st.integers(0, len(lines)), st.integers(0, len(lines)))
        spans += [(min(pair), max(pair)) for pair in draw(st.lists(ends, max_size=3))]
        for first, last in spans:
            start = sum(map(len, lines[:first]))
            steps.append(batch(b"".join(lines[first:last]), start=start, edge=edge, worker=worker))
    steps += [None] * draw(st.integers(0, 3))
    return Delivery(found, draw(st.permutations(steps)))


def expected(delivery: Delivery) -> tuple[dict[str, float], int, dict[tuple[str, str], tuple[int, int, int, int]]]:
    """Last seen, number of events, and per worker: highest number, events, notices, malformed lines."""
    latest: dict[str, float] = {}
    numbers = {}
    total = 0
    for worker, lines in delivery.files.items():
        highest, events, notices, malformed = -1, 0, 0, 0
        for one in lines:
            if is_notice(one):
                notices += 1
                continue
            try:
                event = parse_line(one)
            except MalformedLine:
                malformed += 1
                continue
            highest, events = max(highest, event.number), events + 1
            if event.is_use:
                second = (event.at - NOON_MICROS) / 1e6
                latest[event.client_id] = max(second, latest.get(event.client_id, second))
        numbers[worker] = (highest, events, notices, malformed)
        total += events
    return latest, total, numbers


@settings(max_examples=80, deadline=None)
@given(deliveries())
def test_any_split_repetition_and_order_of_batches_gives_the_same(delivery: Delivery) -> None:
    with tempfile.TemporaryDirectory() as folder:
        telemetry = Telemetry(Path(folder))
        for step in delivery.steps:
            if step is None:
                telemetry.consume()
            else:
                telemetry.take(step, now=later(200))
        telemetry.consume()
        latest, total, numbers = expected(delivery)
        assert telemetry.last_seen() == latest
        assert telemetry.rows("SELECT coalesce(sum(events), 0) FROM rollups") == [(total,)]
        assert telemetry.rows("SELECT coalesce(sum(events), 0) FROM event_blocks") == [(total,)]
        rows = telemetry.rows("SELECT edge_id, worker, highest, events, notices, malformed FROM worker_numbers")
        assert {(row[0], row[1]): row[2:] for row in rows} == numbers
        assert telemetry.rows("SELECT * FROM spool_gaps") == []
        telemetry.close()


@settings(max_examples=40, deadline=None)
@given(deliveries(), st.data())
def test_last_seen_only_ever_grows(delivery: Delivery, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        telemetry = Telemetry(Path(folder))
        before: dict[object, object] = {}
        for step in delivery.steps:
            if step is not None:
                telemetry.take(step, now=later(data.draw(st.integers(0, 300))))
            telemetry.consume()
            after = telemetry.last_seen()
            assert all(key in after and after[key] >= seen for key, seen in before.items())  # type: ignore[operator]
            before = after
        telemetry.close()
