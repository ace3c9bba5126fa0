"""What the reference expects of the edge for a request, and how answer, event and the origin's view differ from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from differential.exchange import Answer, Seen, assertion_text
from foregate.access.credentials import ID_HEADER, SECRET_HEADER, read_credentials
from foregate.access.model import Credentials, Knowledge, Request, Target
from foregate.access.rules import decide, find_ingress, plain_address, read_target
from foregate.core.decision import MEANINGS, Decision, Outcome, Reason
from foregate.core.ids import CLIENT_ID

Event = dict[str, Any]

_ABOUT_A_CLIENT = {
    Reason.TOKEN_UNKNOWN,
    Reason.SECRET_MISMATCH,
    Reason.SECRET_SUPERSEDED,
    Reason.TOKEN_DISABLED,
    Reason.TOKEN_EXPIRED,
}
_NEVER_TO_AN_ORIGIN = (ID_HEADER, SECRET_HEADER, "cf-access-token", "cf-access-authenticated-user-email")
NO_ORIGIN_STATUS = 502


@dataclass(frozen=True, slots=True)
class Expected:
    """The reference's view of one request. `client_id` is what the event shows; `token_header` the application's."""

    request: Request
    target: Target | None
    decision: Decision
    client_id: str
    token_header: str
    has_origin: bool


def expect(request: Request, known: Knowledge, now: datetime) -> Expected:
    """Judge one request by the reference."""
    target, decision = read_target(request), decide(request, known, now)
    app = known.apps.get(decision.app_id)
    token_header = app.token_header if app else ""
    presented = read_credentials(request, token_header) if decision.reason in _ABOUT_A_CLIENT else None
    client_id = decision.client_id
    if isinstance(presented, Credentials) and CLIENT_ID.fullmatch(presented.client_id):
        client_id = presented.client_id
    ingress = find_ingress(target.host, known) if target else None
    # An application never leads to another account's origin.
    has_origin = ingress is not None and (app is None or ingress.account_id == app.account_id)
    return Expected(request, target, decision, client_id, token_header, has_origin)


def status_of(expected: Expected) -> int | None:
    """The status that the caller must see; None where any will do (the edge's own paths)."""
    match MEANINGS[expected.decision.reason].outcome:
        case Outcome.REFUSED:
            return expected.decision.status
        case Outcome.ANSWERED:
            return None
        case Outcome.ALLOWED:
            return 200 if expected.has_origin else NO_ORIGIN_STATUS


def differences(expected: Expected, answer: Answer, event: Event | None) -> list[str]:
    """What does not fit, one sentence each. `event` None: HAProxy's parser refused and named no ray."""
    found = [] if event is None else _event_differences(expected, event, answer.status)
    status = status_of(expected)
    # HTTP/2 has another way to refuse what is malformed: the stream is reset (RFC 9113 8.1.1).
    is_reset = answer.status == 0 and expected.decision.reason is Reason.REQUEST_MALFORMED
    if status is not None and answer.status != status and not is_reset:
        found.append(f"status {answer.status}, expected {status}")
    is_allowed = expected.decision.is_allowed and expected.has_origin
    if (answer.seen is not None) is not is_allowed:
        found.append("reached an origin" if answer.seen else "did not reach the origin")
    elif answer.seen is not None:
        found += _origin_differences(expected, answer.seen, answer)
    if event is None and expected.decision.reason is not Reason.REQUEST_MALFORMED:
        found.append(f"no event with this answer's ray {answer.value('cf-ray')!r}")
    return found


def _event_differences(expected: Expected, event: Event, status: int) -> list[str]:
    decision, target = expected.decision, expected.target
    wanted: Event = {
        "why": decision.reason.value,
        "app": decision.app_id,
        "pol": decision.policy_id,
        "st": status,
        "m": expected.request.method,
        "ip": _address(str(plain_address(expected.request.address))),
    }
    if decision.reason is not Reason.CREDENTIALS_MALFORMED:
        wanted["id"] = expected.client_id
    if target is not None:
        wanted |= {"host": target.host, "path": target.path}
    event = event | {"ip": _address(event.get("ip", ""))}
    return [
        f"event {name} {event.get(name)!r}, expected {value!r}"
        for name, value in wanted.items()
        if event.get(name) != value
    ]


def _origin_differences(expected: Expected, seen: Seen, answer: Answer) -> list[str]:
    target, request, decision = expected.target, expected.request, expected.decision
    assert target is not None
    found = []
    if seen.target != target.path + target.query:
        found.append(f"origin saw {seen.target!r}, judged was {target.path + target.query!r}")
    found += [f"origin saw {name}" for name in _NEVER_TO_AN_ORIGIN if seen.values(name)]
    carried = read_credentials(request, expected.token_header) if expected.token_header else None
    if carried is not None and any(v.startswith("{") for v in seen.values(expected.token_header)):
        found.append(f"origin saw the credentials in {expected.token_header}")
    assertion = assertion_text(decision.app_id, decision.client_id, decision.policy_id, str(decision.session_seconds))
    wanted = {
        "cf-access-jwt-assertion": [assertion] if decision.reason is Reason.SERVICE_AUTH else [],
        "cf-ray": [answer.value("cf-ray")],
        "cf-connecting-ip": [_address(str(plain_address(request.address)))],
        "x-forwarded-proto": ["http"],
    }
    seen = replace(
        seen, headers=tuple((n, _address(v) if n.lower() == "cf-connecting-ip" else v) for n, v in seen.headers)
    )
    found += [
        f"origin saw {name} {seen.values(name)!r}, expected {value!r}"
        for name, value in wanted.items()
        if seen.values(name) != value
    ]
    if any("forged" in value for _, value in seen.headers):
        found.append("origin saw a forged header")
    return found


def _address(text: str) -> str:
    """One way to write an address: HAProxy writes ::10.0.0.1 where Python writes ::a00:1."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text
