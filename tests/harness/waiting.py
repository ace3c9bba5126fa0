"""Waiting for a condition with a deadline: the only way tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float, what: str, *, every: float = 0.01) -> T:
    """The first true result of `condition`, asked again and again; AssertionError naming `what` at the deadline.

    An AssertionError or OSError inside `condition` counts as not yet, and the last one is shown at the deadline.
    """
    ends = time.monotonic() + seconds
    last: BaseException | None = None
    while True:
        try:
            if found := condition():
                return found
            last = None
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds} s: {what}") from last
        time.sleep(every)
