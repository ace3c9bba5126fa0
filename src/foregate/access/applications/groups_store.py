"""Groups in the records database. The only SQL about groups."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from foregate.access.applications.model import Conditions, Group, GroupDraft
from foregate.access.applications.references_store import replace_references
from foregate.access.applications.rows import group_body, read_group
from foregate.core.clock import from_micros, to_micros
from foregate.core.errors import not_found
from foregate.core.ids import new_uuid
from foregate.database.records_schema import groups


def insert_group(connection: Connection, account_id: str, draft: GroupDraft, now: datetime) -> Group:
    """A new group with a new id."""
    group = Group(new_uuid(), account_id, draft, now, now)
    connection.execute(
        insert(groups),
        {
            "id": group.id,
            "account_id": account_id,
            "name": draft.name,
            "body": group_body(draft),
            "created_at": to_micros(now),
            "updated_at": to_micros(now),
        },
    )
    replace_references(connection, "group", group.id, draft.conditions)
    return group


def update_group(connection: Connection, group_id: str, draft: GroupDraft, now: datetime) -> None:
    """Put `draft` in the place of what the group was."""
    connection.execute(
        update(groups)
        .where(groups.c.id == group_id)
        .values(name=draft.name, body=group_body(draft), updated_at=to_micros(now))
    )
    replace_references(connection, "group", group_id, draft.conditions)


def delete_group(connection: Connection, group_id: str) -> None:
    """Delete a group that nobody names."""
    replace_references(connection, "group", group_id, None)
    connection.execute(delete(groups).where(groups.c.id == group_id))


def get_group(connection: Connection, account_id: str, group_id: str) -> Group:
    """A group. ForegateError(NOT_FOUND) where the account has none with this id."""
    row = connection.execute(
        select(groups).where(groups.c.account_id == account_id, groups.c.id == group_id)
    ).one_or_none()
    if row is None:
        raise not_found("group")
    return _read_row(row)


def page_of_groups(
    connection: Connection, account_id: str, name: str | None, search: str | None, *, limit: int, offset: int
) -> tuple[list[Group], int]:
    """A page of the account's groups, oldest first, and how many there are. `name` whole, `search` a part of it."""
    wanted = groups.c.account_id == account_id
    if name is not None:
        wanted &= groups.c.name == name
    if search is not None:
        wanted &= or_(groups.c.name.icontains(search, autoescape=True), groups.c.id == search)
    rows = connection.execute(
        select(groups).where(wanted).order_by(groups.c.created_at, groups.c.id).limit(limit).offset(offset)
    ).all()
    total = connection.execute(select(func.count()).select_from(groups).where(wanted)).scalar_one()
    return [_read_row(row) for row in rows], total


def conditions_of_groups(connection: Connection, account_id: str) -> dict[str, Conditions]:
    """The conditions of all groups of the account, by id."""
    rows = connection.execute(
        select(groups.c.id, groups.c.name, groups.c.body).where(groups.c.account_id == account_id)
    )
    return {row.id: read_group(row.name, row.body).conditions for row in rows}


def reachable_conditions(connection: Connection, account_id: str, group_ids: Iterable[str]) -> dict[str, Conditions]:
    """The conditions of these groups of the account and of all groups within them, by id. Unknown ids are left out."""
    found: dict[str, Conditions] = {}
    wanted = set(group_ids)
    while wanted:
        rows = connection.execute(
            select(groups.c.id, groups.c.name, groups.c.body).where(
                groups.c.account_id == account_id, groups.c.id.in_(wanted)
            )
        )
        level = {row.id: read_group(row.name, row.body).conditions for row in rows}
        found |= level
        wanted = {inner for conditions in level.values() for inner in conditions.group_ids} - found.keys()
    return found


def _read_row(row: Row[tuple[object, ...]]) -> Group:
    return Group(
        id=row.id,
        account_id=row.account_id,
        draft=read_group(row.name, row.body),
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
    )
