"""Strikes at the processes of a `Fleet`, drawn by a seed: killed, paused or ended, the database's server too; and how
long it took until all was well by itself."""

from __future__ import annotations

import random
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum

from harness.changes import change_something, revoke_meanwhile
from harness.fleet import TOKENS, Fleet
from harness.invariants import IN_FLIGHT_SECONDS, see_last_seen
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
_SHARE_OF_PAIRS = 0.35
_WEIGHT_OF_SERVER = 3


class Blow(Enum):
    """What is done to a process."""

    KILL = "kill -9"
    PAUSE = "pause"
    END = "end"


@dataclass(frozen=True, slots=True)
class Strike:
    """Who was struck at once, and how. `healed_seconds`: until all was well, without the time in which nothing had a
    core, which is `without_core_seconds`, and without the pause itself."""

    blows: dict[str, Blow]
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
        """Strike every one at least once, then one or two at random, until the time is over or nobody may be struck any
        more."""
        ends_at = time.monotonic() + seconds
        order = [*self.fleet.names, *([SERVER] if self.fleet.server else [])]
        everyone = tuple(order)
        self.chance.shuffle(order)
        while time.monotonic() < ends_at:
            spared = [name for name in everyone if self._may_die(name)]
            if not order and not spared:
                break
            # Of everything that writes there is one server.
            spared += [SERVER] * (_WEIGHT_OF_SERVER - 1) * spared.count(SERVER)
            victims = [order.pop()] if order else self._draw(spared)
            self.strike({victim: self.chance.choice(self.blows) for victim in victims})

    def strike(self, blows: dict[str, Blow]) -> None:
        """One strike, a change meanwhile where the control plane is well, and one afterwards."""
        fleet = self.fleet
        self.current = " and ".join(f"{blow.value} of {victim}" for victim, blow in blows.items())
        waited = waited_seconds(fleet.foregate.home)
        begun_at = time.monotonic()
        self._deaths.extend((begun_at, victim) for victim in blows)
        hits = [self._hit(victim, blow) for victim, blow in blows.items()]
        seen_by_all = self._change_meanwhile(blows)
        if Blow.PAUSE in blows.values():
            time.sleep(self.chance.uniform(*_PAUSES_SECONDS))
        for hit in hits:
            hit.go_on()
        # What was killed or ended heals from then on; after a pause, or once the server is there again, from now on.
        healing_from = begun_at if all(hit.dead for hit in hits) else time.monotonic()
        dead = [hit.dead.pid for hit in hits if hit.dead]
        what = f"all is well after {self.current}"
        until(lambda: is_well(fleet, healing_from, dead), LONGEST_SECONDS, what, every=0.05)
        self._note_troubles(blows, begun_at, healing_from)
        seconds, without_core = healed_in(fleet, blows, healing_from, waited)
        allowed = max(allowed_seconds(fleet, victim) for victim in blows)
        assert seconds <= allowed, f"{self.current}: {seconds:.1f} s, and {without_core:.1f} s more without a core"
        seen_by_all()
        change = change_something(fleet, self.chance)
        see_last_seen(fleet)
        self.strikes.append(Strike(dict(blows), round(seconds, 2), round(without_core, 2), change))

    def _draw(self, spared: Sequence[str]) -> list[str]:
        """One, or at times two at once; what starts or carries the others is struck alone."""
        first = self.chance.choice(spared)
        others = [name for name in spared if name not in (first, "up", SERVER)]
        if first in ("up", SERVER) or not others or self.chance.random() > _SHARE_OF_PAIRS:
            return [first]
        return [first, self.chance.choice(others)]

    def _may_die(self, name: str) -> bool:
        while self._deaths and self._deaths[0][0] < time.monotonic() - _WITHIN_SECONDS:
            self._deaths.popleft()
        return sum(1 for _, victim in self._deaths if victim == name) < _MOST_DEATHS

    def _hit(self, victim: str, blow: Blow) -> Hit:
        if victim == SERVER:
            return _hit_server(self.fleet, blow, self.chance)
        processes = self.fleet.processes(victim)
        assert processes, f"{victim} was not running"
        process = self.chance.choice(processes)
        kill(process, {Blow.KILL: signal.SIGKILL, Blow.PAUSE: signal.SIGSTOP, Blow.END: signal.SIGTERM}[blow])
        if blow is Blow.PAUSE:
            return Hit(go_on=lambda: kill(process, signal.SIGCONT))
        if victim != "up":
            return Hit(process)
        assert self.fleet.foregate.supervisor is not None
        self.fleet.foregate.supervisor.wait(LONGEST_SECONDS)
        return Hit(process, self.fleet.foregate.start)

    def _change_meanwhile(self, blows: dict[str, Blow]) -> Callable[[], None]:
        """A token goes, which the edges that were not struck follow at once. What is to be looked at once all is well.

        None goes where nobody may be there to take it, and none while a process that writes is paused: it may stand in
        the middle of a transaction, for which every other writer waits.
        """
        fleet = self.fleet
        kinds = {victim.partition("-")[0] for victim in blows}
        has_api = "api" not in kinds or ("api-2" in fleet.names and not {"api", "api-2"} <= blows.keys())
        has_writer_paused = any(
            blow is Blow.PAUSE and victim.startswith(("api", "worker")) for victim, blow in blows.items()
        )
        struck = [edge for victim in blows for edge in fleet.edges_of(victim)]
        unstruck = [edge for edge in fleet.edges if edge not in struck]
        if kinds & {"up", SERVER} or not has_api or has_writer_paused or not unstruck:
            return _nothing
        return revoke_meanwhile(fleet, unstruck)

    def _note_troubles(self, blows: dict[str, Blow], begun_at: float, healing_from: float) -> None:
        """Whose clients may have noticed, and which HAProxy may have died with answers on their way."""
        now = time.monotonic()
        for victim, blow in blows.items():
            for edge in self.fleet.edges_of(victim):
                edge.troubles.append((begun_at, max(healing_from + HEALED_SECONDS, now)))
                if victim.startswith("haproxy"):
                    # Whoever looks after a paused one may find that it cannot be told of changes, and end it.
                    edge.deaths.append((begun_at, now if blow is Blow.PAUSE else begun_at + IN_FLIGHT_SECONDS))


