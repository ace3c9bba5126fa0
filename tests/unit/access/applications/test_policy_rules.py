"""Policies and groups: what is taken, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from foregate.access.applications.bodies import GroupBody, ReusablePolicyBody
from foregate.access.applications.model import (
    AnyValidServiceToken,
    Conditions,
    Everyone,
    GroupMember,
    Network,
    PolicyDecision,
    ServiceToken,
)
from foregate.access.applications.rules import (
    MAX_EXPANDED,
    MAX_GROUP_DEPTH,
    canonical_network,
    check_session_duration,
    group_draft,
    policy_draft,
    require_expandable,
    require_known,
    require_unused,
    session_seconds,
)
from foregate.api.parameters import parse_members
from foregate.core.errors import ErrorCode, ForegateError

TOKEN = "f174e90a-fafe-4643-bbbc-4a0ed4fc8415"
GROUP = "aa0a4aab-672b-4bdb-bc33-a59f1130a11f"
CLIENT_ID = "88bf3b6d86161464f6509f7219099e57.access"


def policy_body(**members: Any) -> ReusablePolicyBody:
    """A body with the least a policy needs, and `members`."""
    whole = {"name": "ci", "decision": "non_identity", "include": [{"everyone": {}}], **members}
    return parse_members(ReusablePolicyBody, whole, noun="member")


def test_a_policy_is_read_as_it_is_written() -> None:
    draft = policy_draft(
        policy_body(
            include=[{"service_token": {"token_id": TOKEN.upper()}}, {"any_valid_service_token": {}}],
            require=[{"ip": {"ip": "192.0.2.0/24"}}],
            exclude=[{"group": {"id": GROUP}}],
            session_duration="30m",
            approval_required=False,
            purpose_justification_prompt="",
            precedence=0,
        )
    )
    assert draft.decision is PolicyDecision.SERVICE_AUTH
    assert draft.conditions == Conditions(
        include=(ServiceToken(TOKEN), AnyValidServiceToken()),
        require=(Network("192.0.2.0/24"),),
        exclude=(GroupMember(GROUP),),
    )
    assert (draft.session_duration, draft.kept) == ("30m", {"approval_required": False})


@pytest.mark.parametrize(
    ("members", "pointer", "words"),
    [
        ({"decision": "allow"}, "/decision", "non_identity"),
        ({"decision": "block"}, "/decision", "deny"),
        ({"include": []}, "/include", "at least one selector"),
        ({"include": None}, "/include", "at least one selector"),
        ({"include": [{}]}, "/include/0", "exactly one of"),
        ({"include": [{"everyone": {}, "ip": {"ip": "10.0.0.0/8"}}]}, "/include/0", "exactly one of"),
        (
            {"include": [{"email": {"email": "a@b.c"}}]},
            "/include/0",
            "no selector 'email', only service_token, any_valid_service_token",
        ),
        ({"exclude": [{"geo": {"country_code": "US"}}]}, "/exclude/0", "no selector 'geo'"),
        ({"include": [{"everyone": {"really": True}}]}, "/include/0/everyone/really", "does not know or act on"),
        ({"include": [{"service_token": {"token_id": CLIENT_ID}}]}, "/include/0/service_token/token_id", "client id"),
        ({"include": [{"service_token": {"token_id": "ci"}}]}, "/include/0/service_token/token_id", "UUID"),
        ({"include": [{"group": {"id": "ops"}}]}, "/include/0/group/id", "UUID"),
        ({"include": [{"ip": {"ip": "10.0.0.1/8"}}]}, "/include/0/ip/ip", "write 10.0.0.0/8"),
        ({"include": [{"ip": {"ip": "10.0.0.0/33"}}]}, "/include/0/ip/ip", "CIDR"),
        ({"include": [{"ip": {"ip": "10.0.0.0/255.0.0.0"}}]}, "/include/0/ip/ip", "prefix as a number"),
        ({"include": [{"ip": {"ip": "fe80::1%eth0"}}]}, "/include/0/ip/ip", "zone index"),
        ({"include": [{"ip": {"ip": "localhost"}}]}, "/include/0/ip/ip", "CIDR"),
        ({"include": [{"ip": {"ip": ""}}]}, "/include/0/ip/ip", "CIDR"),
        ({"name": ""}, "/name", "name"),
        ({"name": " "}, "/name", "blanks"),
        ({"name": "a\r\nb"}, "/name", "one line"),
        ({"session_duration": "1 day"}, "/session_duration", "duration"),
        ({"session_duration": "30s"}, "/session_duration", "31 days"),
        ({"session_duration": "745h"}, "/session_duration", "31 days"),
        ({"approval_required": True}, "/approval_required", "set it to false"),
        ({"approval_groups": [{"approvals_needed": 1}]}, "/approval_groups", "leave it out"),
        ({"isolation_required": True}, "/isolation_required", "set it to false"),
        ({"purpose_justification_prompt": "why?"}, "/purpose_justification_prompt", "leave it out"),
        ({"mfa_config": {"mfa_disabled": True}}, "/mfa_config", "leave it out"),
        ({"precedence": 3}, "/precedence", "0"),
        ({"what": 1}, "/what", "does not know or act on"),
    ],
)
def test_what_a_policy_must_not_be_is_refused_by_name(members: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(ForegateError) as refused:
        policy_draft(policy_body(**members))
    assert refused.value.code is ErrorCode.INVALID_INPUT
    assert (refused.value.pointer, words in refused.value.message) == (pointer, True), refused.value.message


@pytest.mark.parametrize("empty", [None, "", [], {}, {"title": "", "links": []}])
def test_empty_members_that_go_sends_pass(empty: object) -> None:
    assert policy_draft(policy_body(approval_groups=empty, connection_rules=empty)).kept == {}


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_edges_are_told_canonical_networks(given: str, canonical: str) -> None:
    assert policy_draft(policy_body(include=[{"ip": {"ip": given}}])).conditions.include == (Network(given),)
    assert canonical_network(given) == canonical


@pytest.mark.parametrize("text", ["0s", "0", "1m", "24h", "744h", "1h30m"])
def test_sessions_from_none_to_a_month_pass_verbatim(text: str) -> None:
    assert check_session_duration(text, "/session_duration") == text


@pytest.mark.parametrize(
    ("candidates", "seconds"),
    [
        (("30m", "24h", "12h"), 1800),
        ((None, "2h", "12h"), 7200),
        ((None, None, "12h"), 43200),
        ((None, None, None), 86400),
        (("0s", "24h", None), 60),
    ],
)
def test_the_nearest_session_duration_holds(candidates: tuple[str | None, ...], seconds: int) -> None:
    assert session_seconds(*candidates) == seconds


def test_tokens_and_groups_that_do_not_exist_are_refused_in_cloudflares_words() -> None:
    wanted = Conditions(include=(ServiceToken(TOKEN),), exclude=(GroupMember(GROUP),))
    require_known(wanted, frozenset({TOKEN}), frozenset({GROUP}))
    with pytest.raises(ForegateError, match="service token not found"):
        require_known(wanted, frozenset(), frozenset({GROUP}))
    with pytest.raises(ForegateError, match="group not found"):
        require_known(wanted, frozenset({TOKEN}), frozenset())


def chain(length: int) -> dict[str, Conditions]:
    """Groups "1" to `length`, each holding the next, the last one everyone."""
    groups = {str(n): Conditions((GroupMember(str(n + 1)),)) for n in range(1, length)}
    return groups | {str(length): Conditions((Everyone(),))}


def test_groups_in_a_circle_are_refused() -> None:
    groups = {"a": Conditions((GroupMember("b"),)), "b": Conditions((GroupMember("a"),))}
    with pytest.raises(ForegateError, match="circle"):
        require_expandable(groups["a"], groups, "a")
    with pytest.raises(ForegateError, match="circle"):
        require_expandable(Conditions((GroupMember("a"),)), groups)


def test_groups_nest_as_deep_as_is_said_and_no_deeper() -> None:
    require_expandable(Conditions((GroupMember("1"),)), chain(MAX_GROUP_DEPTH))
    with pytest.raises(ForegateError, match="deep"):
        require_expandable(Conditions((GroupMember("1"),)), chain(MAX_GROUP_DEPTH + 1))


def test_groups_that_double_at_every_level_are_counted_not_written_out() -> None:
    doubling = {
        str(n): Conditions((GroupMember(str(n + 1)),), require=(GroupMember(str(n + 1)),) * 9)
        for n in range(MAX_GROUP_DEPTH - 1)
    }
    doubling[str(MAX_GROUP_DEPTH - 1)] = Conditions((Everyone(),))
    with pytest.raises(ForegateError, match=str(MAX_EXPANDED)):
        require_expandable(Conditions((GroupMember("0"),)), doubling)


def test_what_is_in_use_says_by_whom() -> None:
    require_unused("policy", [])
    with pytest.raises(ForegateError) as refused:
        require_unused("policy", [f"app {n}" for n in range(7)])
    assert refused.value.code is ErrorCode.IN_USE
    assert "'app 0'" in refused.value.message and "and 2 more" in refused.value.message


def test_a_default_group_is_refused() -> None:
    body = {"name": "ops", "include": [{"everyone": {}}], "is_default": False}
    assert group_draft(parse_members(GroupBody, body, noun="member")).name == "ops"
    with pytest.raises(ForegateError, match="is_default"):
        parse_members(GroupBody, body | {"is_default": True}, noun="member")
