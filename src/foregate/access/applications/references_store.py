"""Who names whom: service tokens and groups in policies and groups, and the applications that a change concerns.

`rule_references` is asked before a token or a group is deleted, and to know which applications' records to send to
the edges again. The only SQL about that table.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, or_, select, union

from foregate.access.applications.model import Conditions
from foregate.database.records_schema import (
    application_policies,
    groups,
    policies,
    rule_references,
    service_tokens,
)


def replace_references(connection: Connection, referrer_kind: str, referrer_id: str, wanted: Conditions | None) -> None:
    """Write down what a policy or a group names now; None: nothing any more."""
    mine = (rule_references.c.referrer_kind == referrer_kind) & (rule_references.c.referrer_id == referrer_id)
    connection.execute(delete(rule_references).where(mine))
    if wanted is None:
        return
    targets = [("token", token_id) for token_id in wanted.token_ids]
    targets += [("group", group_id) for group_id in wanted.group_ids]
    if targets:
        connection.execute(
            insert(rule_references),
            [
                {
                    "referrer_kind": referrer_kind,
                    "referrer_id": referrer_id,
                    "target_kind": kind,
                    "target_id": target_id,
                }
                for kind, target_id in targets
            ],
        )


def existing_tokens(connection: Connection, account_id: str, token_ids: Iterable[str]) -> frozenset[str]:
    """Those of `token_ids` that are service tokens of the account and not deleted."""
    wanted = list(token_ids)
    if not wanted:
        return frozenset()
    rows = connection.execute(
        select(service_tokens.c.id).where(
            service_tokens.c.account_id == account_id,
            service_tokens.c.deleted_at.is_(None),
            service_tokens.c.id.in_(wanted),
        )
    )
    return frozenset(row.id for row in rows)


def client_ids(connection: Connection, token_ids: Iterable[str]) -> dict[str, str]:
    """The client id of each token, deleted ones included: a rule that names one holds for nobody."""
    rows = connection.execute(
        select(service_tokens.c.id, service_tokens.c.client_id).where(service_tokens.c.id.in_(list(token_ids)))
    )
    return {row.id: row.client_id for row in rows}


def applications_of_policies(connection: Connection, policy_ids: Iterable[str]) -> list[str]:
    """The ids of the applications that any of these policies stands in."""
    rows = connection.execute(
        select(application_policies.c.application_id)
        .where(application_policies.c.policy_id.in_(list(policy_ids)))
        .distinct()
        .order_by(application_policies.c.application_id)
    )
    return [row.application_id for row in rows]


def policies_of_group(connection: Connection, group_id: str) -> list[str]:
    """The ids of the policies that name the group, straight or through other groups."""
    columns = rule_references.c
    names_group = select(columns.referrer_id).where(columns.target_kind == "group")
    by_groups = names_group.where(columns.referrer_kind == "group")
    through = by_groups.where(columns.target_id == group_id).cte("through", recursive=True)
    through = through.union(by_groups.join(through, columns.target_id == through.c.referrer_id))
    rows = connection.execute(
        names_group.where(
            columns.referrer_kind == "policy",
            or_(columns.target_id == group_id, columns.target_id.in_(select(through.c.referrer_id))),
        ).distinct()
    )
    return [row.referrer_id for row in rows]


def names_using_group(connection: Connection, group_id: str) -> list[str]:
    """The names of the policies and groups that name the group."""
    mine = (rule_references.c.target_kind == "group") & (rule_references.c.target_id == group_id)
    named = union(
        select(policies.c.name)
        .join(rule_references, rule_references.c.referrer_id == policies.c.id)
        .where(mine, rule_references.c.referrer_kind == "policy"),
        select(groups.c.name)
        .join(rule_references, rule_references.c.referrer_id == groups.c.id)
        .where(mine, rule_references.c.referrer_kind == "group"),
    )
    return sorted(row.name for row in connection.execute(named))
