"""Applications: where they stand, how their policies are listed, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from foregate.access.applications.application_bodies import ApplicationBody
from foregate.access.applications.application_rules import (
    application_draft,
    assign_precedences,
    plan_policies,
    require_precedence_free,
    require_service_auth,
)
from foregate.access.applications.model import (
    ApplicationDraft,
    Conditions,
    Everyone,
    LinkedPolicy,
    Policy,
    PolicyDecision,
    PolicyDraft,
)
from foregate.access.applications.views import policy_view
from foregate.api.parameters import parse_members
from foregate.core.errors import ForegateError

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ONE, TWO = "f174e90a-fafe-4643-bbbc-4a0ed4fc8415", "aa0a4aab-672b-4bdb-bc33-a59f1130a11f"
INLINE = {"name": "ci", "decision": "non_identity", "include": [{"everyone": {}}]}


def body(**members: Any) -> ApplicationBody:
    """A body of a self-hosted application."""
    return parse_members(ApplicationBody, {"type": "self_hosted", **members}, noun="member")


def draft(**members: Any) -> ApplicationDraft:
    return application_draft(body(**members))


def policy(policy_id: str, application_id: str | None = None, decision: str = "non_identity") -> Policy:
    drafted = PolicyDraft("ci", PolicyDecision(decision), Conditions((Everyone(),)), None)
    return Policy(policy_id, "a" * 32, application_id, drafted, NOW, NOW)


@pytest.mark.parametrize(
    ("members", "patterns", "uris"),
    [
        ({"domain": "Echo.localhost"}, ("echo.localhost",), ("Echo.localhost",)),
        ({"domain": "https://x.example.com:8443/admin/"}, ("x.example.com/admin",), None),
        ({"destinations": [{"uri": "*.example.com"}]}, ("*.example.com",), ("*.example.com",)),
        (
            {"domain": "a.example.com", "destinations": [{"type": "public", "uri": "b.example.com/x"}]},
            ("a.example.com", "b.example.com/x"),
            ("b.example.com/x",),
        ),
        (
            {"domain": "a.example.com", "self_hosted_domains": ["a.example.com", "b.example.com"]},
            ("a.example.com", "b.example.com"),
            ("a.example.com", "b.example.com"),
        ),
        (
            {"domain": "a.example.com", "destinations": None, "self_hosted_domains": []},
            ("a.example.com",),
            ("a.example.com",),
        ),
        (
            {"destinations": [{"uri": "b.example.com"}], "self_hosted_domains": ["ignored.example.com"]},
            ("b.example.com",),
            ("b.example.com",),
        ),
    ],
)
def test_domain_and_destinations_become_patterns(
    members: dict[str, Any], patterns: tuple[str, ...], uris: tuple[str, ...] | None
) -> None:
    found = draft(**members)
    assert found.patterns == patterns
    assert found.uris == (uris or (members["domain"],))


def test_a_nameless_application_is_called_by_its_domain() -> None:
    assert draft(domain="a.example.com").name == "a.example.com"
    assert draft(destinations=[{"uri": "b.example.com"}]).name == "b.example.com"


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({}, "/domain"),
        ({"domain": ""}, "/domain"),
        ({"domain": "a b.example.com"}, "/domain"),
        ({"domain": "user@a.example.com"}, "/domain"),
        ({"domain": "a.example.com/x?y=1"}, "/domain"),
        ({"domain": "a.example.com/%2e%2e/x"}, "/domain"),
        ({"domain": "a.example.com/%2F"}, "/domain"),
        ({"domain": "a.*"}, "/domain"),
        ({"domain": "*a*.example.com"}, "/domain"),
        ({"domain": "a.example.com/*x*"}, "/domain"),
        ({"domain": "a.example.com/cdn-cgi/access"}, "/domain"),
        ({"domain": "a.example.com/cdn-cgi/access/certs"}, "/domain"),
        ({"domain": "a.example.com", "destinations": [{"uri": "b..example.com"}]}, "/destinations/0/uri"),
        ({"destinations": [{"type": "private", "cidr": "10.0.0.0/8"}]}, "/destinations/0/type"),
        ({"destinations": [{"uri": "b.example.com", "overrides": [{"behavior": "public"}]}]},
         "/destinations/0/overrides"),
        ({"self_hosted_domains": ["b.example.com", "ftp://x"]}, "/self_hosted_domains/1"),
        ({"type": "saas"}, "/type"),
        ({"domain": "a.example.com", "session_duration": "forever"}, "/session_duration"),
        ({"domain": "a.example.com", "read_service_tokens_from_header": "Cookie"}, "/read_service_tokens_from_header"),
        ({"domain": "a.example.com", "read_service_tokens_from_header": "a b"}, "/read_service_tokens_from_header"),
        ({"domain": "a.example.com", "read_service_tokens_from_header": "Host"}, "/read_service_tokens_from_header"),
        ({"domain": "a.example.com", "logo_url": "https://x"}, "/logo_url"),
        ({"domain": "a.example.com", "allowed_idps": ["x"]}, "/allowed_idps"),
        ({"domain": "a.example.com", "cors_headers": {"allow_all_origins": True}}, "/cors_headers"),
        ({"domain": "a.example.com", "options_preflight_bypass": True}, "/options_preflight_bypass"),
        ({"domain": "a.example.com", "http_only_cookie_attribute": False}, "/http_only_cookie_attribute"),
        ({"domain": "a.example.com", "enable_binding_cookie": True}, "/enable_binding_cookie"),
        ({"domain": "a.example.com", "scim_config": {"enabled": True}}, "/scim_config"),
        ({"domain": "a.example.com", "tags": ["x"]}, "/tags"),
        ({"domain": "a.example.com", "policies": [{**INLINE, "mfa_config": {"mfa_disabled": True}}]},
         "/policies/0/mfa_config"),
        ({"domain": "a.example.com", "what": None}, "/what"),
    ],
)  # fmt: skip
def test_what_an_application_must_not_be_is_refused_by_name(members: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ForegateError) as refused:
        draft(**members)
    assert refused.value.pointer == pointer, refused.value.message


def test_flags_without_effect_are_kept_and_empty_ones_are_not() -> None:
    found = draft(
        domain="a.example.com",
        app_launcher_visible=False,
        http_only_cookie_attribute=True,
        auto_redirect_to_identity=False,
        logo_url="",
        same_site_cookie_attribute="",
        private_address="",
        landing_page_design={"title": "", "message": ""},
        allow_authenticate_via_warp=None,
    )
    assert found.kept == {
        "app_launcher_visible": False,
        "http_only_cookie_attribute": True,
        "auto_redirect_to_identity": False,
    }


@pytest.mark.parametrize(
    ("given", "assigned"),
    [
        ([], []),
        ([None, None], [1, 2]),
        ([0, 0, 0], [1, 2, 3]),
        ([5, None, 2], [5, 6, 2]),
        ([None, 1], [2, 1]),
        ([3, 1, 2], [3, 1, 2]),
        ([None, None, 2], [1, 3, 2]),
    ],
)
def test_left_out_precedences_follow_the_one_before(given: list[int | None], assigned: list[int]) -> None:
    assert assign_precedences(given, "/policies") == assigned


def test_the_same_precedence_twice_is_refused() -> None:
    with pytest.raises(ForegateError, match="policy precedences must be unique"):
        assign_precedences([1, 2, 1], "/policies")


def test_links_are_taken_as_bare_ids_and_as_objects() -> None:
    reusable = {ONE: policy(ONE), TWO: policy(TWO)}
    items = body(domain="a.example.com", policies=[TWO, {"id": ONE.upper(), "precedence": 7}]).policies or []
    plan = plan_policies(items, reusable, {})
    assert [(one.policy_id, one.draft, one.precedence) for one in plan] == [(TWO, None, 1), (ONE, None, 7)]


def test_an_answer_sent_back_changes_nothing() -> None:
    shared, own = policy(ONE), policy(TWO, "app")
    answer = [policy_view(shared, precedence=1, app_count=2), policy_view(own, precedence=2)]
    plan = plan_policies(body(domain="x.y", policies=answer).policies or [], {ONE: shared}, {TWO: own})
    assert [(one.policy_id, one.draft) for one in plan] == [(ONE, None), (TWO, None)]


def test_a_policy_of_its_own_is_changed_in_place() -> None:
    items = body(domain="x.y", policies=[{**INLINE, "id": TWO, "name": "renamed"}]).policies or []
    (plan,) = plan_policies(items, {}, {TWO: policy(TWO, "app")})
    assert plan.policy_id == TWO and plan.draft is not None and plan.draft.name == "renamed"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([ONE, INLINE], "not both"),
        ([ONE, ONE], "twice"),
        ([TWO], "policy not found"),
        (["ci"], "UUID"),
        ([{"id": ONE, **INLINE, "name": "renamed"}], "reusable policy is changed at"),
        ([{"decision": "bypass", "include": [{"everyone": {}}]}], "needs a name"),
        ([{"name": "x", "include": [{"everyone": {}}]}], "needs a decision"),
        ([{"name": "x", "decision": "bypass"}], "at least one selector"),
        ([{**INLINE, "precedence": 1}, {**INLINE, "precedence": 1}], "must be unique"),
    ],
)
def test_lists_of_policies_that_cannot_be_are_refused(items: list[Any], words: str) -> None:
    with pytest.raises(ForegateError) as refused:
        plan_policies(body(domain="x.y", policies=items).policies or [], {ONE: policy(ONE)}, {})
    assert words in refused.value.message


def test_401_needs_a_service_auth_policy() -> None:
    asked = draft(domain="x.y", service_auth_401_redirect=True)
    require_service_auth(asked, [PolicyDecision.BYPASS, PolicyDecision.SERVICE_AUTH])
    require_service_auth(draft(domain="x.y"), [])
    for decisions in ([], [PolicyDecision.BYPASS], [PolicyDecision.DENY]):
        with pytest.raises(ForegateError, match="service_auth_401_redirect"):
            require_service_auth(asked, decisions)


def test_a_policy_in_an_application_keeps_its_place_or_takes_a_free_one() -> None:
    links = [LinkedPolicy(policy(ONE, "app"), 2), LinkedPolicy(policy(TWO, "app"), 5)]
    assert require_precedence_free(links, None, None) == 6
    assert require_precedence_free(links, 0, ONE) == 2
    assert require_precedence_free(links, 3, ONE) == 3
    with pytest.raises(ForegateError, match="must be unique"):
        require_precedence_free(links, 5, ONE)
