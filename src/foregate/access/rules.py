"""What Access decides about a request: the reference. HAProxy's configuration gives the same answer and reason.

Pure: no I/O, no clock (`now` is an argument), the records are the edge's own. The differential test holds this module
and the compiled configuration together; the API and its tests explain decisions with it. Sources: RFC 9110 and 9112
for requests, reference page 1.4, 1.6 and 2.2 to 2.4 for the rest.
"""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import assert_never

from foregate.access.credentials import authenticate, read_credentials
from foregate.access.model import Credentials, Denied, Knowledge, Request, Target
from foregate.core.decision import MEANINGS, Decision, Reason
from foregate.core.targets import covers_host, matches, normalise_host, normalise_path, parse_pattern, specificity
from foregate.edge.wire import (
    AnyTokenSelector,
    AppValue,
    EveryoneSelector,
    GroupSelector,
    IngressValue,
    IpSelector,
    PolicyValue,
    Rule,
    Selector,
    TokenSelector,
)

# What lies at and below it is the edge's own, on every application's host and on the auth domain.
EDGE_PATHS = "/cdn-cgi/access/"

# With it and HEAD, cloudflared asks which application a host is, before it has credentials (reference page, 1.8).
METADATA_HEADER = "cf-access-metadata-request"

# RFC 9112 3.2: visible ASCII, and `#` never leaves a client.
_TARGET = re.compile(r"[!-\"$-~]+")
_ABSOLUTE = re.compile(r"(https?)://([^/?]*)(.*)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def decide(request: Request, known: Knowledge, now: datetime) -> Decision:
    """The one decision about a request, with its reason, status, application, policy and authenticated client id.

    `status` is the answer's where the edge answers itself, else None. Says nothing about the origin: whether it
    can be reached, or an assertion be made, is found out afterwards.
    """
    target = read_target(request)
    if target is None:
        return _plain(Reason.REQUEST_MALFORMED)
    if f"{target.path}/".startswith(EDGE_PATHS) and _is_edge_host(target.host, known):
        return _plain(Reason.EDGE_ANSWER)
    app_id = find_application(target, known)
    if app_id is None:
        return _plain(_without_application(target.host, known))
    if request.method == "HEAD" and request.values(METADATA_HEADER) == ("true",):
        return _plain(Reason.EDGE_ANSWER)
    app = known.apps[app_id]
    presented = read_credentials(request, app.token_header)
    if isinstance(presented, Credentials):
        token = authenticate(presented, app.account_id, known.tokens, known.peppers, now)
        refusal = token if isinstance(token, Denied) else None
        client_id = presented.client_id
    else:
        refusal, client_id = presented, ""
    if refusal is not None:
        return Decision(refusal.reason, MEANINGS[refusal.reason].status, app_id)
    return _by_policies(app_id, app, client_id, request.address)


def read_target(request: Request) -> Target | None:
    """Where the request goes, in normal form; None where host or target is missing, doubled or malformed."""
    if _TARGET.fullmatch(request.target) is None:
        return None
    # HAProxy's parser folds equal Host lines into one before any rule could see them; unequal ones it refuses.
    hosts = {value.lower() for value in request.values("host")}
    if len(hosts) != 1:
        return None
    (authority,) = hosts
    origin_form = request.target
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute is not None:
        if not _is_same_authority(absolute[1].lower(), absolute[2].lower(), authority):
            return None
        if absolute[3].startswith("?"):
            return None  # RFC 9110 4.2.1 allows it; HAProxy's parser takes the query for a part of the host.
        # RFC 9112 3.2.1: an empty path is sent as /.
        origin_form = absolute[3] if absolute[3].startswith("/") else f"/{absolute[3]}"
    raw_path, mark, query = origin_form.partition("?")
    host, path = normalise_host(authority), normalise_path(raw_path)
    return None if host is None or path is None else Target(host, path, mark + query)


def find_application(target: Target, known: Knowledge) -> str | None:
    """The id of the application whose most specific pattern covers the target, or None. Nothing is inherited."""
    found = [
        (specificity(pattern), app_id)
        for app_id, app in known.apps.items()
        for pattern in map(parse_pattern, app.patterns)
        if matches(pattern, target.host, target.path)
    ]
    return min(found)[1] if found else None


def find_ingress(host: str, known: Knowledge) -> IngressValue | None:
    """The ingress record of a host: its own, else that of `*.` and the rest after its first label."""
    return known.ingress.get(host) or known.ingress.get(f"*.{host.partition('.')[2]}")


def holds(rule: Rule, client_id: str, address: IPv4Address | IPv6Address) -> bool:
    """Whether any of `include`, all of `require` and none of `exclude` hold. `client_id` is authenticated or empty.

    An empty `include` never holds.
    """
    return (
        any(_selects(selector, client_id, address) for selector in rule.include)
        and all(_selects(selector, client_id, address) for selector in rule.require)
        and not any(_selects(selector, client_id, address) for selector in rule.exclude)
    )


def plain_address(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that networks are written for: a socket of both families shows IPv4 clients as ::ffff:a.b.c.d."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _selects(selector: Selector, client_id: str, address: IPv4Address | IPv6Address) -> bool:
    match selector:
        case TokenSelector(wanted):
            return client_id == wanted
        case AnyTokenSelector():
            return client_id != ""
        case EveryoneSelector():
            return True
        case IpSelector(network):
            return plain_address(address) in ip_network(network)
        case GroupSelector(rule):
            return holds(rule, client_id, address)
        case _:
            assert_never(selector)


def _by_policies(app_id: str, app: AppValue, client_id: str, address: IPv4Address | IPv6Address) -> Decision:
    """First pass over bypass and service auth, then deny; so a deny cannot take back what the first pass gave."""

    def made(reason: Reason, policy: PolicyValue | None = None, status: int | None = None) -> Decision:
        seconds = policy.session_seconds if policy and reason is Reason.SERVICE_AUTH else 0
        answer = status or MEANINGS[reason].status
        return Decision(reason, answer, app_id, policy.policy_id if policy else "", client_id, seconds)

    for policy in app.policies:
        if policy.decision == "bypass" and holds(policy.rule, client_id, address):
            return made(Reason.BYPASS, policy)
        if policy.decision == "non_identity" and client_id and holds(policy.rule, client_id, address):
            return made(Reason.SERVICE_AUTH, policy)
    for policy in app.policies:
        if policy.decision == "deny" and holds(policy.rule, client_id, address):
            return made(Reason.POLICY_DENIED, policy)
    if client_id:
        return made(Reason.NO_POLICY_MATCHED)
    return made(Reason.NO_CREDENTIALS, status=app.no_credentials_status)


def _without_application(host: str, known: Knowledge) -> Reason:
    ingress = find_ingress(host, known)
    account = known.accounts.get(ingress.account_id) if ingress else None
    if account is None:
        return Reason.NO_APPLICATION
    is_open = not account.denies_unmatched_requests or host in account.exempted_hosts
    return Reason.UNPROTECTED_HOST if is_open else Reason.NO_APPLICATION


def _is_edge_host(host: str, known: Knowledge) -> bool:
    if any(account.auth_domain == host for account in known.accounts.values()):
        return True
    patterns = (parse_pattern(text) for app in known.apps.values() for text in app.patterns)
    return any(covers_host(pattern.host, host) for pattern in patterns)


def _is_same_authority(scheme: str, given: str, host: str) -> bool:
    port = _DEFAULT_PORTS[scheme]
    return "@" not in given and given.removesuffix(port).rstrip(":") == host.removesuffix(port).rstrip(":")


def _plain(reason: Reason) -> Decision:
    return Decision(reason, MEANINGS[reason].status)
