"""Everything that workers wrote arrives once, in order per worker, or is counted as lost."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foregate.edge.shipping import Batch, BatchRefused, ControlPlaneAway, Shipper
from foregate.edge.spool import open_for_worker, workers

Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Ingest:
    """A control plane that takes each byte once; `faults` happen before it answers, in order."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.final: set[str] = set()
        self.skipped = 0
        self.posts = 0
        self.faults: list[Exception | None] = []
        self.takes_then_fails = False

    async def post(self, batch: Batch) -> int:
        self.posts += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault and not self.takes_then_fails:
            raise fault
        lines = zlib.decompress(batch.body)
        assert not lines or lines.endswith(b"\n")
        assert len(lines) == batch.size_bytes
        taken = self.files.setdefault(batch.worker, bytearray())
        if batch.offset > len(taken):
            self.skipped += batch.offset - len(taken)
            taken.extend(b"\0" * (batch.offset - len(taken)))
        taken.extend(lines[len(taken) - batch.offset :])
        if batch.is_final:
            self.final.add(batch.worker)
        if fault:
            raise fault
        return len(taken)


@pytest.fixture
def ingest() -> Ingest:
    return Ingest()


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    opened: list[int] = []
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def line(index: int) -> bytes:
    return b'{"n":%d,"why":"service_auth"}\n' % index


def shipper(folder: Path, ingest: Ingest, max_bytes: int = 1 << 30) -> Shipper:
    return Shipper(folder, ingest.post, max_bytes=max_bytes, pause_seconds=0.01)


async def test_lines_arrive_in_order_and_the_file_of_a_gone_worker_goes(tmp_path: Path, ingest: Ingest) -> None:
    descriptor = open_for_worker(tmp_path, "w1")
    ships = shipper(tmp_path, ingest)
    os.write(descriptor, line(1) + line(2))
    await ships.flush()
    assert bytes(ingest.files["w1"]) == line(1) + line(2)
    assert ingest.final == set()

    os.write(descriptor, line(3))
    os.close(descriptor)
    await ships.flush()
    assert bytes(ingest.files["w1"]) == line(1) + line(2) + line(3)
    assert ingest.final == {"w1"}
    assert os.listdir(tmp_path) == []
    ships.close()


async def test_a_big_backlog_goes_in_batches_of_four_megabytes(
    tmp_path: Path, ingest: Ingest, descriptors: list[int]
) -> None:
    descriptors.append(open_for_worker(tmp_path, "w1"))
    content = b"".join(line(index) for index in range(400_000))
    os.write(descriptors[0], content)
    ships = shipper(tmp_path, ingest)
    await ships.flush()
    assert bytes(ingest.files["w1"]) == content
    assert ingest.posts == 1 + 4, "one question where to begin, and 13.2 MB in four batches"
    assert os.stat(tmp_path / "w1.events").st_blocks * 512 <= 8_192
    ships.close()


async def test_a_batch_that_is_too_long_for_the_link_is_followed_by_shorter_ones(
    tmp_path: Path, ingest: Ingest, descriptors: list[int]
) -> None:
    descriptors.append(open_for_worker(tmp_path, "w1"))
    content = b"".join(line(index) for index in range(100_000))
    os.write(descriptors[0], content)
    sizes: list[int] = []

    async def post(batch: Batch) -> int:
        sizes.append(batch.size_bytes)
        if batch.size_bytes > 500_000:
            raise ControlPlaneAway("no answer came in time")
        return await ingest.post(batch)

    ships = Shipper(tmp_path, post, max_bytes=1 << 30, pause_seconds=0.01)
    for _ in range(50):
        await ships.ship_once()
    assert bytes(ingest.files["w1"]) == content
    assert max(sizes) > 500_000 >= min(size for size in sizes if size) > 100_000
    ships.close()


async def test_nothing_new_means_nothing_sent(tmp_path: Path, ingest: Ingest, descriptors: list[int]) -> None:
    descriptors.append(open_for_worker(tmp_path, "w1"))
    os.write(descriptors[0], line(1))
    ships = shipper(tmp_path, ingest)
    await ships.flush()
    before = ingest.posts
    for _ in range(5):
        assert await ships.ship_once() == (False, False)
    assert ingest.posts == before
    ships.close()


async def test_the_spool_waits_while_the_control_plane_is_away(
    tmp_path: Path, ingest: Ingest, descriptors: list[int], until: Until
) -> None:
    descriptors.append(open_for_worker(tmp_path, "w1"))
    os.write(descriptors[0], line(1))
    ingest.faults = [ControlPlaneAway("refused")] * 4
    ships = shipper(tmp_path, ingest)
    running = asyncio.create_task(ships.run())
    await until(lambda: ships.status.error == "refused")
    await until(lambda: "w1" in ingest.files and ships.status.error == "")
    assert bytes(ingest.files["w1"]) == line(1)
    running.cancel()


