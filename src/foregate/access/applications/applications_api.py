"""The calls about applications (reference page, section 2.1): parse, write, answer."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.applications import application_writes as writes
from foregate.access.applications import applications_store as store
from foregate.access.applications.application_bodies import ApplicationBody, ApplicationsQuery
from foregate.access.applications.application_rules import canonical_domain
from foregate.access.applications.applications_store import Filter
from foregate.access.applications.model import Author
from foregate.access.applications.views import ApplicationView, DeletedView, application_view
from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.operations import Call, Operations
from foregate.api.paging import page_info
from foregate.core.errors import ErrorCode
from foregate.core.ids import parse_uuid
from foregate.database.engine import AsyncDatabase

_APPS = "/accounts/{account_id}/access/apps"
_APP = _APPS + "/{app_id}"


def author_of(call: Call[Any, Any]) -> Author:
    """Who writes."""
    return Author(call.actor, call.account_id, call.at)


class ApplicationsApi:
    """Handlers of applications."""

    def __init__(self, database: AsyncDatabase, changes: Changes) -> None:
        self._database = database
        self._changes = changes

    def operations(self) -> Operations:
        """All calls."""
        operations = Operations("Access applications", Family.APPLICATION)
        add, taken = operations.add, (ErrorCode.ALREADY_EXISTS,)
        add("GET", _APPS, self.list, "List applications", query=ApplicationsQuery, result=ApplicationView,
            is_list=True)  # fmt: skip
        add("POST", _APPS, self.create, "Create an application", body=ApplicationBody, result=ApplicationView,
            status=201, errors=taken)  # fmt: skip
        add("GET", _APP, self.get, "Get an application", result=ApplicationView)
        add("PUT", _APP, self.replace, "Replace an application; left-out policies stay", body=ApplicationBody,
            result=ApplicationView, errors=taken)  # fmt: skip
        add("DELETE", _APP, self.delete, "Delete an application", result=DeletedView, status=202)
        # Go's older SDK writes the path with a hyphen.
        for path in (_APP + "/revoke_tokens", _APP + "/revoke-tokens"):
            add("POST", path, self.revoke_tokens, "End the sessions of an application", status=202,
                result={"type": "object"})  # fmt: skip
        return operations

    async def list(self, call: Call[ApplicationsQuery, None]) -> Answer:
        """A page of the account's applications, oldest first."""
        query = call.query
        domain = canonical_domain(query.domain) if query.domain and query.exact else query.domain
        wanted = Filter(query.name, domain, query.aud, query.search, query.exact)

        def read(connection: Connection) -> tuple[list[dict[str, Any]], int]:
            session = store.organization_session(connection, call.account_id)
            found, total = store.page_of_applications(
                connection, call.account_id, wanted, limit=query.per_page, offset=query.offset
            )
            return [application_view(application, session) for application in found], total

        views, total = await self._database.read(read)
        return Answer(views, info=page_info(query, len(views), total))

    async def create(self, call: Call[None, ApplicationBody]) -> Answer:
        """A new application."""

        def work(connection: Connection) -> Answer:
            view, seq = writes.create_application(connection, author_of(call), call.body)
            # A repeat would be told that its own application stands in its way.
            return Answer(view, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def get(self, call: Call[None, None]) -> Answer:
        """One application."""
        application_id = _application_id(call)

        def read(connection: Connection) -> dict[str, Any]:
            session = store.organization_session(connection, call.account_id)
            return application_view(store.get_application(connection, call.account_id, application_id), session)

        return Answer(await self._database.read(read))

    async def replace(self, call: Call[None, ApplicationBody]) -> Answer:
        """The application as the body says."""
        application_id = _application_id(call)

        def work(connection: Connection) -> Answer:
            view, seq = writes.replace_application(connection, author_of(call), application_id, call.body)
            return Answer(view, change_seq=seq)

        return await self._changes.run(call, work)

    async def delete(self, call: Call[None, None]) -> Answer:
        """Delete with its own policies."""
        application_id = _application_id(call)

        def work(connection: Connection) -> Answer:
            seq = writes.delete_application(connection, author_of(call), application_id)
            return Answer({"id": application_id}, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def revoke_tokens(self, call: Call[None, None]) -> Answer:
        """Have the edges drop the assertions they hold for this application.

        Tokens stay valid: a client sends its secret with every request, so there is no session of its own to end.
        """
        application_id = _application_id(call)

        def work(connection: Connection) -> Answer:
            return Answer({}, change_seq=writes.end_sessions(connection, author_of(call), application_id))

        return await self._changes.run(call, work)


def _application_id(call: Call[Any, Any]) -> str:
    return parse_uuid(call.path["app_id"], "application")
