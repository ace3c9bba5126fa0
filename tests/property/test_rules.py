"""What must hold of every decision, whatever the policies, tokens and requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge_values import EVERYONE, NOW, client_id, policy, rule, secret_of, secret_version, token
from foregate.access.model import Knowledge, Request
from foregate.access.rules import decide
from foregate.core.clock import to_unix
from foregate.core.decision import MEANINGS, Decision, Outcome, Reason
from foregate.edge.parsing import parse_app, parse_token
from worlds import TOKENS, World, change_token, draw_requests, draw_world

AUTHENTICATED = {Reason.SERVICE_AUTH, Reason.BYPASS, Reason.POLICY_DENIED, Reason.NO_POLICY_MATCHED}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, list[Request], Random]:
    random = Random(draw(st.integers(0, 2**32)))
    world = draw_world(random, NOW)
    return world, draw_requests(random, world.known, 12), random


def decisions(known: Knowledge, asked: list[Request]) -> list[Decision]:
    return [decide(one, known, NOW) for one in asked]


def with_policies(known: Knowledge, first: str | None = None, last: str | None = None) -> Knowledge:
    """Every application with one more policy for everyone, at either end."""
    before = (policy("first", first),) if first else ()
    after = (policy("last", last),) if last else ()
    return replace(
        known, apps={name: replace(app, policies=before + app.policies + after) for name, app in known.apps.items()}
    )


@given(worlds())
def test_decision_is_of_the_closed_list_and_consistent(drawn: tuple[World, list[Request], Random]) -> None:
    world, asked, _ = drawn

    for decision in decisions(world.known, asked):
        meaning = MEANINGS[decision.reason]
        assert (decision.status is None) == (meaning.outcome is not Outcome.REFUSED)
        assert decision.app_id in ("", *world.known.apps)
        assert not decision.client_id or decision.reason in AUTHENTICATED
        assert (decision.session_seconds > 0) == (decision.reason is Reason.SERVICE_AUTH)
        if decision.reason in (Reason.SERVICE_AUTH, Reason.BYPASS, Reason.POLICY_DENIED):
            chosen = [p for p in world.known.apps[decision.app_id].policies if p.policy_id == decision.policy_id]
            assert len(chosen) == 1


@given(worlds())
def test_service_auth_always_has_a_live_enabled_token_of_the_application_s_account(
    drawn: tuple[World, list[Request], Random],
) -> None:
    world, asked, _ = drawn

    for one in asked:
        decision = decide(one, world.known, NOW)
        if decision.client_id:
            value = world.known.tokens[decision.client_id]
            assert value.is_enabled
            assert value.account_id == world.known.apps[decision.app_id].account_id
            assert value.expires_at is None or value.expires_at > to_unix(NOW)
            assert any(
                secret.removeprefix("cfast_") in str(one.headers)
                for (number, _), secret in world.secrets.items()
                if client_id(number) == decision.client_id
            )


@given(worlds(), st.sampled_from(["disable", "expire", "delete", "move", "supersede"]))
def test_taking_a_token_away_never_allows_more(drawn: tuple[World, list[Request], Random], how: str) -> None:
    world, asked, random = drawn
    name = client_id(random.randint(1, TOKENS))
    value = world.known.tokens[name]
    tokens = dict(world.known.tokens)
    match how:
        case "disable":
            tokens[name] = replace(value, is_enabled=False)
        case "expire":
            tokens[name] = replace(value, expires_at=to_unix(NOW))
        case "delete":
            del tokens[name]
        case "move":
            tokens[name] = replace(value, account_id="c" * 32)
        case _:
            tokens[name] = replace(value, secrets=(secret_version(98), replace(value.secrets[0], expires_at=1)))

    before, after = decisions(world.known, asked), decisions(replace(world.known, tokens=tokens), asked)

    for old, new in zip(before, after, strict=True):
        assert new == old or not new.is_allowed
        assert new.client_id != name


@given(worlds())
def test_adding_or_changing_an_unrelated_token_changes_nothing(drawn: tuple[World, list[Request], Random]) -> None:
    world, asked, random = drawn
    number = random.randint(1, TOKENS)
    others = [one for one in asked if client_id(number)[:32] not in str(one.headers).lower()]
    tokens = {**world.known.tokens, client_id(50): token(50), client_id(number): change_token(random, number, NOW)}

    assert decisions(replace(world.known, tokens=tokens), others) == decisions(world.known, others)


@given(worlds())
def test_deny_never_allows_more_and_a_first_pass_match_comes_before_it(
    drawn: tuple[World, list[Request], Random],
) -> None:
    world, asked, _ = drawn

    before = decisions(world.known, asked)
    assert decisions(with_policies(world.known, last="deny"), asked) == [
        replace(d, reason=Reason.POLICY_DENIED, status=403, policy_id="last")
        if d.reason in (Reason.NO_POLICY_MATCHED, Reason.NO_CREDENTIALS)
        else d
        for d in before
    ]
    for old, new in zip(before, decisions(with_policies(world.known, first="deny"), asked), strict=True):
        assert new.is_allowed == old.is_allowed


@given(worlds())
def test_bypass_for_everyone_opens_an_application_only_to_callers_without_bad_credentials(
    drawn: tuple[World, list[Request], Random],
) -> None:
    world, asked, _ = drawn

    before = decisions(world.known, asked)
    after = decisions(with_policies(world.known, first="bypass"), asked)

    for old, new in zip(before, after, strict=True):
        if old.status == 401 and old.reason is not Reason.NO_CREDENTIALS:
            assert new == old
        elif old.app_id:
            assert (new.reason, new.client_id) == (Reason.BYPASS, old.client_id)
        else:
            assert new == old


@given(worlds())
def test_without_policies_no_application_lets_anybody_in(drawn: tuple[World, list[Request], Random]) -> None:
    world, asked, _ = drawn
    apps = {name: replace(app, policies=()) for name, app in world.known.apps.items()}

    assert not any(d.app_id and d.is_allowed for d in decisions(replace(world.known, apps=apps), asked))


@given(worlds())
def test_order_of_records_and_of_other_headers_does_not_matter(drawn: tuple[World, list[Request], Random]) -> None:
    world, asked, random = drawn
    apps = list(world.known.apps.items())
    random.shuffle(apps)
    shuffled = []
    for one in asked:
        headers = list(one.headers)
        random.shuffle(headers)
        shuffled.append(replace(one, headers=tuple(headers)))

    assert decisions(replace(world.known, apps=dict(apps)), shuffled) == decisions(world.known, asked)


@given(worlds())
def test_what_an_edge_is_sent_is_what_is_judged(drawn: tuple[World, list[Request], Random]) -> None:
    world, asked, _ = drawn
    apps = {name: parse_app(app.to_wire()) for name, app in world.known.apps.items()}
    tokens = {name: parse_token(value.to_wire()) for name, value in world.known.tokens.items()}

    assert decisions(replace(world.known, apps=apps, tokens=tokens), asked) == decisions(world.known, asked)


@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([1, 2]))
def test_time_only_ever_takes_away(overlap_end: int, token_end: int, version: int) -> None:
    moment = to_unix(NOW)
    secrets = (secret_version(1, 2), secret_version(1, 1, ends=moment + overlap_end))
    value = token(1, secrets=secrets, ends=moment + token_end)
    headers = (
        ("Host", "a.test"),
        ("cf-access-client-id", client_id(1)),
        ("cf-access-client-secret", secret_of(1, version)),
    )
    world = draw_world(Random(0), NOW)
    guarded = replace(
        next(iter(world.known.apps.values())),
        account_id=value.account_id,
        patterns=("a.test",),
        policies=(policy("p", "non_identity", rule(EVERYONE)),),
    )
    known = replace(world.known, apps={"a": guarded}, tokens={client_id(1): value})
    request = replace(draw_requests(Random(0), known, 1)[0], target="/", headers=headers)

    allowed = [decide(request, known, NOW + timedelta(seconds=step)).is_allowed for step in range(-6, 7)]

    assert allowed == sorted(allowed, reverse=True)
    last = min(token_end, overlap_end if version == 1 else token_end)
    assert sum(allowed) == last + 6
