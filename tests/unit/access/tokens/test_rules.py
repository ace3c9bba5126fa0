"""The life of a service token as a table: what each call makes of each state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foregate.access.tokens import rules
from foregate.access.tokens.model import (
    EnabledSet,
    ExpiryMoved,
    NewToken,
    PreviousEndMoved,
    Renamed,
    SecretReplaced,
    ServiceToken,
    TokenChange,
    TokenPatch,
)
from foregate.core.errors import ErrorCode, ForegateError

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
PAST = NOW - timedelta(days=1)


def token(**columns: object) -> ServiceToken:
    """A token of version 2 whose first secret is alive until LATER."""
    made = ServiceToken(
        id="id",
        account_id="account",
        client_id="client",
        name="name",
        duration="8760h",
        is_enabled=True,
        expires_at=NOW + timedelta(days=30),
        secret_version=2,
        previous_secret_version=1,
        previous_secret_expires_at=LATER,
        created_at=PAST,
        updated_at=PAST,
    )
    return replace(made, **columns)  # type: ignore[arg-type]


def issue(now: datetime = NOW, **asked: object) -> ServiceToken:
    new = NewToken(**{"name": "name", "duration": "1h", **asked})  # type: ignore[arg-type]
    return rules.issue(new, token_id="id", client_id="client", account_id="account", now=now)


def update(state: ServiceToken, patch: TokenPatch, *, has_previous: bool = True) -> tuple[TokenChange, ...]:
    return rules.update(state, patch, NOW, has_previous_secret=has_previous)


@pytest.mark.parametrize(
    ("duration", "now", "end"),
    [
        ("1h", NOW, NOW + timedelta(hours=1)),
        ("8760h", NOW, NOW + timedelta(days=365)),
        ("1h", NOW + timedelta(microseconds=1), NOW + timedelta(hours=1, seconds=1)),
        ("1us", NOW + timedelta(microseconds=1), NOW + timedelta(seconds=1)),
        ("forever", NOW, None),
    ],
)
def test_issued_token_ends_after_its_duration_and_never_before(
    duration: str, now: datetime, end: datetime | None
) -> None:
    assert issue(now, duration=duration).expires_at == end


@pytest.mark.parametrize(("asked", "version"), [(0, 1), (1, 1), (7, 7)])
def test_issued_token_has_the_version_asked_for(asked: int, version: int) -> None:
    assert issue(secret_version=asked).secret_version == version


def test_issued_token_gives_a_declared_date_back_without_opening_anything() -> None:
    made = issue(secret_version=2, previous_secret_expires_at=LATER)
    assert (made.previous_secret_version, made.previous_secret_expires_at) == (1, LATER)


@pytest.mark.parametrize(
    ("patch", "changes"),
    [
        (TokenPatch(), ()),
        (TokenPatch(name="name"), ()),
        (TokenPatch(name="other"), (Renamed("other"),)),
        (TokenPatch(duration="2h"), (ExpiryMoved("2h", NOW + timedelta(hours=2)),)),
        (TokenPatch(duration="8760h"), (ExpiryMoved("8760h", NOW + timedelta(days=365)),)),
        (TokenPatch(duration="forever"), (ExpiryMoved("forever", None),)),
        (TokenPatch(is_enabled=True), ()),
        (TokenPatch(is_enabled=False), (EnabledSet(False),)),
        (TokenPatch(secret_version=0), ()),
        (TokenPatch(secret_version=2), ()),
        (TokenPatch(secret_version=3), (SecretReplaced(3, 2, NOW),)),
        (
            TokenPatch(secret_version=3, previous_secret_expires_at=LATER),
            (SecretReplaced(3, 2, LATER),),
        ),
        (TokenPatch(secret_version=2, previous_secret_expires_at=LATER), ()),
        (
            TokenPatch(secret_version=2, previous_secret_expires_at=LATER + timedelta(days=1)),
            (PreviousEndMoved(1, LATER + timedelta(days=1)),),
        ),
        (TokenPatch(previous_secret_expires_at=PAST), (PreviousEndMoved(1, PAST),)),
        (
            TokenPatch("other", "2h", False, 3, LATER),
            (
                Renamed("other"),
                ExpiryMoved("2h", NOW + timedelta(hours=2)),
                EnabledSet(False),
                SecretReplaced(3, 2, LATER),
            ),
        ),
    ],
)
def test_update_changes_what_the_patch_names(patch: TokenPatch, changes: tuple[TokenChange, ...]) -> None:
    assert update(token(), patch) == changes


@pytest.mark.parametrize("version", [1, 4, 100])
def test_version_other_than_this_and_the_next_is_refused(version: int) -> None:
    with pytest.raises(ForegateError, match="send 2 to keep the secret or 3 to rotate it") as raised:
        update(token(), TokenPatch(secret_version=version))
    assert (raised.value.code, raised.value.pointer) == (ErrorCode.INVALID_INPUT, "/client_secret_version")


@pytest.mark.parametrize(
    ("has_previous", "end", "moved_to", "is_refused"),
    [
        (True, PAST, LATER, True),
        (True, NOW, LATER, True),
        (True, PAST, PAST - timedelta(days=1), False),
        (True, LATER, NOW, False),
        (False, PAST, LATER, False),
    ],
    ids=["ended", "ends now", "to another past", "ended early", "there never was one"],
)
def test_secret_that_ended_is_not_brought_back(
    has_previous: bool, end: datetime, moved_to: datetime, is_refused: bool
) -> None:
    state, patch = token(previous_secret_expires_at=end), TokenPatch(previous_secret_expires_at=moved_to)
    if is_refused:
        with pytest.raises(ForegateError, match="rotate again instead"):
            update(state, patch, has_previous=has_previous)
    else:
        assert update(state, patch, has_previous=has_previous) == (PreviousEndMoved(1, moved_to),)


def test_date_without_a_previous_secret_is_kept_as_declared() -> None:
    state = token(previous_secret_version=None, previous_secret_expires_at=None)
    patch = TokenPatch(previous_secret_expires_at=LATER)
    assert update(state, patch, has_previous=False) == (PreviousEndMoved(1, LATER),)


@pytest.mark.parametrize(
    ("expires_at", "expected"),
    [(LATER, LATER + rules.REFRESH), (PAST, NOW + rules.REFRESH), (NOW, NOW + rules.REFRESH)],
    ids=["alive", "expired", "expiring"],
)
def test_refresh_adds_a_year_to_what_is_left(expires_at: datetime, expected: datetime) -> None:
    assert rules.refresh(token(expires_at=expires_at), NOW) == (ExpiryMoved("8760h", expected),)


def test_refresh_of_forever_changes_nothing() -> None:
    assert rules.refresh(token(expires_at=None, duration="forever"), NOW) == ()


def test_no_change_leaves_the_token_as_it_is() -> None:
    assert rules.evolve(token(), (), NOW) == token()


PATCHES = st.builds(
    TokenPatch,
    name=st.none() | st.text(min_size=1, max_size=5),
    duration=st.none() | st.sampled_from(["1s", "1h", "forever"]),
    is_enabled=st.none() | st.booleans(),
    secret_version=st.integers(0, 6),
    previous_secret_expires_at=st.none() | st.integers(-5, 5).map(lambda hours: NOW + timedelta(hours=hours)),
)


@given(st.lists(PATCHES, max_size=12))
def test_no_sequence_of_updates_loses_the_current_secret_or_lowers_the_version(patches: list[TokenPatch]) -> None:
    """Invariant 2: whatever is written, the version in force changes only where a new secret is asked for."""
    state, issued = issue(), {1}
    for step, patch in enumerate(patches):
        now = NOW + timedelta(hours=step)
        try:
            changes = rules.update(state, patch, now, has_previous_secret=state.previous_secret_version in issued)
        except ForegateError:
            continue
        rotated = [change for change in changes if isinstance(change, SecretReplaced)]
        after = rules.evolve(state, changes, now)
        assert after.secret_version == state.secret_version + len(rotated)
        assert bool(rotated) == (patch.secret_version == state.secret_version + 1)
        issued |= {change.version for change in rotated}
        assert after.secret_version in issued
        assert (after.previous_secret_version is None) == (after.previous_secret_expires_at is None)
        assert after.previous_secret_version is None or after.previous_secret_version < after.secret_version
        state = after
