"""What the reference expects of the edge for a request, and how answer, event and the origin's view differ from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from differential.exchange import Answer, Seen, assertion_text
from foregate.access.credentials import ID_HEADER, SECRET_HEADER, read_credentials
from foregate.access.model import Credentials, Knowledge, Request, Target
from foregate.access.rules import EDGE_PATHS, decide, find_ingress, plain_address, read_target
from foregate.core.decision import MEANINGS, Decision, Outcome, Reason
from foregate.core.ids import CLIENT_ID
from foregate.edge.wire import AppValue

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
    """The reference's view of one request. `client_id` and `account_id` are what the event shows."""

    request: Request
    target: Target | None
    decision: Decision
    app: AppValue | None
    client_id: str
    account_id: str
    has_origin: bool


def expect(request: Request, known: Knowledge, now: datetime) -> Expected:
    """Judge one request by the reference."""
    target, decision = read_target(request), decide(request, known, now)
    app = known.apps.get(decision.app_id)
    presented = read_credentials(request, app.token_header) if app and decision.reason in _ABOUT_A_CLIENT else None
    client_id = decision.client_id
    if isinstance(presented, Credentials) and CLIENT_ID.fullmatch(presented.client_id):
        client_id = presented.client_id
    ingress = find_ingress(target.host, known) if target else None
    account_id = app.account_id if app else ingress.account_id if ingress else ""
    # An application never leads to another account's origin.
    has_origin = ingress is not None and ingress.account_id == account_id
    return Expected(request, target, decision, app, client_id, account_id, has_origin)


def status_of(expected: Expected) -> int:
    """The status that the caller must see."""
    match MEANINGS[expected.decision.reason].outcome:
        case Outcome.REFUSED:
            return expected.decision.status or 0
        case Outcome.ANSWERED:
            return 404 if _is_below_edge_paths(expected) and not _asks_for_keys(expected) else 200
        case Outcome.ALLOWED:
            return 200 if expected.has_origin else NO_ORIGIN_STATUS


def differences(expected: Expected, answer: Answer, event: Event | None) -> list[str]:
    """What does not fit, one sentence each. `event` None: HAProxy's parser refused and named no ray."""
    found = [] if event is None else _event_differences(expected, event, answer.status)
    status = status_of(expected)
    # HTTP/2 has another way to refuse what is malformed: the stream is reset (RFC 9113 8.1.1).
    is_reset = answer.status == 0 and expected.decision.reason is Reason.REQUEST_MALFORMED
    if answer.status != status and not is_reset:
        found.append(f"status {answer.status}, expected {status}")
    is_allowed = expected.decision.is_allowed and expected.has_origin
    if (answer.seen is not None) is not is_allowed:
        found.append("reached an origin" if answer.seen else "did not reach the origin")
    elif answer.seen is not None:
        found += _origin_differences(expected, answer.seen, answer)
    if event is not None and not expected.decision.is_allowed:
        found += _answer_differences(expected, answer)
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
    if decision.is_allowed or decision.app_id:
        wanted["acct"] = expected.account_id
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


def _answer_differences(expected: Expected, answer: Answer) -> list[str]:
    """What the edge says itself: nothing that is kept, and nothing that tells more than it must."""
    if expected.decision.reason is Reason.EDGE_ANSWER:
        shown = answer.value("cf-access-metadata") if not _is_below_edge_paths(expected) else "none is asked for"
        return [] if shown else ["no metadata"]
    app, is_json = expected.app, "application/json" in "".join(expected.request.values("accept")).lower()
    wanted = {
        "cf-access-aud": app.aud if app else "",
        "cf-access-domain": app.domain if app else "",
        "cache-control": "no-store",
        "www-authenticate": "Cloudflare-Access" if answer.status == 401 else "",
        "content-type": "application/json" if is_json else "text/html; charset=utf-8",
    }
    found = [
        f"answer's {name} {answer.value(name)!r}, expected {value!r}"
        for name, value in wanted.items()
        if answer.value(name) != value
    ]
    if is_json and expected.request.method != "HEAD":
        body = json.loads(answer.body)
        told = (body["status_code"], body["aud"], body["ray_id"], bool(body["message"]))
        if told != (answer.status, app.aud if app else "", answer.value("cf-ray"), True):
            found.append(f"answer's body {answer.body!r}")
    return found


def _is_below_edge_paths(expected: Expected) -> bool:
    return expected.target is not None and f"{expected.target.path}/".startswith(EDGE_PATHS)


def _asks_for_keys(expected: Expected) -> bool:
    return expected.target is not None and expected.target.path == f"{EDGE_PATHS}certs"


def _origin_differences(expected: Expected, seen: Seen, answer: Answer) -> list[str]:
    target, request, decision = expected.target, expected.request, expected.decision
    assert target is not None
    found = []
    if seen.target != target.path + target.query:
        found.append(f"origin saw {seen.target!r}, judged was {target.path + target.query!r}")
    found += [f"origin saw {name}" for name in _NEVER_TO_AN_ORIGIN if seen.values(name)]
    own = expected.app.token_header if expected.app else ""
    if own and any(value.startswith("{") for value in seen.values(own)):
        found.append(f"origin saw the credentials in {own}")
    address = _address(str(plain_address(request.address)))
    assertion = assertion_text(decision.app_id, decision.client_id, decision.policy_id, str(decision.session_seconds))
    wanted = {
        "cf-access-jwt-assertion": [assertion] if decision.reason is Reason.SERVICE_AUTH else [],
        "cf-ray": [answer.value("cf-ray")],
        "cf-connecting-ip": [address],
        "x-forwarded-for": [address],
        "x-forwarded-proto": ["http"],
        "cookie": _cookies(request.values("cookie")),
    }
    got = {name: seen.values(name) for name in wanted}
    got |= {name: [_address(text) for text in got[name]] for name in ("cf-connecting-ip", "x-forwarded-for")}
    # A cookie line that holds two of them is dropped as a whole; HTTP/2 makes one line of all.
    is_doubled = "; ".join(request.values("cookie")).lower().count("cf_authorization") > 1
    got["cookie"] = wanted["cookie"] if is_doubled else _cookies(got["cookie"])
    found += [
        f"origin saw {name} {got[name]!r}, expected {value!r}" for name, value in wanted.items() if got[name] != value
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


def _cookies(values: Iterable[str]) -> list[str]:
    """The cookies but the edge's own."""
    pairs = (pair.strip() for value in values for pair in value.split(";"))
    return [pair for pair in pairs if "=" in pair and not pair.lower().startswith("cf_authorization=")]
