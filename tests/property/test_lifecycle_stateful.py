"""The life of tokens in any order: create, rotate, refresh, rename, disable, enable, expire, delete, use, restarts.

Hypothesis draws the order, a small model says what must follow, and a real Foregate is asked after every step. The
invariants are those of the architecture, each under its own name. TEST_SEED draws another order, and replays one;
TEST_STATEFUL_EXAMPLES makes it longer. A failure is not made smaller, as every try would cost seconds: the steps are
printed as they were.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from harness.origin import Origin, running_origin
from harness.processes import kill
from harness.product import Foregate, running_foregate
from harness.things import App, Token, allow, create_app, until_status
from harness.waiting import until

SEED = int(os.environ.get("TEST_SEED", "1"))
EXAMPLES = int(os.environ.get("TEST_STATEFUL_EXAMPLES", "6"))
STEPS = 30
TOKENS = "/access/service_tokens"
# The supervisor gives up, as it should, on a child that dies ten times within a minute.
MOST_KILLS = 7


@dataclass(slots=True, eq=False)
class Known:
    """What the model knows of a token. `dead`: secrets that must never work again."""

    token: Token
    name: str
    is_enabled: bool = True
    expires_at: datetime | None = None
    previous: tuple[str, datetime] | None = None
    version: int = 1
    dead: list[str] = field(default_factory=list)
    is_deleted: bool = False
    last_seen_at: datetime | None = None

    def expected(self, secret: str, now: datetime) -> int:
        """The status that a request with that secret must get."""
        if self.is_deleted or not self.is_enabled or (self.expires_at is not None and now >= self.expires_at):
            return 401
        if secret == self.token.secret:
            return 200
        return 200 if self.previous is not None and self.previous[0] == secret and now < self.previous[1] else 401

    def replaced(self, secret: str, previous_ends_at: datetime | None) -> None:
        """A new secret was issued."""
        if self.previous is not None:
            self.dead.append(self.previous[0])
        self.previous = None
        if previous_ends_at is None:
            self.dead.append(self.token.secret)
        else:
            self.previous = (self.token.secret, previous_ends_at)
        self.token = self.token.with_secret(secret)
        self.version += 1


@dataclass(slots=True)
class Ground:
    """The Foregate under test, and an application that lets in every valid token."""

    foregate: Foregate
    app: App


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with running_origin() as origin, running_foregate() as foregate:
        yield prepared(foregate, origin)


def prepared(foregate: Foregate, origin: Origin) -> Ground:
    app = create_app(foregate, origin.service, [allow()])
    until_status(foregate, app.host, None, 403)
    return Ground(foregate, app)


class LifeOfTokens(RuleBasedStateMachine):
    """One drawn order of steps. `ground` is set by the test."""

    ground: ClassVar[Ground]
    kills: ClassVar[Counter[str]]
    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.foregate = self.ground.foregate
        self.api = self.foregate.api()
        self.known: list[Known] = []
        self.digests: dict[tuple[str, int], bytes] = {}
        self.steps: list[str] = []

    @initialize(target=tokens)
    def first_token(self) -> Known:
        return self._create("8760h", True)

    @rule(target=tokens, duration=st.sampled_from(["8760h", "forever", "1h30m"]), is_enabled=st.booleans())
    def create(self, duration: str, is_enabled: bool) -> Known:
        return self._create(duration, is_enabled)

    @rule(known=tokens, has_overlap=st.booleans(), by_version=st.booleans())
    def rotate(self, known: Known, has_overlap: bool, by_version: bool) -> None:
        self._note("rotate", known)
        ends_at = now() + timedelta(hours=1) if has_overlap else None
        body: dict[str, Any] = {} if ends_at is None else {"previous_client_secret_expires_at": ends_at.isoformat()}
        if by_version:
            body["client_secret_version"] = known.version + 1
        method, path = ("PUT", "") if by_version else ("POST", "/rotate")
        answer = self.api.result(method, f"{TOKENS}/{known.token.id}{path}", body)
        known.replaced(answer["client_secret"], ends_at)
        self._settle(known)

    @rule(known=tokens)
    def end_the_previous_secret(self, known: Known) -> None:
        self._note("end the previous secret", known)
        past = (now() - timedelta(seconds=1)).isoformat()
        body = {"client_secret_version": known.version, "previous_client_secret_expires_at": past}
        answer = self.api.account("PUT", f"{TOKENS}/{known.token.id}", body)
        assert answer.status in (200, 400)
        if answer.status == 200 and known.previous is not None:
            known.dead.append(known.previous[0])
            known.previous = None
        self._settle(known)

    @rule(known=tokens)
    def refresh(self, known: Known) -> None:
        self._note("refresh", known)
        answer = self.api.result("POST", f"{TOKENS}/{known.token.id}/refresh")
        known.expires_at = expiry(answer)
        assert known.expires_at is None or known.expires_at > now() + timedelta(days=360)
        self._settle(known)

    @rule(known=tokens, is_enabled=st.booleans())
    def switch(self, known: Known, is_enabled: bool) -> None:
        self._note("switch", known)
        self.api.result("PUT", f"{TOKENS}/{known.token.id}", {"enabled": is_enabled})
        known.is_enabled = is_enabled
        self._settle(known)

    @rule(known=tokens, name=st.sampled_from(["a", "another name", "ünïcode", "{json}"]))
    def rename(self, known: Known, name: str) -> None:
        self._note("rename", known)
        self.api.result("PUT", f"{TOKENS}/{known.token.id}", {"name": name})
        known.name = name
        self._settle(known)

    @rule(known=tokens)
    def expire(self, known: Known) -> None:
        self._note("expire", known)
        answer = self.api.result("PUT", f"{TOKENS}/{known.token.id}", {"duration": "1ms"})
        known.expires_at = expiry(answer)
        until(lambda: known.expires_at is not None and now() >= known.expires_at, 5, "the token's time is over")
        self._settle(known)

    @rule(known=consumes(tokens))
    def delete(self, known: Known) -> None:
        self._note("delete", known)
        self.api.result("DELETE", f"{TOKENS}/{known.token.id}")
        known.is_deleted = True
        self._settle(known)

    @rule(known=tokens, masked=st.sampled_from(["", "****", "[REDACTED]", "cfast_short", None]))
    def write_back_a_masked_secret(self, known: Known, masked: str | None) -> None:
        """What a program does that reads a redacted token and writes it back: refused, and nothing changes."""
        self._note("write back a masked secret", known)
        body = {"name": "written back", "client_secret": masked}
        answer = self.api.account("PUT", f"{TOKENS}/{known.token.id}", body)
        assert answer.status == 400
        self._check_at_once(known)

    @rule(known=tokens, times=st.integers(1, 5))
    def use(self, known: Known, times: int) -> None:
        self._note("use", known)
        with self.foregate.connect() as connection:
            for _ in range(times):
                headers = [("Host", self.ground.app.host), *known.token.headers]
                status = connection.request("GET", "/", headers).status
                assert status == known.expected(known.token.secret, now())

    @rule(name=st.sampled_from(["api", "worker", "edge", "haproxy"]))
    def kill_and_see_it_again(self, name: str) -> None:
        if self.kills[name] >= MOST_KILLS:
            return
        self.kills[name] += 1
        self.steps.append(f"kill {name}")
        for process in self.foregate.processes(name):
            kill(process)
        until(lambda: self.foregate.processes(name), 10, f"{name} is there again", every=0.05)
        until(lambda: self.api.account("GET", f"{TOKENS}?per_page=1").status == 200, 10, "the API answers")
        until(lambda: self.foregate.get(self.ground.app.host).status == 403, 10, "the edge answers")

    @invariant()
    def token_that_works_keeps_working_and_a_refused_one_stays_refused(self) -> None:
        """Whatever else was written: every token, asked at once, without waiting."""
        for known in self.known:
            self._check_at_once(known)

    @invariant()
    def no_writer_but_issue_and_rotate_ever_creates_a_secret_version_and_nothing_changes_a_digest(self) -> None:
        mine = {known.token.id: known.version for known in self.known}
        found = {pair: digest for pair, digest in stored_digests(self.foregate).items() if pair[0] in mine}
        assert {(token_id, number + 1) for token_id, count in mine.items() for number in range(count)} == set(found)
        for pair, digest in self.digests.items():
            assert found[pair] == digest
        self.digests = found
        assert len(set(found.values())) == len(found), "no two secrets are the same"

    @invariant()
    def answers_show_a_token_as_it_is_and_no_secret(self) -> None:
        listed = {token["id"]: token for token in self.api.result("GET", TOKENS)}
        for known in self.known:
            assert (known.token.id in listed) is not known.is_deleted
            if known.is_deleted:
                continue
            shown = listed[known.token.id]
            assert (shown["name"], shown["enabled"]) == (known.name, known.is_enabled)
            assert (shown["client_id"], shown["client_secret_version"]) == (known.token.client_id, known.version)
            assert expiry(shown) == known.expires_at
            assert not shown.get("client_secret")
            self._last_seen_never_goes_back(known, shown)

    def teardown(self) -> None:
        """Leave an empty field for the next order of steps.

        Hypothesis tries a failure again before it tells of it, and a real product's second try may go another way: so
        the first one is told here.
        """
        if sys.exc_info()[0] is not None:
            print("\n".join(["the first failure, after:", *self.steps, traceback.format_exc()]))
        for known in self.known:
            if not known.is_deleted:
                self.api.result("DELETE", f"{TOKENS}/{known.token.id}")

    def _last_seen_never_goes_back(self, known: Known, shown: dict[str, Any]) -> None:
        seen = None if shown["last_seen_at"] is None else datetime.fromisoformat(shown["last_seen_at"])
        if known.last_seen_at is not None:
            assert seen is not None and seen >= known.last_seen_at
        known.last_seen_at = seen

    def _create(self, duration: str, is_enabled: bool) -> Known:
        body = {"name": "some token", "duration": duration, "enabled": is_enabled}
        made = self.api.result("POST", TOKENS, body)
        token = Token(made["id"], made["client_id"], made["client_secret"])
        known = Known(token, "some token", is_enabled, expiry(made))
        self.known.append(known)
        self._note("create", known)
        self._settle(known)
        return known

    def _note(self, step: str, known: Known) -> None:
        self.steps.append(f"{step} token {self.known.index(known)}, {known.is_enabled=} {known.expires_at=}")

    def _settle(self, known: Known) -> None:
        """A change is on its way: wait until the edge has it. From then on nothing may waver."""
        host = self.ground.app.host
        until_status(self.foregate, host, known.token, known.expected(known.token.secret, now()))
        if known.previous is not None:
            secret = known.previous[0]
            until_status(self.foregate, host, known.token.with_secret(secret), known.expected(secret, now()))
        for secret in known.dead[-1:]:
            until_status(self.foregate, host, known.token.with_secret(secret), 401)

    def _check_at_once(self, known: Known) -> None:
        secrets = [known.token.secret, *known.dead, *([known.previous[0]] if known.previous else [])]
        with self.foregate.connect() as connection:
            for secret in secrets:
                headers = [("Host", self.ground.app.host), *known.token.with_secret(secret).headers]
                assert connection.request("GET", "/", headers).status == known.expected(secret, now())


def now() -> datetime:
    return datetime.now(UTC)


def expiry(answer: dict[str, Any]) -> datetime | None:
    return datetime.fromisoformat(answer["expires_at"]) if answer["expires_at"] else None


def stored_digests(foregate: Foregate) -> dict[tuple[str, int], bytes]:
    """Every secret version as it lies in the records."""
    path = foregate.home / "records.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        rows = connection.execute("SELECT token_id, version, digest FROM secret_versions").fetchall()
    return {(token_id, version): digest for token_id, version, digest in rows}


def test_invariants_of_tokens_hold_in_any_order_of_their_life(ground: Ground) -> None:
    LifeOfTokens.ground, LifeOfTokens.kills = ground, Counter()
    print(f"replay with TEST_SEED={SEED}")
    run_state_machine_as_test(
        seed(SEED)(LifeOfTokens),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
