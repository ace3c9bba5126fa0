"""Creating, changing and deleting applications: rules, rows, history, audit and outbox in the caller's transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.applications import applications_store as store
from foregate.access.applications.application_bodies import ApplicationBody
from foregate.access.applications.application_rules import (
    PlannedPolicy,
    application_draft,
    plan_policies,
    require_service_auth,
)
from foregate.access.applications.model import Application, Author
from foregate.access.applications.policies_store import delete_policies, find_policies, insert_policy, update_policy
from foregate.access.applications.rule_checks import check_conditions
from foregate.access.applications.views import application_view
from foregate.api.neutral import require_own
from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.ids import new_audience, new_uuid
from foregate.database.journal import Change, record_change


def create_application(connection: Connection, author: Author, body: ApplicationBody) -> tuple[dict[str, Any], int]:
    """A new application with its policies; its answer, and the seq of the change."""
    if not store.has_organization(connection, author.account_id):
        message = "This account has no Zero Trust organization yet; create it first: POST access/organizations."
        raise ForegateError(ErrorCode.INVALID_INPUT, message)
    _require_given(body, "", "")
    application = Application(
        id=new_uuid(),
        account_id=author.account_id,
        aud=new_audience(),
        draft=application_draft(body),
        policies=(),
        created_at=author.at,
        updated_at=author.at,
    )
    plan = _plan(connection, application, body)
    store.insert_application(connection, application)
    _carry_out(connection, author, application, plan)
    return _conclude(connection, author, "create", application.id)


def replace_application(
    connection: Connection, author: Author, application_id: str, body: ApplicationBody
) -> tuple[dict[str, Any], int]:
    """Put `body` in the application's place. Left-out `policies` stay; its own policies that are not listed go."""
    application = store.get_application(connection, author.account_id, application_id)
    _require_given(body, application.id, application.aud)
    draft = application_draft(body)
    if body.policies is None:
        require_service_auth(draft, (link.policy.draft.decision for link in application.policies))
        store.update_application(connection, application, draft, author.at)
    else:
        plan = _plan(connection, application, body)
        store.update_application(connection, application, draft, author.at)
        _carry_out(connection, author, application, plan)
    return _conclude(connection, author, "update", application.id)


def delete_application(connection: Connection, author: Author, application_id: str) -> int:
    """Delete an application and its own policies; the seq of the change."""
    application = store.get_application(connection, author.account_id, application_id)
    own = [link.policy.id for link in application.policies if not link.policy.is_reusable]
    delete_policies(connection, own)
    store.delete_application(connection, application.id)
    change = Change(author.actor, "delete", "application", application.id, author.account_id)
    return _seq(record_change(connection, change, None, [f"app/{application.id}"], author.at))


def end_sessions(connection: Connection, author: Author, application_id: str) -> int:
    """Send the application's record to the edges anew: each drops the assertions that it holds for it."""
    application = store.get_application(connection, author.account_id, application_id)
    change = Change(author.actor, "revoke_tokens", "application", application.id, author.account_id)
    snapshot = application_view(application, store.organization_session(connection, author.account_id))
    return _seq(record_change(connection, change, snapshot, [f"app/{application.id}"], author.at))


def _plan(connection: Connection, application: Application, body: ApplicationBody) -> tuple[PlannedPolicy, ...]:
    items = body.policies or []
    own = {link.policy.id: link.policy for link in application.policies if not link.policy.is_reusable}
    found = find_policies(connection, application.account_id, [item.id.lower() for item in items if item.id])
    reusable = {policy.id: policy for policy in found.values() if policy.is_reusable}
    plan = plan_policies(items, reusable, own)
    check_conditions(connection, application.account_id, [one.draft.conditions for one in plan if one.draft])
    known = own | reusable
    decisions = [(one.draft or known[one.policy_id or ""].draft).decision for one in plan]
    require_service_auth(application_draft(body), decisions)
    return plan


def _carry_out(
    connection: Connection, author: Author, application: Application, plan: tuple[PlannedPolicy, ...]
) -> None:
    links: list[tuple[str, int]] = []
    for one in plan:
        policy_id = one.policy_id
        if policy_id is None and one.draft is not None:
            policy_id = insert_policy(connection, author.account_id, application.id, one.draft, author.at).id
        elif policy_id is not None and one.draft is not None:
            update_policy(connection, policy_id, one.draft, author.at)
        links.append((str(policy_id), one.precedence))
    store.replace_links(connection, application.id, links)
    kept = {policy_id for policy_id, _ in links}
    own = (link.policy.id for link in application.policies if not link.policy.is_reusable)
    delete_policies(connection, [policy_id for policy_id in own if policy_id not in kept])


def _conclude(connection: Connection, author: Author, action: str, application_id: str) -> tuple[dict[str, Any], int]:
    application = store.get_application(connection, author.account_id, application_id)
    view = application_view(application, store.organization_session(connection, author.account_id))
    change = Change(author.actor, action, "application", application_id, author.account_id)
    return view, _seq(record_change(connection, change, view, [f"app/{application_id}"], author.at))


def _require_given(body: ApplicationBody, application_id: str, aud: str) -> None:
    require_own("id", body.id, application_id)
    require_own("aud", body.aud, aud)


def _seq(seq: int | None) -> int:
    if seq is None:
        raise RuntimeError("a change of an application has a record")
    return seq
