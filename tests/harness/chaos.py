"""`make chaos`: strikes at a Foregate of several processes each for minutes, by several seeds, on each database.

CHAOS_MINUTES (10), CHAOS_SEEDS (1 2 3) and CHAOS_DATABASES (sqlite postgresql) say how long and which; the minutes are
shared out between the runs. What came of it is kept in build/chaos, also what failed, and what the processes had said.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.chaos_report import Run, table, write
from harness.fleet import Fleet, running_many, under_load
from harness.invariants import Figures, check_all
from harness.origin import running_origin
from harness.postgresql import ENGINES, running_postgresql
from harness.strikes import Blow, Striker

FOLDER = Path(__file__).parents[2] / "build" / "chaos"


@dataclass(slots=True)
class Chaos:
    """One run on a fleet. What happened can be read at any time, also after a failure."""

    fleet: Fleet
    seed: int
    connections: int = 3
    # 3 connections to each of 3 edges at this pause make some 250 requests a second.
    pause_seconds: float = 0.03
    blows: Sequence[Blow] = tuple(Blow)
    striker: Striker = field(init=False)

    def __post_init__(self) -> None:
        self.striker = Striker(self.fleet, random.Random(self.seed), self.blows)

    def run(self, seconds: float) -> Figures:
        """Strike under load for so long, then look whether all holds. AssertionError where it does not."""
        arrived_before = self.fleet.origin.count
        with under_load(self.fleet, connections=self.connections, pause_seconds=self.pause_seconds, seed=self.seed):
            self.striker.run(seconds)
        return check_all(self.fleet, self.fleet.origin.count - arrived_before)


@contextmanager
def fleet_on(engine: str) -> Iterator[Fleet]:
    """Several of a kind on this database; a server is one of its own, as it is struck too."""
    with running_origin() as origin, pytest.MonkeyPatch.context() as patch:
        origin.is_recording = False
        if engine == "sqlite":
            with running_many(origin, None) as fleet:
                yield fleet
            return
        with running_postgresql() as server:
            patch.setenv("PGPASSWORD", server.password)
            with running_many(origin, server) as fleet:
                yield fleet


def main() -> int:
    """All runs, one after the other; 1 where one has failed."""
    seeds = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1 2 3").split()]
    engines = os.environ.get("CHAOS_DATABASES", " ".join(ENGINES)).split()
    seconds = float(os.environ.get("CHAOS_MINUTES", "10")) * 60 / (len(seeds) * len(engines))
    runs: list[Run] = []
    shutil.rmtree(FOLDER, ignore_errors=True)  # of an earlier result no log may lie beside this one
    for seed in seeds:
        for engine in engines:
            print(f"chaos: seed {seed} on {engine}, {seconds:.0f} s ...", file=sys.stderr, flush=True)
            runs.append(_run(engine, seed, seconds))
            write(FOLDER, runs)  # after each: what is cut off leaves what it found
    print(table(runs))
    print(f"written to {FOLDER}")
    return int(any(run.failure for run in runs))


def _run(engine: str, seed: int, seconds: float) -> Run:
    run, begun_at = Run(engine, seed), time.monotonic()
    try:
        with fleet_on(engine) as fleet:
            chaos = Chaos(fleet, seed)
            try:
                run.figures = chaos.run(seconds)
            except BaseException:
                run.at = chaos.striker.current
                _keep_logs(fleet, f"{engine}-{seed}")
                raise
            finally:
                run.strikes = list(chaos.striker.strikes)
    except pytest.skip.Exception as error:
        run.failure = f"was not run: {error}"
    except Exception as error:  # the next seed is tried all the same
        run.failure = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    run.took_seconds = round(time.monotonic() - begun_at)
    return run


def _keep_logs(fleet: Fleet, name: str) -> None:
    """What all processes have said. No secret is in it: that is an invariant."""
    home, into = fleet.foregate.home, FOLDER / name
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    shutil.copy(fleet.foregate.output, into / "up.out")
    for path in home.rglob("logs/*"):
        shutil.copy(path, into / str(path.relative_to(home)).replace("/", "-"))


if __name__ == "__main__":
    sys.exit(main())
