"""What an application must be, and what a write does to its list of policies. Pure; called before the writes.

Source: reference page, section 2.2, and `reference/clients.md` for the forms in which clients list policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from foregate.access.applications.application_bodies import APPLICATION_NEUTRAL, ApplicationBody
from foregate.access.applications.bodies import PolicyItem
from foregate.access.applications.model import ApplicationDraft, LinkedPolicy, Policy, PolicyDecision, PolicyDraft
from foregate.access.applications.rules import check_session_duration, inline_draft
from foregate.api.neutral import kept_values
from foregate.core.errors import ForegateError, invalid, unsupported
from foregate.core.ids import parse_uuid
from foregate.core.targets import parse_pattern

# Narrower than RFC 9110 5.6.2: the name also stands in the engine's configuration.
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
# Headers that say where a request goes, how long it is, or who sends it: a token cannot take their place.
_TAKEN_HEADERS = frozenset(
    (
        *("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"),
        *("keep-alive", "proxy-connection", "cookie", "x-forwarded-for", "x-forwarded-proto", "cf-ray"),
        *("cf-access-client-id", "cf-access-client-secret", "cf-access-jwt-assertion", "cf-access-token"),
        "cf-connecting-ip",
    )
)
_EDGE_PATH = "/cdn-cgi/access"


@dataclass(frozen=True, slots=True)
class PlannedPolicy:
    """One policy of an application after a write: an existing one by id, a draft to write, or both (to change it)."""

    policy_id: str | None
    draft: PolicyDraft | None
    precedence: int


def application_draft(body: ApplicationBody) -> ApplicationDraft:
    """The application that a call asks for, without its policies. Raises ForegateError(INVALID_INPUT)."""
    uris, patterns = _targets(body)
    return ApplicationDraft(
        name=body.name or body.domain or uris[0],
        domain=body.domain or None,
        uris=uris,
        patterns=patterns,
        session_duration=check_session_duration(body.session_duration, "/session_duration"),
        answers_401=bool(body.service_auth_401_redirect),
        token_header=_token_header(body.read_service_tokens_from_header),
        kept=kept_values(body, APPLICATION_NEUTRAL),
    )


def canonical_domain(text: str) -> str:
    """The pattern that a domain in a search stands for, or the text itself where it stands for none."""
    try:
        return parse_pattern(text).text
    except ForegateError:
        return text


def plan_policies(
    items: Sequence[PolicyItem], reusable: Mapping[str, Policy], own: Mapping[str, Policy]
) -> tuple[PlannedPolicy, ...]:
    """What an application's list of policies is to be, in order of precedence.

    `reusable` are the account's policies among the ids given, `own` those that belong to this application. Items are
    links (id alone, {id, precedence}, or a policy as answers show it) or policies spelled out; not both kinds.
    """
    precedences = assign_precedences([item.precedence for item in items], "/policies")
    planned = [
        _plan(item, precedence, reusable, own, f"/policies/{position}")
        for position, (item, precedence) in enumerate(zip(items, precedences, strict=True))
    ]
    ids = [plan.policy_id for plan in planned if plan.policy_id is not None]
    if len(ids) != len(set(ids)):
        raise invalid("A policy stands twice in the list.", pointer="/policies")
    if any(plan.policy_id is None for plan in planned) and any(policy_id in reusable for policy_id in ids):
        raise invalid("List reusable policies by id or spell policies out, not both in one list.", pointer="/policies")
    return tuple(sorted(planned, key=lambda plan: plan.precedence))


def assign_precedences(given: Sequence[int | None], pointer: str) -> list[int]:
    """The precedence of each item. Left out or 0 (Go's way of leaving out) is one more than the item before it."""
    assigned: list[int] = []
    taken = {number for number in given if number}
    if len(taken) != sum(1 for number in given if number):
        raise invalid("policy precedences must be unique within an application.", pointer=pointer)
    last = 0
    for number in given:
        last = number or next_free(last + 1, taken)
        taken.add(last)
        assigned.append(last)
    return assigned


def next_free(start: int, taken: set[int]) -> int:
    """The least number from `start` that is not in `taken`."""
    while start in taken:
        start += 1
    return start


def require_service_auth(draft: ApplicationDraft, decisions: Iterable[PolicyDecision]) -> None:
    """Raises ForegateError(INVALID_INPUT) where 401 is asked for and no policy has the decision non_identity.

    So does Cloudflare: neither can the switch be set before such a policy is there, nor the policy go before it.
    """
    if draft.answers_401 and PolicyDecision.SERVICE_AUTH not in set(decisions):
        raise invalid(
            "service_auth_401_redirect needs a policy with the decision non_identity (Service Auth) in the "
            "application; add one, or leave the member out.",
            pointer="/service_auth_401_redirect",
        )


def require_precedence_free(linked: Sequence[LinkedPolicy], wanted: int | None, policy_id: str | None) -> int:
    """The place of a policy in an application: `wanted` if free, the end if left out; else INVALID_INPUT."""
    taken = {link.precedence for link in linked if link.policy.id != policy_id}
    if not wanted:
        current = next((link.precedence for link in linked if link.policy.id == policy_id), None)
        return current or max(taken, default=0) + 1
    if wanted in taken:
        raise invalid("policy precedences must be unique within an application.", pointer="/precedence")
    return wanted


def _plan(
    item: PolicyItem, precedence: int, reusable: Mapping[str, Policy], own: Mapping[str, Policy], base: str
) -> PlannedPolicy:
    if not item.id:
        return PlannedPolicy(None, inline_draft(item, base), precedence)
    policy_id = parse_uuid(item.id, "policy", pointer=f"{base}/id")
    present = own.get(policy_id) or reusable.get(policy_id)
    if present is None:
        raise invalid(f"policy not found ({policy_id}).", pointer=f"{base}/id")
    if item.name is None and item.decision is None and not item.include:
        return PlannedPolicy(policy_id, None, precedence)
    draft = inline_draft(item, base)
    if draft == present.draft:
        return PlannedPolicy(policy_id, None, precedence)
    if present.is_reusable:
        raise invalid(
            "A reusable policy is changed at access/policies, not in an application; give its id alone.", pointer=base
        )
    return PlannedPolicy(policy_id, draft, precedence)


def _targets(body: ApplicationBody) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The destinations as given, and all patterns. Destinations win over self_hosted_domains, as at Cloudflare; the
    domain is always covered: to show one and not protect it would be a trap."""
    if body.destinations:
        given = [(one.uri, f"/destinations/{n}/uri") for n, one in enumerate(body.destinations)]
    else:
        given = [(uri, f"/self_hosted_domains/{n}") for n, uri in enumerate(body.self_hosted_domains or [])]
    uris = tuple(uri for uri, _ in given)
    if body.domain:
        given.insert(0, (body.domain, "/domain"))
    if not given:
        raise invalid("Give a domain, or at least one destination.", pointer="/domain")
    patterns = [_pattern(uri, pointer) for uri, pointer in given]
    # A domain with nothing beside it is its own only destination, as answers show it.
    return uris or (given[0][0],), tuple(dict.fromkeys(patterns))


def _pattern(text: str, pointer: str) -> str:
    pattern = parse_pattern(text, pointer=pointer)
    if f"{pattern.path}/".startswith(f"{_EDGE_PATH}/"):
        raise invalid(f"{_EDGE_PATH} is the edge's own path and cannot be an application's.", pointer=pointer)
    return pattern.text


def _token_header(text: str | None) -> str:
    if not text:
        return ""
    if not _HEADER_NAME.fullmatch(text):
        raise invalid("Give the name of a header, such as Authorization.", pointer="/read_service_tokens_from_header")
    if text.lower() in _TAKEN_HEADERS:
        raise unsupported(
            "This header has a meaning of its own; choose another, such as Authorization or X-Service-Token.",
            pointer="/read_service_tokens_from_header",
        )
    return text
