"""Applications and their policies to HAProxy checks and steps. Pure; same order and outcome as `access/rules.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from foregate.edge.wire import (
    AnyTokenSelector,
    AppValue,
    EveryoneSelector,
    GroupSelector,
    IpSelector,
    PolicyValue,
    Rule,
    Selector,
    TokenSelector,
)
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

_ACTIONS = {"bypass": Action.BYPASS, "non_identity": Action.SERVICE_AUTH, "deny": Action.DENY}


def compile_application(app_id: str, app: AppValue, mark: str) -> Application:
    """The application's policies as checks and steps. `mark` changes with all that its outcomes depend on."""
    checks = _Checks()
    # A deny cannot take back what an earlier pass gave: bypass and service auth come first, whatever their precedence.
    first = [policy for policy in app.policies if policy.decision != "deny"]
    second = [policy for policy in app.policies if policy.decision == "deny"]
    steps = tuple(_step(policy, checks) for policy in (*first, *second))
    return Application(
        app_id=app_id,
        app_key=f"{app_id}.{mark}",
        account_id=app.account_id,
        aud=app.aud,
        domain=app.domain,
        no_credentials_status=app.no_credentials_status,
        token_header=app.token_header,
        is_steady=not any(_looks_at_address(policy.rule) for policy in app.policies),
        checks=tuple(checks.found),
        steps=steps,
    )


def needs_token(app: AppValue) -> bool:
    """Whether a request without credentials has one possible outcome: no_credentials."""
    return all(policy.decision == "non_identity" for policy in app.policies)


def _step(policy: PolicyValue, checks: _Checks) -> Step:
    action = _ACTIONS[policy.decision]
    return Step(checks.number(policy.rule), action, policy.policy_id, policy.session_seconds)


class _Checks:
    """The checks of one application: each rule once, what it refers to before it."""

    def __init__(self) -> None:
        self.found: list[Check] = []
        self._numbers: dict[Rule, int] = {}

    def number(self, rule: Rule) -> int:
        """The number of the rule's check, made if it is new."""
        if rule not in self._numbers:
            check = Check(
                include=tuple(self._merged(rule.include)),
                require=tuple(self._term(selector) for selector in rule.require),
                exclude=tuple(self._merged(rule.exclude)),
            )
            self.found.append(check)
            self._numbers[rule] = len(self.found) - 1
        return self._numbers[rule]

    def _merged(self, selectors: Iterable[Selector]) -> Iterable[Term]:
        """Any of these: ids in one term, networks in one, so that a list of a thousand is one look-up."""
        terms = [self._term(selector) for selector in selectors]
        ids = tuple(i for term in terms if isinstance(term, ClientIn) for i in term.client_ids)
        networks = tuple(n for term in terms if isinstance(term, SourceIn) for n in term.networks)
        if ids:
            yield ClientIn(ids)
        if networks:
            yield SourceIn(networks)
        yield from dict.fromkeys(term for term in terms if not isinstance(term, ClientIn | SourceIn))

    def _term(self, selector: Selector) -> Term:
        match selector:
            case TokenSelector(client_id):
                return ClientIn((client_id,))
            case AnyTokenSelector():
                return Authenticated()
            case EveryoneSelector():
                return Always()
            case IpSelector(network):
                return SourceIn((network,))
            case GroupSelector(rule):
                return Holds(self.number(rule))
            case _:
                assert_never(selector)


def _looks_at_address(rule: Rule) -> bool:
    return any(
        isinstance(selector, IpSelector) or (isinstance(selector, GroupSelector) and _looks_at_address(selector.rule))
        for selector in (*rule.include, *rule.require, *rule.exclude)
    )
