"""What is left of an edge that its control plane has expelled: a sentence, and the events that it could not send.

Its keys and secrets go from the disk, and it does not serve again, also after a restart.
"""

from __future__ import annotations

from contextlib import suppress

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import write_private
from foregate.edge.membership import read_membership
from foregate.services.home import Home


def note_expulsion(home: Home) -> str:
    """Remember that this home's edge is expelled, and forget what it kept in secret. The sentence for people."""
    name = "this edge"
    with suppress(ForegateError):
        membership = read_membership(home.membership)
        name = membership.name if membership is not None else name
    sentence = (
        f"The control plane has expelled {name}, so it does not serve any more. To have this machine serve again, join "
        "anew in another home (FOREGATE_HOME) with a new join token."
    )
    write_private(home.expulsion, f"{sentence}\n".encode())
    for path in (home.membership, home.joining, home.edge / "secrets.sealed"):
        path.unlink(missing_ok=True)
    return sentence


def require_not_expelled(home: Home) -> None:
    """ForegateError(UNAVAILABLE) with that sentence where this home's edge is expelled."""
    try:
        raise ForegateError(ErrorCode.UNAVAILABLE, home.expulsion.read_text().strip())
    except FileNotFoundError:
        return
