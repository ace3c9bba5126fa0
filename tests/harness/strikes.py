"""Strikes at the processes of a `Fleet`, drawn by a seed: killed, paused or ended, the database's server too; and how
long it took until all was well by itself."""

from __future__ import annotations

import random
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from harness.changes import change_something, revoke_meanwhile
from harness.fleet import TOKENS, Fleet
from harness.invariants import see_last_seen
from harness.processes import Process, kill, waited_seconds
from harness.waiting import until

SERVER = "postgresql"
# A child that is killed is there again in this time, and all that hangs on it; with several of a kind on two cores, and
# a whole home or the database's server, more has to start.
HEALED_SECONDS = 5.0
HEALED_SECONDS_OF_MANY = 15.0
TAKEN_OVER_SECONDS = 20.0
TAKEN_OVER_SECONDS_OF_MANY = 40.0
LONGEST_SECONDS = 60.0
# The supervisor gives up, as it should, on a child that dies ten times within a minute.
_MOST_DEATHS = 7
_WITHIN_SECONDS = 60.0
_PAUSES_SECONDS = (0.5, 4.0)


class Blow(Enum):
    """What is done to a process."""

    KILL = "kill -9"
    PAUSE = "pause"
    END = "end"


@dataclass(frozen=True, slots=True)
class Strike:
    """One of them. `healed_seconds`: until all was well, without the time in which nothing had a core, which is
    `without_core_seconds`, and without the pause itself."""

    victim: str
    blow: Blow
    healed_seconds: float
    without_core_seconds: float
    change: str


@dataclass(slots=True)
class Striker:
    """Draws and strikes. `strikes`: all that were survived; `current`: the one that is being looked at."""

    fleet: Fleet
    chance: random.Random
    blows: Sequence[Blow] = tuple(Blow)
    strikes: list[Strike] = field(default_factory=list)
    current: str = ""
    _deaths: deque[tuple[float, str]] = field(default_factory=deque)

    def run(self, seconds: float) -> None:
        """Strike every one at least once, then at random until the time is over or nobody may be struck any more."""
        ends_at = time.monotonic() + seconds
        order = [*self.fleet.names, *([SERVER] if self.fleet.server else [])]
        everyone = tuple(order)
        self.chance.shuffle(order)
        while time.monotonic() < ends_at:
            spared = [name for name in everyone if self._may_die(name)]
            if not order and not spared:
                break
            self.strike(order.pop() if order else self.chance.choice(spared), self.chance.choice(self.blows))

    def strike(self, victim: str, blow: Blow) -> None:
        """One strike, a change meanwhile where the control plane is well, and one afterwards."""
        fleet = self.fleet
        self.current = f"{blow.value} of {victim}"
        struck = fleet.edges_of(victim)
        waited = waited_seconds(fleet.foregate.home)
        begun_at = time.monotonic()
        self._deaths.append((begun_at, victim))
        after = _strike_server(fleet, blow, self.chance) if victim == SERVER else self._strike_process(victim, blow)
        struck_at = after.healing_from
        until(
            lambda: is_well(fleet, struck_at, after.dead),
            LONGEST_SECONDS,
            f"all is well after {self.current}",
            every=0.05,
        )
        now = time.monotonic()
        for edge in struck:
            edge.troubles.append((begun_at, max(struck_at + HEALED_SECONDS, now)))
            if victim.startswith("haproxy"):
                # Whoever looks after a paused one may find that it cannot be told of changes, and end it.
                edge.deaths.append((begun_at, now if blow is Blow.PAUSE else begun_at))
        seconds, without_core = healed_in(fleet, victim, struck_at, waited)
        allowed = allowed_seconds(fleet, victim)
        assert seconds <= allowed, f"{self.current}: {seconds:.1f} s, and {without_core:.1f} s more without a core"
        after.seen_by_all()
        change = change_something(fleet, self.chance)
        see_last_seen(fleet)
        self.strikes.append(Strike(victim, blow, round(seconds, 2), round(without_core, 2), change))

    def _may_die(self, name: str) -> bool:
        while self._deaths and self._deaths[0][0] < time.monotonic() - _WITHIN_SECONDS:
            self._deaths.popleft()
        return sum(1 for _, victim in self._deaths if victim == name) < _MOST_DEATHS

    def _strike_process(self, victim: str, blow: Blow) -> After:
        fleet = self.fleet
        processes = fleet.processes(victim)
        assert processes, f"{victim} was not running"
        process = self.chance.choice(processes)
        number = {Blow.KILL: signal.SIGKILL, Blow.PAUSE: signal.SIGSTOP, Blow.END: signal.SIGTERM}[blow]
        begun_at = time.monotonic()
        kill(process, number)
        if victim == "up" and blow is not Blow.PAUSE:
            assert fleet.foregate.supervisor is not None
            fleet.foregate.supervisor.wait(LONGEST_SECONDS)
            fleet.foregate.start()
            return After(begun_at, process)
        # A paused API process may be the one that publishes: nobody may take that from it while it lives.
        is_api = victim.startswith("api")
        unstruck = [edge for edge in fleet.edges if edge not in fleet.edges_of(victim)]
        seen_by_all = _nothing if is_api or not unstruck else revoke_meanwhile(fleet, unstruck)
        if blow is not Blow.PAUSE:
            return After(begun_at, process, seen_by_all)
        time.sleep(self.chance.uniform(*_PAUSES_SECONDS))
        kill(process, signal.SIGCONT)
        return After(time.monotonic(), None, seen_by_all)


