"""Creating, changing and deleting groups in the caller's transaction. A change reaches every application concerned."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.applications import groups_store
from foregate.access.applications.bodies import GroupBody
from foregate.access.applications.model import Author
from foregate.access.applications.policies_store import find_policies
from foregate.access.applications.references_store import (
    applications_of_policies,
    existing_tokens,
    names_using_group,
    policies_of_group,
)
from foregate.access.applications.rule_checks import check_conditions
from foregate.access.applications.rules import group_draft, require_expandable, require_known, require_unused
from foregate.access.applications.views import group_view
from foregate.api.neutral import require_own
from foregate.database.journal import Change, record_change

Written = tuple[dict[str, Any], int | None]


def create_group(connection: Connection, author: Author, body: GroupBody) -> Written:
    """A new group; nobody names it yet."""
    _require_own(body, "")
    draft = group_draft(body)
    check_conditions(connection, author.account_id, [draft.conditions])
    group = groups_store.insert_group(connection, author.account_id, draft, author.at)
    view = group_view(group)
    return view, _record(connection, author, ("create", group.id), view, [])


def replace_group(connection: Connection, author: Author, group_id: str, body: GroupBody) -> Written:
    """Put `body` in the group's place, for every policy that names it straight or through other groups."""
    groups_store.get_group(connection, author.account_id, group_id)
    _require_own(body, group_id)
    draft = group_draft(body)
    groups = groups_store.conditions_of_groups(connection, author.account_id) | {group_id: draft.conditions}
    tokens = existing_tokens(connection, author.account_id, draft.conditions.token_ids)
    require_known(draft.conditions, tokens, frozenset(groups))
    require_expandable(draft.conditions, groups, group_id)
    concerned = policies_of_group(connection, group_id)
    for policy in find_policies(connection, author.account_id, concerned).values():
        require_expandable(policy.draft.conditions, groups)
    groups_store.update_group(connection, group_id, draft, author.at)
    view = group_view(groups_store.get_group(connection, author.account_id, group_id))
    return view, _record(
        connection, author, ("update", group_id), view, applications_of_policies(connection, concerned)
    )


def delete_group(connection: Connection, author: Author, group_id: str) -> int | None:
    """Delete a group that nobody names; ForegateError(IN_USE) names those that do."""
    groups_store.get_group(connection, author.account_id, group_id)
    require_unused("group", names_using_group(connection, group_id))
    groups_store.delete_group(connection, group_id)
    return _record(connection, author, ("delete", group_id), None, [])


def _require_own(body: GroupBody, group_id: str) -> None:
    require_own("id", body.id, group_id)
    require_own("uid", body.uid, group_id)


def _record(
    connection: Connection, author: Author, done: tuple[str, str], view: dict[str, Any] | None, applications: list[str]
) -> int | None:
    action, group_id = done
    change = Change(author.actor, action, "group", group_id, author.account_id)
    return record_change(connection, change, view, [f"app/{one}" for one in applications], author.at)
