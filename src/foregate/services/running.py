"""The settings of what runs in a home, for commands in another terminal: `foregate up` may have got its ports from an
environment that they do not have.

Whoever serves writes its addresses into its lock, so they are as true as the lock. The caller's own environment goes
before them, as it says which Foregate is meant; where the two differ, that is said. The home's file does not: it is
read at a start, and what runs may have started before it was changed, or with an environment of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from foregate.services.holder import find_holder
from foregate.services.home import Home
from foregate.services.process import lock_path
from foregate.services.settings import ADDRESSES, Settings, addresses, load


def load_running(warn: Callable[[str], None], environment: Mapping[str, str] | None = None) -> Settings:
    """The settings for a client of this home: what runs, else what would. `warn` gets a sentence where they differ.

    Raises ForegateError(INVALID_INPUT) as `load` does.
    """
    given = dict(os.environ if environment is None else environment)
    own = load(given)
    told = _told(Home(own.home))
    if not told:
        return own
    used = load({**told, **given})
    at_work, wanted = addresses(load({**given, **told})), addresses(used)
    for name in ADDRESSES:
        if at_work[name] != wanted[name]:
            warn(f"{name} is {wanted[name]} here, and {at_work[name]} for the Foregate that runs in {own.home}.")
    return used


def _told(home: Home) -> dict[str, str]:
    """Of several processes that run alone, the API's word is taken, as most commands talk to it."""
    for name in ("up", "api", "edge"):
        holder = find_holder(lock_path(home, name))
        if holder is not None:
            return {variable: value for variable, value in holder.addresses.items() if variable in ADDRESSES}
    return {}
