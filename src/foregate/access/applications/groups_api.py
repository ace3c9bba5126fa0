"""The calls about Access groups."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.applications import group_writes as writes
from foregate.access.applications import groups_store as store
from foregate.access.applications.applications_api import author_of
from foregate.access.applications.bodies import GroupBody, GroupsQuery
from foregate.access.applications.views import DeletedView, GroupView, group_view
from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.operations import Call, Operations
from foregate.api.paging import page_info
from foregate.core.errors import ErrorCode
from foregate.core.ids import parse_uuid
from foregate.database.engine import AsyncDatabase

_GROUPS = "/accounts/{account_id}/access/groups"
_GROUP = _GROUPS + "/{group_id}"


class GroupsApi:
    """Handlers of groups."""

    def __init__(self, database: AsyncDatabase, changes: Changes) -> None:
        self._database = database
        self._changes = changes

    def operations(self) -> Operations:
        """All calls."""
        operations = Operations("Access groups", Family.GROUP)
        add = operations.add
        add("GET", _GROUPS, self.list, "List groups", query=GroupsQuery, result=GroupView, is_list=True)
        add("POST", _GROUPS, self.create, "Create a group", body=GroupBody, result=GroupView, status=201)
        add("GET", _GROUP, self.get, "Get a group", result=GroupView)
        add("PUT", _GROUP, self.replace, "Replace a group", body=GroupBody, result=GroupView)
        add("DELETE", _GROUP, self.delete, "Delete a group", result=DeletedView, status=202,
            errors=(ErrorCode.IN_USE,))  # fmt: skip
        return operations

    async def list(self, call: Call[GroupsQuery, None]) -> Answer:
        """A page of the account's groups, oldest first."""
        query = call.query
        found, total = await self._database.read(
            lambda connection: store.page_of_groups(
                connection, call.account_id, query.name, query.search, limit=query.per_page, offset=query.offset
            )
        )
        return Answer([group_view(group) for group in found], info=page_info(query, len(found), total))

    async def create(self, call: Call[None, GroupBody]) -> Answer:
        """A new group."""

        def work(connection: Connection) -> Answer:
            view, seq = writes.create_group(connection, author_of(call), call.body)
            return Answer(view, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def get(self, call: Call[None, None]) -> Answer:
        """One group."""
        group_id = _group_id(call)
        group = await self._database.read(lambda connection: store.get_group(connection, call.account_id, group_id))
        return Answer(group_view(group))

    async def replace(self, call: Call[None, GroupBody]) -> Answer:
        """The group as the body says, for all who name it."""
        group_id = _group_id(call)

        def work(connection: Connection) -> Answer:
            view, seq = writes.replace_group(connection, author_of(call), group_id, call.body)
            return Answer(view, change_seq=seq)

        return await self._changes.run(call, work)

    async def delete(self, call: Call[None, None]) -> Answer:
        """Delete a group that nobody names."""
        group_id = _group_id(call)

        def work(connection: Connection) -> Answer:
            seq = writes.delete_group(connection, author_of(call), group_id)
            return Answer({"id": group_id}, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)


def _group_id(call: Call[Any, Any]) -> str:
    return parse_uuid(call.path["group_id"], "group")