async def test_an_answer_that_is_lost_doubles_nothing(tmp_path: Path, ingest: Ingest, descriptors: list[int]) -> None:
    descriptors.append(open_for_worker(tmp_path, "w1"))
    os.write(descriptors[0], line(1) + line(2))
    ingest.takes_then_fails, ingest.faults = True, [None, ControlPlaneAway("the answer was lost")]
    ships = shipper(tmp_path, ingest)
    await ships.flush()
    os.write(descriptors[0], line(3))
    await ships.flush()
    assert bytes(ingest.files["w1"]) == line(1) + line(2) + line(3)
    ships.close()


async def test_a_restarted_agent_goes_on_where_the_control_plane_is(
    tmp_path: Path, ingest: Ingest, descriptors: list[int]
) -> None:
    descriptors.append(open_for_worker(tmp_path, "w1"))
    os.write(descriptors[0], line(1) + line(2))
    first = shipper(tmp_path, ingest)
    await first.flush()
    first.close()
    (tmp_path / "w1.ack").unlink()  # as after a power cut

    os.write(descriptors[0], line(3))
    second = shipper(tmp_path, ingest)
    await second.flush()
    assert bytes(ingest.files["w1"]) == line(1) + line(2) + line(3)
    assert ingest.skipped == 0
    second.close()


async def test_a_spool_over_its_bound_loses_the_oldest_lines_counted(
    tmp_path: Path, ingest: Ingest, descriptors: list[int]
) -> None:
    names = ["w1", "w2"]
    for name in names:
        descriptors.append(open_for_worker(tmp_path, name))
        os.write(descriptors[-1], b"".join(line(index) for index in range(1, 1_001)))
    size = sum(len(line(index)) for index in range(1, 1_001))
    ingest.faults = [ControlPlaneAway("away")] * 3
    ships = shipper(tmp_path, ingest, max_bytes=size // 2)
    await ships.flush()
    await ships.ship_once()
    await ships.ship_once()

    assert ships.status.lost_bytes >= size + size // 2
    arrived = bytes(ingest.files["w2"]).lstrip(b"\0")
    assert arrived.endswith(line(1_000))
    assert arrived.startswith(b'{"n":'), "the loss ends at a line's end"
    kept = arrived.count(b"\n")
    assert ships.status.lost_lines == 2_000 - kept
    assert len(arrived) <= size // 2
    ships.close()


async def test_a_batch_that_is_never_taken_is_given_up_counted(
    tmp_path: Path, ingest: Ingest, descriptors: list[int]
) -> None:
    descriptors.append(open_for_worker(tmp_path, "w1"))
    ships = shipper(tmp_path, ingest)
    await ships.flush()
    os.write(descriptors[0], line(1))
    ingest.faults = [BatchRefused("not whole lines")] * 3
    for _ in range(3):
        await ships.ship_once()
    os.write(descriptors[0], line(2))
    await ships.flush()
    assert ships.status.lost_lines == 1
    assert bytes(ingest.files["w1"]).endswith(line(2))
    ships.close()


async def test_a_last_line_without_an_end_is_counted_as_lost(tmp_path: Path, ingest: Ingest) -> None:
    descriptor = open_for_worker(tmp_path, "w1")
    os.write(descriptor, line(1) + b'{"n":2,"wh')
    os.close(descriptor)
    ships = shipper(tmp_path, ingest)
    await ships.flush()
    assert bytes(ingest.files["w1"]).rstrip(b"\0") == line(1)
    assert ships.status.lost_bytes == 10
    assert workers(tmp_path) == []
    assert ingest.final == {"w1"}
    ships.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.sampled_from(["write", "ship", "away", "lost answer", "restart agent", "restart worker"]), max_size=30
    )
)
async def test_every_line_arrives_once_whatever_dies(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder, ingest = tmp_path_factory.mktemp("spool"), Ingest()
    ships, wrote = shipper(folder, ingest), {"w0": b""}
    descriptor = open_for_worker(folder, "w0")
    for index, step in enumerate([*steps, "write"]):
        name = f"w{len(wrote) - 1}"
        match step:
            case "write":
                os.write(descriptor, line(index))
                wrote[name] += line(index)
            case "ship":
                await ships.flush()
            case "away" | "lost answer":
                ingest.takes_then_fails, ingest.faults = step == "lost answer", [ControlPlaneAway("away")]
                await ships.flush()
            case "restart agent":
                ships.close()
                ships = shipper(folder, ingest)
            case "restart worker":
                os.close(descriptor)
                wrote[f"w{len(wrote)}"] = b""
                descriptor = open_for_worker(folder, f"w{len(wrote) - 1}")
    os.close(descriptor)
    ingest.faults = []
    await ships.flush()
    ships.close()
    assert {name: bytes(content) for name, content in ingest.files.items()} == wrote
    assert ingest.final == set(wrote)
    assert ships.status.lost_bytes == 0
