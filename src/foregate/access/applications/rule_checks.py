"""What must be true in the database of a policy's or a group's conditions, asked inside the write's transaction."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from foregate.access.applications.groups_store import reachable_conditions
from foregate.access.applications.model import Conditions
from foregate.access.applications.references_store import existing_tokens
from foregate.access.applications.rules import require_expandable, require_known


def check_conditions(connection: Connection, account_id: str, wanted: Iterable[Conditions]) -> None:
    """Service tokens and groups that are named exist in the account, and groups stay within bounds once written out.

    Raises ForegateError(INVALID_INPUT) naming the id that is not there.
    """
    for conditions in wanted:
        tokens = existing_tokens(connection, account_id, conditions.token_ids)
        groups = reachable_conditions(connection, account_id, conditions.group_ids)
        require_known(conditions, tokens, frozenset(groups))
        require_expandable(conditions, groups)
