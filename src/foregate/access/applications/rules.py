"""What a policy or a group must be: from bodies to drafts, and what may be done with them. Pure.

Called by the API before it writes. What cannot be known here (whether a token or a group exists) comes in as sets.
Source: reference page, sections 2.3 to 2.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv6Network, ip_network

from foregate.access.applications.bodies import (
    POLICY_NEUTRAL,
    ApplicationPolicyBody,
    ConditionsBody,
    GroupBody,
    PolicyItem,
    PolicyMembers,
    ReusablePolicyBody,
    SelectorBody,
)
from foregate.access.applications.model import (
    AnyValidServiceToken,
    Conditions,
    Everyone,
    GroupDraft,
    GroupMember,
    Network,
    PolicyDecision,
    PolicyDraft,
    Selector,
    ServiceToken,
)
from foregate.api.neutral import kept_values
from foregate.core.durations import parse_duration
from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.ids import CLIENT_ID, parse_uuid

# Cloudflare's longest session is a month; the longest month is meant.
LONGEST_SESSION = timedelta(days=31)
# A shorter assertion could run out on its way to the origin; 0s asks for the shortest there is.
SHORTEST_SESSION = timedelta(minutes=1)
# Groups within groups, as deep as anybody writes them; edges take twice as many.
MAX_GROUP_DEPTH = 8
# Selectors of one policy once its groups are written out: some hundreds of kilobytes in an edge's record.
MAX_EXPANDED = 5000


def policy_draft(body: ReusablePolicyBody | ApplicationPolicyBody) -> PolicyDraft:
    """The policy that a call asks for. Raises ForegateError(INVALID_INPUT)."""
    return _policy_draft(body.name, body.decision, body, "")


def inline_draft(item: PolicyItem, base: str) -> PolicyDraft:
    """The policy that an item of an application's list spells out. `base` is the item's JSON pointer."""
    if item.name is None:
        raise invalid("A policy needs a name.", pointer=f"{base}/name")
    if item.decision is None:
        raise invalid("A policy needs a decision: non_identity, bypass or deny.", pointer=f"{base}/decision")
    return _policy_draft(item.name, item.decision, item, base)


def group_draft(body: GroupBody) -> GroupDraft:
    """The group that a call asks for. Raises ForegateError(INVALID_INPUT)."""
    return GroupDraft(body.name, conditions(body, ""))


def conditions(body: ConditionsBody, base: str) -> Conditions:
    """The conditions in a body. At least one include; each selector with exactly one member."""
    if not body.include:
        raise invalid("Give at least one selector under include.", pointer=f"{base}/include")
    return Conditions(
        include=_selectors(body.include, f"{base}/include"),
        require=_selectors(body.require, f"{base}/require"),
        exclude=_selectors(body.exclude, f"{base}/exclude"),
    )


def check_session_duration(text: str | None, pointer: str) -> str | None:
    """A session duration as given; None for none. `0s` or 1 minute to 31 days."""
    if not text:
        return None
    length = parse_duration(text, pointer=pointer)
    if length and not SHORTEST_SESSION <= length <= LONGEST_SESSION:
        raise invalid("A session lasts 0s, or from 1m to 744h (31 days).", pointer=pointer)
    return text


def session_seconds(*candidates: str | None) -> int:
    """The first duration that is given, in seconds; 24 hours if none is. `0s` becomes the shortest session.

    Policy, application, organization is the order to give them in (reference page, section 2.2).
    """
    given = next((text for text in candidates if text), "24h")
    return int(max(parse_duration(given), SHORTEST_SESSION).total_seconds())


def canonical_network(text: str) -> str:
    """The CIDR that edges are told. IPv4 within IPv6 becomes IPv4: so the client of a dual-stack socket counts."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        return f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}"
    return str(network)


def require_known(wanted: Conditions, token_ids: frozenset[str], group_ids: frozenset[str]) -> None:
    """Raises ForegateError(INVALID_INPUT) where a service token or group is named that is not among those given."""
    unknown_token = next(iter(sorted(wanted.token_ids - token_ids)), None)
    if unknown_token is not None:
        raise invalid(f"invalid 'include' configuration: service token not found ({unknown_token}).")
    unknown_group = next(iter(sorted(wanted.group_ids - group_ids)), None)
    if unknown_group is not None:
        raise invalid(f"invalid 'include' configuration: group not found ({unknown_group}).")


