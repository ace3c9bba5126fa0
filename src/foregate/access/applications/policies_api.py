"""The calls about policies: reusable ones of the account, and those in an application."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.applications import applications_store, policies_store
from foregate.access.applications import policy_writes as writes
from foregate.access.applications.applications_api import author_of
from foregate.access.applications.bodies import (
    ApplicationPolicyBody,
    LinkedPoliciesQuery,
    PoliciesQuery,
    ReusablePolicyBody,
)
from foregate.access.applications.views import DeletedView, PolicyView, policy_view
from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.operations import Call, Operations
from foregate.api.paging import page_info
from foregate.core.errors import ErrorCode
from foregate.core.ids import parse_uuid
from foregate.database.engine import AsyncDatabase

_REUSABLE = "/accounts/{account_id}/access/policies"
_ONE_REUSABLE = _REUSABLE + "/{policy_id}"
_LINKED = "/accounts/{account_id}/access/apps/{app_id}/policies"
_ONE_LINKED = _LINKED + "/{policy_id}"


class PoliciesApi:
    """Handlers of policies."""

    def __init__(self, database: AsyncDatabase, changes: Changes) -> None:
        self._database = database
        self._changes = changes

    def operations(self) -> Operations:
        """All calls."""
        operations = Operations("Access policies", Family.POLICY)
        add = operations.add
        add("GET", _REUSABLE, self.list, "List reusable policies", query=PoliciesQuery, result=PolicyView,
            is_list=True)  # fmt: skip
        add("POST", _REUSABLE, self.create, "Create a reusable policy", body=ReusablePolicyBody, result=PolicyView,
            status=201)  # fmt: skip
        add("GET", _ONE_REUSABLE, self.get, "Get a reusable policy", result=PolicyView)
        add("PUT", _ONE_REUSABLE, self.replace, "Replace a reusable policy", body=ReusablePolicyBody,
            result=PolicyView)  # fmt: skip
        add("DELETE", _ONE_REUSABLE, self.delete, "Delete a reusable policy", result=DeletedView, status=202,
            errors=(ErrorCode.IN_USE,))  # fmt: skip
        add("GET", _LINKED, self.list_linked, "List an application's policies", query=LinkedPoliciesQuery,
            result=PolicyView, is_list=True)  # fmt: skip
        add("POST", _LINKED, self.create_linked, "Create a policy in an application", body=ApplicationPolicyBody,
            result=PolicyView, status=201)  # fmt: skip
        add("GET", _ONE_LINKED, self.get_linked, "Get an application's policy", result=PolicyView)
        add("PUT", _ONE_LINKED, self.replace_linked, "Replace an application's policy", body=ApplicationPolicyBody,
            result=PolicyView)  # fmt: skip
        add("DELETE", _ONE_LINKED, self.delete_linked, "Delete an application's policy", result=DeletedView,
            status=202)  # fmt: skip
        add("PUT", _ONE_LINKED + "/make_reusable", self.make_reusable, "Make an application's policy reusable",
            result=PolicyView)  # fmt: skip
        return operations

    async def list(self, call: Call[PoliciesQuery, None]) -> Answer:
        """A page of the account's reusable policies, oldest first."""
        query = call.query
        found, total = await self._database.read(
            lambda connection: policies_store.page_of_reusable(
                connection, call.account_id, query.per_page, query.offset
            )
        )
        views = [policy_view(policy, app_count=users) for policy, users in found]
        return Answer(views, info=page_info(query, len(views), total))

    async def create(self, call: Call[None, ReusablePolicyBody]) -> Answer:
        """A new reusable policy."""

        def work(connection: Connection) -> Answer:
            view, seq = writes.create_reusable(connection, author_of(call), call.body)
            return Answer(view, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def get(self, call: Call[None, None]) -> Answer:
        """One reusable policy."""
        policy_id = _policy_id(call)

        def read(connection: Connection) -> dict[str, Any]:
            policy = policies_store.get_reusable(connection, call.account_id, policy_id)
            users = policies_store.application_names_using(connection, policy_id)
            return policy_view(policy, app_count=len(users))

        return Answer(await self._database.read(read))

    async def replace(self, call: Call[None, ReusablePolicyBody]) -> Answer:
        """The policy as the body says, in all its applications."""
        policy_id = _policy_id(call)

        def work(connection: Connection) -> Answer:
            view, seq = writes.replace_reusable(connection, author_of(call), policy_id, call.body)
            return Answer(view, change_seq=seq)

        return await self._changes.run(call, work)

    async def delete(self, call: Call[None, None]) -> Answer:
        """Delete a policy that no application uses."""
        policy_id = _policy_id(call)

        def work(connection: Connection) -> Answer:
            seq = writes.delete_reusable(connection, author_of(call), policy_id)
            return Answer({"id": policy_id}, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def list_linked(self, call: Call[LinkedPoliciesQuery, None]) -> Answer:
        """A page of an application's policies in order of precedence."""
        query, application_id = call.query, _application_id(call)
        application = await self._database.read(
            lambda connection: applications_store.get_application(connection, call.account_id, application_id)
        )
        page = application.policies[query.offset : query.offset + query.per_page]
        views = [policy_view(link.policy, precedence=link.precedence) for link in page]
        return Answer(views, info=page_info(query, len(views), len(application.policies)))

    async def create_linked(self, call: Call[None, ApplicationPolicyBody]) -> Answer:
        """A new policy of an application."""
        application_id = _application_id(call)

        def work(connection: Connection) -> Answer:
            view, seq = writes.create_in_application(connection, author_of(call), application_id, call.body)
            return Answer(view, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def get_linked(self, call: Call[None, None]) -> Answer:
        """One policy of an application."""
        application_id, policy_id = _application_id(call), _policy_id(call)

        def read(connection: Connection) -> dict[str, Any]:
            application = applications_store.get_application(connection, call.account_id, application_id)
            link = writes.linked_policy(application, policy_id)
            return policy_view(link.policy, precedence=link.precedence)

        return Answer(await self._database.read(read))

    async def replace_linked(self, call: Call[None, ApplicationPolicyBody]) -> Answer:
        """The policy as the body says."""
        application_id, policy_id = _application_id(call), _policy_id(call)

        def work(connection: Connection) -> Answer:
            view, seq = writes.replace_in_application(connection, author_of(call), application_id, policy_id, call.body)
            return Answer(view, change_seq=seq)

        return await self._changes.run(call, work)

    async def delete_linked(self, call: Call[None, None]) -> Answer:
        """Delete a policy of an application."""
        application_id, policy_id = _application_id(call), _policy_id(call)

        def work(connection: Connection) -> Answer:
            seq = writes.delete_in_application(connection, author_of(call), application_id, policy_id)
            return Answer({"id": policy_id}, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def make_reusable(self, call: Call[None, None]) -> Answer:
        """Turn an application's policy into a reusable one."""
        application_id, policy_id = _application_id(call), _policy_id(call)

        def work(connection: Connection) -> Answer:
            view, seq = writes.make_reusable(connection, author_of(call), application_id, policy_id)
            return Answer(view, change_seq=seq)

        return await self._changes.run(call, work)


def _application_id(call: Call[Any, Any]) -> str:
    return parse_uuid(call.path["app_id"], "application")


def _policy_id(call: Call[Any, Any]) -> str:
    return parse_uuid(call.path["policy_id"], "policy")
