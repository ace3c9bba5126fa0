"""An application's checks and steps as configuration lines, run in its backend. One variable for each check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from foregate.engines.haproxy.config import (
    Action,
    Always,
    Application,
    Authenticated,
    Check,
    ClientIn,
    Holds,
    SourceIn,
    Step,
    Term,
)
from foregate.engines.haproxy.words import NAME, NETWORK, Lists, checked


def policy_lines(app: Application, lists: Lists) -> Iterator[str]:
    """Set `txn.why`, `txn.pol` and, for service auth, `txn.session`; leave them unset where no step holds."""
    for number, check in enumerate(app.checks):
        yield from _check_lines(number, check, lists)
    for step in app.steps:
        yield from _step_lines(step)


def _check_lines(number: int, check: Check, lists: Lists) -> Iterator[str]:
    """A variable that is there where the check holds: put there by any of `include`, taken away by what forbids it."""
    name = f"txn.check{number}"
    for term in check.include:
        yield f"http-request set-var({name}) bool(true) if {_condition(term, lists)}"
    for term in check.require:
        yield f"http-request unset-var({name}) unless {_condition(term, lists)}"
    for term in check.exclude:
        yield f"http-request unset-var({name}) if {_condition(term, lists)}"


def _condition(term: Term, lists: Lists) -> str:
    match term:
        case Authenticated():
            return "{ var(txn.client) -m found }"
        case ClientIn(client_ids):
            return f"{{ var(txn.client) -m str {lists.words(client_ids, NAME)} }}"
        case SourceIn(networks):
            return _source(networks, lists)
        case Always():
            return "TRUE"
        case Holds(index):
            return f"{{ var(txn.check{index}) -m found }}"
        case _:
            assert_never(term)


def _source(networks: tuple[str, ...], lists: Lists) -> str:
    """Networks hold addresses of their own family. HAProxy alone would also find an IPv4 address in ::/0, and in an
    IPv4 network the IPv6 addresses that hold another in them (6to4, RFC 3056; IPv4-compatible, RFC 4291)."""
    plain = [network for network in networks if ":" not in network]
    longer = [network for network in networks if ":" in network]
    found = []
    if plain:
        found.append(f"{{ src {lists.words(plain, NETWORK)} }} !{{ src -m sub : }}")
    if longer:
        found.append(f"{{ src {lists.words(longer, NETWORK)} }} {{ src -m sub : }}")
    return " or ".join(found)


def _step_lines(step: Step) -> Iterator[str]:
    holds = f"!is_judged {{ var(txn.check{step.check}) -m found }}"
    if step.action is Action.SERVICE_AUTH:
        holds += " { var(txn.client) -m found }"
        yield f"http-request set-var(txn.session) int({step.session_seconds}) if {holds}"
    yield f"http-request set-var(txn.pol) str({checked(NAME, step.policy_id)}) if {holds}"
    yield f"http-request set-var(txn.why) str({step.action.value}) if {holds}"