def require_expandable(root: Conditions, groups: Mapping[str, Conditions], root_id: str | None = None) -> None:
    """Raises ForegateError(INVALID_INPUT) where groups name one another in a circle, too deep or too many.

    `root_id` is the id of the group whose conditions `root` are, None for a policy's.
    """
    sizes: dict[str, tuple[int, int]] = {}

    def measure(wanted: Conditions, path: tuple[str, ...]) -> tuple[int, int]:
        size, depth = len(wanted.selectors), 0
        for group_id in wanted.group_ids:
            if group_id in path:
                raise invalid("Groups must not contain one another in a circle.", pointer="/include")
            if len(path) > MAX_GROUP_DEPTH:
                raise invalid(f"Groups may be nested {MAX_GROUP_DEPTH} deep.", pointer="/include")
            if group_id not in sizes:
                sizes[group_id] = measure(groups[group_id], (*path, group_id))
            inner_size, inner_depth = sizes[group_id]
            occurrences = sum(1 for s in wanted.selectors if s == GroupMember(group_id))
            size, depth = size + inner_size * occurrences, max(depth, inner_depth + 1)
        return size, depth

    size, depth = measure(root, (root_id,) if root_id else ())
    if depth > MAX_GROUP_DEPTH:
        raise invalid(f"Groups may be nested {MAX_GROUP_DEPTH} deep.", pointer="/include")
    if size > MAX_EXPANDED:
        raise invalid(f"With its groups this comes to {size} selectors; {MAX_EXPANDED} is the most.")


def require_unused(what: str, users: Sequence[str]) -> None:
    """Raises ForegateError(IN_USE) where `users` (names) is not empty."""
    if users:
        shown = ", ".join(repr(name) for name in users[:5])
        more = f" and {len(users) - 5} more" if len(users) > 5 else ""
        raise ForegateError(ErrorCode.IN_USE, f"This {what} is used by {shown}{more}; take it out there first.")


def _policy_draft(name: str, decision: str, body: PolicyMembers, base: str) -> PolicyDraft:
    return PolicyDraft(
        name=name,
        decision=PolicyDecision(decision),
        conditions=conditions(body, base),
        session_duration=check_session_duration(body.session_duration, f"{base}/session_duration"),
        kept=kept_values(body, POLICY_NEUTRAL),
    )


def _selectors(bodies: list[SelectorBody] | None, base: str) -> tuple[Selector, ...]:
    return tuple(_selector(body, f"{base}/{position}") for position, body in enumerate(bodies or []))


def _selector(body: SelectorBody, base: str) -> Selector:
    given = [name for name in type(body).model_fields if getattr(body, name) is not None]
    if len(given) != 1:
        names = ", ".join(type(body).model_fields)
        raise invalid(f"A selector is an object with exactly one of {names}.", pointer=base)
    if body.service_token is not None:
        return ServiceToken(_token_id(body.service_token.token_id, f"{base}/service_token/token_id"))
    if body.ip is not None:
        return _network(body.ip.ip, f"{base}/ip/ip")
    if body.group is not None:
        return GroupMember(parse_uuid(body.group.id, "group", pointer=f"{base}/group/id"))
    return Everyone() if body.everyone is not None else AnyValidServiceToken()


def _token_id(text: str, pointer: str) -> str:
    if CLIENT_ID.fullmatch(text):
        message = "invalid 'include' configuration: this is a client id; give the service token's id, a UUID."
        raise invalid(message, pointer=pointer)
    return parse_uuid(text, "service token", pointer=pointer)


def _network(text: str, pointer: str) -> Network:
    try:
        network = ip_network(text, strict=False)
        address = ip_network(text.partition("/")[0]).network_address
    except ValueError:
        message = "Give a network as CIDR, such as 192.0.2.0/24 or 2001:db8::/32, or one address."
        raise invalid(message, pointer=pointer) from None
    # Python also takes netmasks (10.0.0.0/255.0.0.0) and zone indexes (fe80::1%eth0).
    if ("/" in text and not text.partition("/")[2].isdecimal()) or "%" in text:
        raise invalid("Write the prefix as a number, such as /24, and no zone index.", pointer=pointer)
    if "/" in text and address != network.network_address:
        raise invalid(f"The address has bits behind the prefix; for that network write {network}.", pointer=pointer)
    return Network(text)
