"""When a child that died is started again, and when the supervisor gives up. Pure: the caller brings the time."""

from __future__ import annotations

from dataclasses import dataclass

# The promise of `foregate up`: it never gives up below this many deaths of one child within a minute.
MOST_DEATHS = 10
WINDOW_SECONDS = 60.0
# The first restart is at once, so that one crash costs no more than a start. From then on the pause doubles, to
# this: ten deaths still fit into a minute, so a child that cannot live is given up and not restarted for ever.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the child again after this pause."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The child died this often within the window."""

    deaths: int


def recent(deaths: tuple[float, ...], now: float) -> tuple[float, ...]:
    """The deaths (monotonic seconds) that still count at `now`."""
    return tuple(at for at in deaths if at > now - WINDOW_SECONDS)


def decide(deaths: tuple[float, ...], now: float) -> Restart | GiveUp:
    """What to do after the last of `deaths` (monotonic seconds, at least one)."""
    count = len(recent(deaths, now))
    if count >= MOST_DEATHS:
        return GiveUp(count)
    if count <= 1:
        return Restart(0.0)
    return Restart(min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (count - 2)))
