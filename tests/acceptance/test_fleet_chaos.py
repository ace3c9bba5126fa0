"""Three edges, two workers, two API processes under load, on each database: any of them, its supervisor and the
database's server is killed, paused or ended at any time. The invariants hold, and all heals by itself.

TEST_SEED draws another order, and replays one; TEST_FLEET_CHAOS_SECONDS makes it longer. `make chaos` is the long form.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from harness.fleet import Fleet, running_many, under_load
from harness.invariants import check_all
from harness.origin import running_origin
from harness.postgresql import ENGINES, running_postgresql
from harness.strikes import Striker

SECONDS = float(os.environ.get("TEST_FLEET_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("TEST_SEED", "1"))
CONNECTIONS = 3
# 3 connections to each of 3 edges at this pause make some 250 requests a second.
PAUSE_SECONDS = 0.03


@pytest.fixture(params=ENGINES)
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    with running_origin() as origin:
        origin.is_recording = False
        if request.param == "sqlite":
            with running_many(origin, None) as made:
                yield made
            return
        # A server of its own: it is struck too.
        with running_postgresql() as server, pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSWORD", server.password)
            with running_many(origin, server) as made:
                yield made


def test_whoever_is_struck_the_invariants_hold(fleet: Fleet) -> None:
    print(f"replay with TEST_SEED={SEED}")
    striker = Striker(fleet, random.Random(SEED))
    arrived_before = fleet.origin.count
    with under_load(fleet, connections=CONNECTIONS, pause_seconds=PAUSE_SECONDS, seed=SEED):
        striker.run(SECONDS)
    print(*striker.strikes, sep="\n")
    print(check_all(fleet, fleet.origin.count - arrived_before))
