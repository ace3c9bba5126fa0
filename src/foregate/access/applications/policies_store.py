"""Policies in the records database, reusable ones and those of one application. The only SQL about policies."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from foregate.access.applications.model import Policy, PolicyDraft
from foregate.access.applications.references_store import replace_references
from foregate.access.applications.rows import policy_body, read_policy
from foregate.core.clock import from_micros, to_micros
from foregate.core.errors import not_found
from foregate.core.ids import new_uuid
from foregate.database.records_schema import application_policies, applications, policies


def insert_policy(
    connection: Connection, account_id: str, application_id: str | None, draft: PolicyDraft, now: datetime
) -> Policy:
    """A new policy with a new id; `application_id` None makes it reusable."""
    policy = Policy(new_uuid(), account_id, application_id, draft, now, now)
    connection.execute(
        insert(policies),
        {
            "id": policy.id,
            "account_id": account_id,
            "application_id": application_id,
            "name": draft.name,
            "decision": draft.decision.value,
            "body": policy_body(draft),
            "created_at": to_micros(now),
            "updated_at": to_micros(now),
        },
    )
    replace_references(connection, "policy", policy.id, draft.conditions)
    return policy


def update_policy(connection: Connection, policy_id: str, draft: PolicyDraft, now: datetime) -> None:
    """Put `draft` in the place of what the policy was."""
    connection.execute(
        update(policies)
        .where(policies.c.id == policy_id)
        .values(name=draft.name, decision=draft.decision.value, body=policy_body(draft), updated_at=to_micros(now))
    )
    replace_references(connection, "policy", policy_id, draft.conditions)


def make_reusable(connection: Connection, policy_id: str, now: datetime) -> None:
    """Take a policy from its application into the account; the application keeps using it."""
    statement = update(policies).where(policies.c.id == policy_id)
    connection.execute(statement.values(application_id=None, updated_at=to_micros(now)))


def delete_policies(connection: Connection, policy_ids: Iterable[str]) -> None:
    """Delete policies with their places in applications."""
    for policy_id in policy_ids:
        connection.execute(delete(application_policies).where(application_policies.c.policy_id == policy_id))
        replace_references(connection, "policy", policy_id, None)
        connection.execute(delete(policies).where(policies.c.id == policy_id))


def find_policies(connection: Connection, account_id: str, policy_ids: Iterable[str]) -> dict[str, Policy]:
    """Those of `policy_ids` that the account has, by id."""
    wanted = list(policy_ids)
    rows = connection.execute(select(policies).where(policies.c.account_id == account_id, policies.c.id.in_(wanted)))
    return {row.id: read_row(row) for row in rows}


def get_reusable(connection: Connection, account_id: str, policy_id: str) -> Policy:
    """A reusable policy. ForegateError(NOT_FOUND) where the account has none with this id."""
    policy = find_policies(connection, account_id, [policy_id]).get(policy_id)
    if policy is None or not policy.is_reusable:
        raise not_found("reusable policy")
    return policy


def page_of_reusable(
    connection: Connection, account_id: str, limit: int, offset: int
) -> tuple[list[tuple[Policy, int]], int]:
    """A page of the account's reusable policies with how many applications use each, oldest first; and their count."""
    mine = (policies.c.account_id == account_id) & policies.c.application_id.is_(None)
    users = (
        select(func.count()).where(application_policies.c.policy_id == policies.c.id).scalar_subquery().label("users")
    )
    rows = connection.execute(
        select(policies, users).where(mine).order_by(policies.c.created_at, policies.c.id).limit(limit).offset(offset)
    ).all()
    total = connection.execute(select(func.count()).select_from(policies).where(mine)).scalar_one()
    return [(read_row(row), row.users) for row in rows], total


def application_names_using(connection: Connection, policy_id: str) -> list[str]:
    """The names of the applications that a policy stands in."""
    rows = connection.execute(
        select(applications.c.name)
        .join(application_policies, application_policies.c.application_id == applications.c.id)
        .where(application_policies.c.policy_id == policy_id)
        .order_by(applications.c.name)
    )
    return [row.name for row in rows]


def read_row(row: Row[tuple[object, ...]]) -> Policy:
    """A Policy out of a row with the columns of `policies`."""
    return Policy(
        id=row.id,
        account_id=row.account_id,
        application_id=row.application_id,
        draft=read_policy(row.name, row.decision, row.body),
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
    )