def _nothing() -> None:
    """Nothing was changed meanwhile."""


@dataclass(frozen=True, slots=True)
class After:
    """What follows a strike: since when it may heal, who is dead, and what is to be looked at once all is well."""

    healing_from: float
    dead: Process | None = None
    seen_by_all: Callable[[], None] = _nothing


def _strike_server(fleet: Fleet, blow: Blow, chance: random.Random) -> After:
    """The database's server crashes, stands still, or is restarted."""
    server = fleet.server
    assert server is not None
    if blow is Blow.PAUSE:
        server.signal(signal.SIGSTOP)
        time.sleep(chance.uniform(*_PAUSES_SECONDS))
        server.signal(signal.SIGCONT)
    else:
        server.stop(signal.SIGKILL if blow is Blow.KILL else signal.SIGINT)
        time.sleep(chance.uniform(0.0, 2.0))
        server.start()
    return After(time.monotonic())


def is_well(fleet: Fleet, since: float, dead: Process | None) -> bool:
    """All processes are there, without the `dead` one, which may take a while to go; the API answers, and at every edge
    a request begun after `since` went through."""
    for name in fleet.names:
        found = fleet.processes(name)
        assert any(dead is None or process.pid != dead.pid for process in found), f"{name} is not there"
    assert fleet.foregate.api().account("GET", f"{TOKENS}?per_page=1").status == 200, "the API does not answer"
    for edge in fleet.edges:
        assert 200 in edge.load.statuses("good", since), f"edge {edge.number} lets nobody in"
    return True


def allowed_seconds(fleet: Fleet, victim: str) -> float:
    """How long it may take until all is well."""
    is_one = len(fleet.edges) == 1
    if victim == "up":
        return TAKEN_OVER_SECONDS if is_one else TAKEN_OVER_SECONDS_OF_MANY
    return HEALED_SECONDS if is_one else HEALED_SECONDS_OF_MANY


def healed_in(fleet: Fleet, victim: str, since: float, waited: dict[Process, float]) -> tuple[float, float]:
    """Seconds since then, less those that one process has waited for a core, the one that waited longest; and these.

    The workers give way to all others: one counts where it was the victim.
    """
    took = time.monotonic() - since
    now = {
        one: seconds
        for one, seconds in waited_seconds(fleet.foregate.home).items()
        if one.instance == victim or one.name in ("api", "edge")
    }
    without_core = max((seconds - waited.get(one, 0.0) for one, seconds in now.items()), default=0.0)
    return took - without_core, without_core
