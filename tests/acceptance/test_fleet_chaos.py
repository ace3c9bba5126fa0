"""Three edges, two workers, two API processes under load, on each database: any of them, its supervisor and the
database's server is killed, paused or ended at any time. The invariants hold, and all heals by itself.

TEST_SEED draws another order, and replays one; TEST_FLEET_CHAOS_SECONDS makes it longer. `make chaos` is the long form.
"""

from __future__ import annotations

import os

import pytest

from harness.chaos import Chaos, fleet_on
from harness.postgresql import ENGINES

SECONDS = float(os.environ.get("TEST_FLEET_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("TEST_SEED", "1"))


@pytest.mark.parametrize("engine", ENGINES)
def test_whoever_is_struck_the_invariants_hold(engine: str) -> None:
    print(f"replay with TEST_SEED={SEED}")
    with fleet_on(engine) as fleet:
        chaos = Chaos(fleet, SEED)
        try:
            print(chaos.run(SECONDS))
        finally:
            print(*chaos.striker.strikes, f"last: {chaos.striker.current}", sep="\n")
