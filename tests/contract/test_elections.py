"""One process at a time, on every database: a seat goes on when its holder goes, and who has lost it writes nothing."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import text

from foregate.database.elections import Seat, Unseated
from foregate.database.engine import Database
from foregate.database.stores import Stores
from foregate.database.telemetry_schema import INGEST
from harness.waiting import until


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Process:
    """What one process does for its seat."""

    database: Database
    seat: Seat

    def stand(self) -> bool:
        if self.seat.try_lock():
            with self.database.write() as connection:
                self.seat.stand(connection)
        return self.seat.is_held

    def answer(self) -> None:
        with self.database.write() as connection:
            if self.seat.look(connection):
                self.seat.answer(connection)

    def write(self, at: int) -> None:
        """A write that only the holder may make."""
        with self.database.write() as connection:
            self.seat.require(connection)
            connection.execute(text("INSERT INTO edge_progress VALUES ('edge', :at, 1)"), {"at": at})


@dataclass(slots=True)
class World:
    stores: Stores
    time: Time = field(default_factory=Time)
    opened: list[Database] = field(default_factory=list)

    def process(self, name: str = "publisher") -> Process:
        database = self.stores.telemetry.open(INGEST)
        self.opened.append(database)
        return Process(database, Seat(name, database, monotonic=self.time))

    def written(self) -> list[int]:
        with self.opened[0].read() as connection:
            return [at for (at,) in connection.execute(text("SELECT applied_seq FROM edge_progress ORDER BY 1"))]


@pytest.fixture
def world(stores: Stores) -> Iterator[World]:
    made = World(stores)
    yield made
    for database in made.opened:
        database.close()


def test_one_of_two_holds_the_seat(world: World) -> None:
    first, second = world.process(), world.process()
    assert first.stand()
    assert not second.stand()
    first.write(1)
    with pytest.raises(Unseated):
        second.write(2)
    assert world.written() == [1]


def test_other_seats_are_others(world: World) -> None:
    assert world.process("publisher").stand()
    assert world.process("consumer/last-seen").stand()


def test_seat_that_is_left_is_taken_at_once(world: World) -> None:
    first, second = world.process(), world.process()
    assert first.stand()
    first.seat.resign()
    assert second.stand()
    with pytest.raises(Unseated):
        first.write(1)


def test_holder_that_answers_keeps_its_seat_for_ever(world: World) -> None:
    first, second = world.process(), world.process()
    assert first.stand()
    for _ in range(30):
        assert not second.stand()
        first.answer()
        world.time.now += 1
    first.write(1)


def test_holder_that_sleeps_loses_its_seat_and_writes_nothing_when_it_wakes(world: World) -> None:
    asleep, second = world.process(), world.process()
    assert asleep.stand()
    for _ in range(4):
        assert not second.stand()
        world.time.now += 1
    assert second.stand()
    second.write(1)
    with pytest.raises(Unseated):
        asleep.write(2)
    assert world.written() == [1]
    with asleep.database.read() as connection:
        assert not asleep.seat.look(connection)
    assert not asleep.seat.is_held


def test_third_does_not_take_the_seat_of_one_who_has_just_got_it(world: World) -> None:
    asleep, second, third = world.process(), world.process(), world.process()
    assert asleep.stand()
    for _ in range(5):
        third.stand()
        second.stand()
        world.time.now += 1
    assert [second.stand(), third.stand()].count(True) == 1


def test_epochs_only_grow(world: World) -> None:
    for _ in range(3):
        process = world.process()
        assert process.stand()
        process.seat.resign()
    with world.opened[0].read() as connection:
        assert connection.execute(text("SELECT epoch FROM leases")).scalar_one() == 3


def test_many_that_stand_at_once_elect_one(world: World) -> None:
    processes = [world.process() for _ in range(6)]
    threads = [threading.Thread(target=process.stand) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.seat.is_held for process in processes].count(True) == 1


def test_seat_of_a_killed_process_is_free(world: World) -> None:
    program = (
        "import pickle, sys, time\n"
        "from foregate.database.elections import Seat\n"
        "from foregate.database.telemetry_schema import INGEST\n"
        "database = pickle.load(sys.stdin.buffer).open(INGEST)\n"
        "seat = Seat('publisher', database)\n"
        "assert seat.try_lock()\n"
        "with database.write() as connection: seat.stand(connection)\n"
        "print('seated', flush=True)\n"
        "time.sleep(60)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert killed.stdin and killed.stdout
    killed.stdin.write(pickle.dumps(world.stores.telemetry))
    killed.stdin.close()
    assert b"seated\n" in iter(killed.stdout.readline, b"")
    process = world.process()
    assert not process.stand()
    killed.kill()
    killed.wait()
    until(process.stand, 5, "the seat is taken")