def _nothing() -> None:
    """Nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What one process has met: who is `dead`, and what lets it, or everything, `go_on`."""

    dead: Process | None = None
    go_on: Callable[[], None] = _nothing


def _hit_server(fleet: Fleet, blow: Blow, chance: random.Random) -> Hit:
    """The database's server crashes, stands still, or is ended; then it is there again."""
    server = fleet.server
    assert server is not None
    if blow is Blow.PAUSE:
        server.signal(signal.SIGSTOP)
        return Hit(go_on=lambda: server.signal(signal.SIGCONT))
    server.stop(signal.SIGKILL if blow is Blow.KILL else signal.SIGINT)
    time.sleep(chance.uniform(0.0, 2.0))
    return Hit(go_on=server.start)


def is_well(fleet: Fleet, since: float, dead: Sequence[int]) -> bool:
    """All processes are there, without the `dead`, which may take a while to go; the API answers, and at every edge a
    request begun after `since` went through."""
    for name in fleet.names:
        assert any(process.pid not in dead for process in fleet.processes(name)), f"{name} is not there"
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


def healed_in(
    fleet: Fleet, victims: Collection[str], since: float, waited: dict[Process, float]
) -> tuple[float, float]:
    """Seconds since then, less those that one process has waited for a core, the one that waited longest; and these.

    The workers give way to all others: one counts where it was the victim.
    """
    took = time.monotonic() - since
    now = {
        one: seconds
        for one, seconds in waited_seconds(fleet.foregate.home).items()
        if one.instance in victims or one.name in ("api", "edge")
    }
    without_core = max((seconds - waited.get(one, 0.0) for one, seconds in now.items()), default=0.0)
    return took - without_core, without_core
