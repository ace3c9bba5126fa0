"""The life of a service token, decided without a clock or a database: issue, update, rotate, refresh.

Each rule looks at the token as it is and says which changes follow; `evolve` gives the token after them, the store
writes them column by column. Sources: reference pages, Access 1.3 and clients (Terraform, Go v0).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

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
from foregate.core.clock import format_time
from foregate.core.durations import parse_token_duration
from foregate.core.errors import invalid

DEFAULT_DURATION = "8760h"
REFRESH = timedelta(hours=8760)
_VERSION_POINTER = "/client_secret_version"
_END_POINTER = "/previous_client_secret_expires_at"


def issue(new: NewToken, *, token_id: str, client_id: str, account_id: str, now: datetime) -> ServiceToken:
    """The token that a creation makes. Raises ForegateError(INVALID_INPUT) for a bad duration."""
    version = new.secret_version or 1
    end = new.previous_secret_expires_at
    return ServiceToken(
        id=token_id,
        account_id=account_id,
        client_id=client_id,
        name=new.name,
        duration=new.duration,
        is_enabled=new.is_enabled,
        expires_at=_end_of(new.duration, now),
        secret_version=version,
        # Terraform declares version and date together and wants both back as written, at creation too. No secret
        # exists under the version before, so the date opens nothing.
        previous_secret_version=None if end is None else version - 1,
        previous_secret_expires_at=end,
        created_at=now,
        updated_at=now,
    )


def update(
    token: ServiceToken, patch: TokenPatch, now: datetime, *, has_previous_secret: bool
) -> tuple[TokenChange, ...]:
    """What a PUT changes. `has_previous_secret`: a secret exists under `token.previous_secret_version`.

    A given duration counts from `now`. The version raised by one rotates, repeated it does not, as Terraform repeats
    it with every write; lower, or raised by more, is refused. Raises ForegateError(INVALID_INPUT).
    """
    changes: list[TokenChange] = []
    if patch.name is not None and patch.name != token.name:
        changes.append(Renamed(patch.name))
    if patch.duration is not None:
        changes.append(ExpiryMoved(patch.duration, _end_of(patch.duration, now)))
    if patch.is_enabled is not None and patch.is_enabled != token.is_enabled:
        changes.append(EnabledSet(patch.is_enabled))
    if patch.secret_version not in (0, token.secret_version):
        changes.append(_raise_version(token, patch, now))
    elif patch.previous_secret_expires_at is not None:
        changes.extend(_move_previous_end(token, patch.previous_secret_expires_at, now, has_previous_secret))
    return tuple(changes)


def rotate(token: ServiceToken, previous_expires_at: datetime | None, now: datetime) -> SecretReplaced:
    """A new secret. The one before ends at `previous_expires_at`, at once without it; any older one is dead."""
    end = now if previous_expires_at is None else previous_expires_at
    return SecretReplaced(token.secret_version + 1, token.secret_version, end)


def refresh(token: ServiceToken, now: datetime) -> tuple[TokenChange, ...]:
    """One year more, counted from the end, or from now if that is over. Nothing for a token that is forever."""
    if token.expires_at is None:
        return ()
    return (ExpiryMoved(token.duration, max(token.expires_at, _whole_seconds(now)) + REFRESH),)


def evolve(token: ServiceToken, changes: tuple[TokenChange, ...], now: datetime) -> ServiceToken:
    """The token after `changes`."""
    for change in changes:
        match change:
            case Renamed(name):
                token = replace(token, name=name)
            case ExpiryMoved(duration, expires_at):
                token = replace(token, duration=duration, expires_at=expires_at)
            case EnabledSet(is_enabled):
                token = replace(token, is_enabled=is_enabled)
            case SecretReplaced(version, previous, end):
                token = replace(
                    token, secret_version=version, previous_secret_version=previous, previous_secret_expires_at=end
                )
            case PreviousEndMoved(previous, end):
                token = replace(token, previous_secret_version=previous, previous_secret_expires_at=end)
            case _:
                assert_never(change)
    return replace(token, updated_at=now) if changes else token


def _end_of(duration: str, now: datetime) -> datetime | None:
    length = parse_token_duration(duration, pointer="/duration")
    return None if length is None else _whole_seconds(now + length)


def _whole_seconds(moment: datetime) -> datetime:
    # Edges compare whole seconds. Rounded up, so that no token ends before its duration does.
    cut = moment.replace(microsecond=0)
    return cut if cut == moment else cut + timedelta(seconds=1)


def _raise_version(token: ServiceToken, patch: TokenPatch, now: datetime) -> SecretReplaced:
    current = token.secret_version
    if patch.secret_version == current + 1:
        return rotate(token, patch.previous_secret_expires_at, now)
    raise invalid(
        f"client_secret_version is {current} now: send {current} to keep the secret or {current + 1} to rotate it.",
        pointer=_VERSION_POINTER,
    )


def _move_previous_end(
    token: ServiceToken, end: datetime, now: datetime, has_previous_secret: bool
) -> tuple[TokenChange, ...]:
    known = token.previous_secret_expires_at
    if end == known:
        return ()
    if has_previous_secret and known is not None and known <= now < end:
        # It may have been ended because it leaked; a client that repeats an older date must not bring it back.
        raise invalid(
            f"The previous secret ended at {format_time(known)} and cannot be brought back; rotate again instead.",
            pointer=_END_POINTER,
        )
    previous = token.secret_version - 1 if token.previous_secret_version is None else token.previous_secret_version
    return (PreviousEndMoved(previous, end),)
