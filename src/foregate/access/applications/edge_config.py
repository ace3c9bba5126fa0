"""From an application's state to its edge record: groups written out, tokens by client id, sessions in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from sqlalchemy import Connection

from foregate.access.applications.applications_store import find_application, organization_session
from foregate.access.applications.groups_store import reachable_conditions
from foregate.access.applications.model import (
    AnyValidServiceToken,
    Application,
    Conditions,
    Everyone,
    GroupMember,
    Network,
    Selector,
    ServiceToken,
)
from foregate.access.applications.references_store import client_ids
from foregate.access.applications.rules import canonical_network, session_seconds
from foregate.edge import wire


def compile_record(connection: Connection, name: str) -> dict[str, Any] | None:
    """The value of `app/<id>` as it is now; None for an application that is gone."""
    application = find_application(connection, name)
    if application is None:
        return None
    own = [link.policy.draft.conditions for link in application.policies]
    group_ids = {group_id for conditions in own for group_id in conditions.group_ids}
    groups = reachable_conditions(connection, application.account_id, group_ids)
    named = [*own, *groups.values()]
    tokens = client_ids(connection, {token_id for conditions in named for token_id in conditions.token_ids})
    default_session = organization_session(connection, application.account_id)
    return application_value(application, groups, tokens, default_session).to_wire()


def application_value(
    application: Application,
    groups: Mapping[str, Conditions],
    tokens: Mapping[str, str],
    default_session: str | None,
) -> wire.AppValue:
    """The record's value. `groups` by id, `tokens` from id to client id; `default_session` is the organization's.

    KeyError where a group or token is missing. Pure.
    """
    draft = application.draft
    return wire.AppValue(
        account_id=application.account_id,
        aud=application.aud,
        name=draft.name,
        domain=draft.patterns[0],
        patterns=draft.patterns,
        no_credentials_status=401 if draft.answers_401 else 403,
        token_header=draft.token_header.lower(),
        policies=tuple(
            wire.PolicyValue(
                policy_id=link.policy.id,
                decision=link.policy.draft.decision.value,
                session_seconds=session_seconds(
                    link.policy.draft.session_duration, draft.session_duration, default_session
                ),
                rule=_rule(link.policy.draft.conditions, groups, tokens),
            )
            for link in application.policies
        ),
    )


def _rule(conditions: Conditions, groups: Mapping[str, Conditions], tokens: Mapping[str, str]) -> wire.Rule:
    def expand(selectors: tuple[Selector, ...]) -> tuple[wire.Selector, ...]:
        return tuple(_selector(selector, groups, tokens) for selector in selectors)

    return wire.Rule(expand(conditions.include), expand(conditions.require), expand(conditions.exclude))


def _selector(selector: Selector, groups: Mapping[str, Conditions], tokens: Mapping[str, str]) -> wire.Selector:
    match selector:
        case ServiceToken(token_id):
            return wire.TokenSelector(tokens[token_id])
        case AnyValidServiceToken():
            return wire.AnyTokenSelector()
        case Everyone():
            return wire.EveryoneSelector()
        case Network(text):
            return wire.IpSelector(canonical_network(text))
        case GroupMember(group_id):
            return wire.GroupSelector(_rule(groups[group_id], groups, tokens))
        case _:
            assert_never(selector)
