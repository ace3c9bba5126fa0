"""What keeps failing in a worker, for whoever looks from outside: which consumer or chore, since when, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """`name` has failed, try after try, since `since` (microseconds), last for `reason`, which quotes no record."""

    name: str
    reason: str
    since: int


Tell = Callable[[tuple[Trouble, ...]], None]
"""Called with all troubles when they have changed."""


class Troubles:
    """The troubles of one worker, by name. Safe between threads."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._known: dict[str, Trouble] = {}
        self._lock = threading.Lock()

    def failed(self, name: str, reason: str, now: int) -> None:
        """`name` has failed at `now` (microseconds), and is going to be tried again."""
        with self._lock:
            known = self._known.get(name)
            self._know({**self._known, name: Trouble(name, reason, known.since if known else now)})

    def worked(self, name: str) -> None:
        """What `name` had to do is done."""
        with self._lock:
            if name in self._known:
                self._know({other: trouble for other, trouble in self._known.items() if other != name})

    def _know(self, found: dict[str, Trouble]) -> None:
        if found != self._known:
            self._known = found
            self._tell(tuple(found.values()))
