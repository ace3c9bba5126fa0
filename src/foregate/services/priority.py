"""Who comes first where cores are short: requests and changes, then what is made of events.

Called once at the start of the worker, before it has threads. The API and the agent take no second place: on a busy
machine changes took up to twice as long so, and half as many tokens were made (docs/operations/speed.md). Their
one heavy work, packing events, has a thread of low priority (`edge/shipping.py`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# A third of the weight of what is not nice: some 12 % of two cores that five others want whole. Folding at full load
# takes 9 %; with 10 it would get 4 %, and "last seen" would fall behind for as long as the load lasts.
_NICENESS = 5


def give_way() -> None:
    """Leave the cores to requests, and to the machine's other work, where there are not enough for all.

    Linux weighs sessions against each other where it groups by them (sched(7), "The autogroup feature"), and threads
    within a session, a container or a service. The first is set only where the session is this process's own.
    """
    os.nice(_NICENESS)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # no such feature, or not ours to set
            Path("/proc/self/autogroup").write_text(str(_NICENESS))
