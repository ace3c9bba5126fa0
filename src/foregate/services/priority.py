"""Who comes first where cores are short: requests, which HAProxy alone serves, then what tells and shows of them.

Called once at the start of the API, the worker and the agent, before they have threads.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# A third of the weight of what is not nice. With 10 and more, and others at work on the same cores, changes and "last
# seen" took longer than they may (docs/operations/speed.md).
_NICENESS = 5


def give_way(*, has_engine_below: bool = False) -> None:
    """Leave the cores to requests, and to the machine's other work, where there are not enough for all.

    Linux weighs sessions against each other where it groups by them (sched(7), "The autogroup feature"), and threads
    within a session, a container or a service. The first is set only where the session is this process's own.
    `has_engine_below`: this process starts HAProxy, which takes a session of its own but would inherit this thread's
    niceness, and could not put it down without privileges; so the thread keeps what it has.
    """
    if not has_engine_below:
        os.nice(_NICENESS)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # no such feature, or not ours to set
            Path("/proc/self/autogroup").write_text(str(_NICENESS))
