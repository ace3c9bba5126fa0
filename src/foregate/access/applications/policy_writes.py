"""Creating, changing and deleting policies, reusable ones and those of one application, in the caller's transaction.

A change concerns the edges where an application uses the policy; the answer carries the last such change's seq.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.applications import applications_store, policies_store
from foregate.access.applications.application_rules import require_precedence_free, require_service_auth
from foregate.access.applications.bodies import ApplicationPolicyBody, ReusablePolicyBody
from foregate.access.applications.model import Application, Author, LinkedPolicy, PolicyDraft
from foregate.access.applications.references_store import applications_of_policies
from foregate.access.applications.rule_checks import check_conditions
from foregate.access.applications.rules import policy_draft, require_unused
from foregate.access.applications.views import policy_view
from foregate.api.neutral import require_own
from foregate.core.errors import invalid, not_found
from foregate.database.journal import Change, record_change

Written = tuple[dict[str, Any], int | None]


def create_reusable(connection: Connection, author: Author, body: ReusablePolicyBody) -> Written:
    """A new reusable policy; no application uses it yet."""
    require_own("id", body.id, "")
    draft = policy_draft(body)
    check_conditions(connection, author.account_id, [draft.conditions])
    policy = policies_store.insert_policy(connection, author.account_id, None, draft, author.at)
    view = policy_view(policy, app_count=0)
    return view, _record(connection, author, ("create", policy.id), view, [])


def replace_reusable(connection: Connection, author: Author, policy_id: str, body: ReusablePolicyBody) -> Written:
    """Put `body` in the policy's place, in every application that uses it."""
    policies_store.get_reusable(connection, author.account_id, policy_id)
    require_own("id", body.id, policy_id)
    draft = policy_draft(body)
    check_conditions(connection, author.account_id, [draft.conditions])
    users = applications_of_policies(connection, [policy_id])
    for application_id in users:
        application = applications_store.get_application(connection, author.account_id, application_id)
        _require_service_auth(application, policy_id, draft)
    policies_store.update_policy(connection, policy_id, draft, author.at)
    changed = policies_store.get_reusable(connection, author.account_id, policy_id)
    view = policy_view(changed, app_count=len(users))
    return view, _record(connection, author, ("update", policy_id), view, users)


def delete_reusable(connection: Connection, author: Author, policy_id: str) -> int | None:
    """Delete a policy that no application uses; ForegateError(IN_USE) names those that do."""
    policies_store.get_reusable(connection, author.account_id, policy_id)
    require_unused("policy", policies_store.application_names_using(connection, policy_id))
    policies_store.delete_policies(connection, [policy_id])
    return _record(connection, author, ("delete", policy_id), None, [])


def create_in_application(
    connection: Connection, author: Author, application_id: str, body: ApplicationPolicyBody
) -> Written:
    """A new policy of one application, at the end of its list or at the precedence asked for."""
    application = applications_store.get_application(connection, author.account_id, application_id)
    require_own("id", body.id, "")
    draft = policy_draft(body)
    check_conditions(connection, author.account_id, [draft.conditions])
    precedence = require_precedence_free(application.policies, body.precedence, None)
    policy = policies_store.insert_policy(connection, author.account_id, application.id, draft, author.at)
    _relink(connection, application, policy.id, precedence)
    view = policy_view(policy, precedence=precedence)
    return view, _record(connection, author, ("create", policy.id), view, [application.id])


def replace_in_application(
    connection: Connection, author: Author, application_id: str, policy_id: str, body: ApplicationPolicyBody
) -> Written:
    """Put `body` in the policy's place. Of a reusable policy only the precedence can be changed here."""
    application = applications_store.get_application(connection, author.account_id, application_id)
    link = linked_policy(application, policy_id)
    require_own("id", body.id, policy_id)
    draft = policy_draft(body)
    if link.policy.is_reusable and draft != link.policy.draft:
        raise invalid("This policy is reusable: change it at access/policies, where all its applications follow.")
    check_conditions(connection, author.account_id, [draft.conditions])
    _require_service_auth(application, policy_id, draft)
    precedence = require_precedence_free(application.policies, body.precedence, policy_id)
    if draft != link.policy.draft:
        policies_store.update_policy(connection, policy_id, draft, author.at)
    _relink(connection, application, policy_id, precedence)
    changed = policies_store.find_policies(connection, author.account_id, [policy_id])[policy_id]
    view = policy_view(changed, precedence=precedence)
    return view, _record(connection, author, ("update", policy_id), view, [application.id])


def delete_in_application(connection: Connection, author: Author, application_id: str, policy_id: str) -> int | None:
    """Delete a policy of one application. A reusable one is taken out by a PUT of the application."""
    application = applications_store.get_application(connection, author.account_id, application_id)
    if linked_policy(application, policy_id).policy.is_reusable:
        raise invalid("This policy is reusable: take it out of the application's policies with a PUT of those.")
    _require_service_auth(application, policy_id, None)
    policies_store.delete_policies(connection, [policy_id])
    return _record(connection, author, ("delete", policy_id), None, [application.id])


def make_reusable(connection: Connection, author: Author, application_id: str, policy_id: str) -> Written:
    """Turn a policy of one application into a reusable one. Edges need not know."""
    application = applications_store.get_application(connection, author.account_id, application_id)
    link = linked_policy(application, policy_id)
    if not link.policy.is_reusable:
        policies_store.make_reusable(connection, policy_id, author.at)
    changed = policies_store.get_reusable(connection, author.account_id, policy_id)
    view = policy_view(changed, precedence=link.precedence)
    return view, _record(connection, author, ("make_reusable", policy_id), view, [])


def linked_policy(application: Application, policy_id: str) -> LinkedPolicy:
    """The policy in the application's list. ForegateError(NOT_FOUND) where it is not there."""
    found = next((link for link in application.policies if link.policy.id == policy_id), None)
    if found is None:
        raise not_found("policy of this application")
    return found


def _relink(connection: Connection, application: Application, policy_id: str, precedence: int) -> None:
    links = [(link.policy.id, link.precedence) for link in application.policies if link.policy.id != policy_id]
    applications_store.replace_links(connection, application.id, [*links, (policy_id, precedence)])


def _require_service_auth(application: Application, policy_id: str, draft: PolicyDraft | None) -> None:
    """The application's switch for 401 still has its policy once `draft` stands in the policy's place (None: gone)."""
    kept = [link.policy.draft for link in application.policies if link.policy.id != policy_id]
    require_service_auth(application.draft, (one.decision for one in [*kept, *([draft] if draft else [])]))


def _record(
    connection: Connection, author: Author, done: tuple[str, str], view: dict[str, Any] | None, applications: list[str]
) -> int | None:
    action, policy_id = done
    change = Change(author.actor, action, "policy", policy_id, author.account_id)
    return record_change(connection, change, view, [f"app/{one}" for one in applications], author.at)
