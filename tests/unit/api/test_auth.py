"""Who may do what: scope, permission and status of a principal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from foregate.api.auth import Permission, Principal, Scope, TokenStatus, require_permission, require_usable
from foregate.api.errors import ProblemRaised
from foregate.core.errors import ErrorCode, ForegateError

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINE, OTHER = "a" * 32, "b" * 32


def principal(
    *,
    account_id: str | None = None,
    permissions: frozenset[Permission] = frozenset(Permission),
    is_enabled: bool = True,
    not_before: datetime | None = None,
    expires_at: datetime | None = None,
) -> Principal:
    return Principal("id", "name", account_id, permissions, is_enabled, not_before, expires_at)


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (principal(), TokenStatus.ACTIVE),
        (principal(is_enabled=False), TokenStatus.DISABLED),
        (principal(expires_at=NOW), TokenStatus.EXPIRED),
        (principal(expires_at=NOW + HOUR), TokenStatus.ACTIVE),
        (principal(expires_at=NOW - HOUR, is_enabled=False), TokenStatus.EXPIRED),
        (principal(not_before=NOW), TokenStatus.ACTIVE),
        (principal(not_before=NOW + HOUR), TokenStatus.DISABLED),
    ],
)
def test_only_an_active_token_is_usable_but_any_may_verify(caller: Principal, status: TokenStatus) -> None:
    assert caller.status(NOW) is status
    assert require_usable(caller, NOW, is_verify=True) is caller
    if status is TokenStatus.ACTIVE:
        assert require_usable(caller, NOW, is_verify=False) is caller
    else:
        with pytest.raises(ForegateError, match=status.value) as raised:
            require_usable(caller, NOW, is_verify=False)
        assert raised.value.code is ErrorCode.UNAUTHENTICATED


def test_unknown_token_is_nobody() -> None:
    with pytest.raises(ForegateError):
        require_usable(None, NOW, is_verify=False)
    with pytest.raises(ProblemRaised):
        require_usable(None, NOW, is_verify=True)


@pytest.mark.parametrize(
    ("caller", "permission", "scope", "account_id", "is_allowed"),
    [
        (principal(), Permission.WRITE, Scope.INSTALLATION, None, True),
        (principal(), Permission.WRITE, Scope.ACCOUNT, OTHER, True),
        (principal(account_id=MINE), Permission.WRITE, Scope.ACCOUNT, MINE, True),
        (principal(account_id=MINE), Permission.READ, Scope.ACCOUNT, OTHER, False),
        (principal(account_id=MINE), Permission.READ, Scope.INSTALLATION, None, False),
        (principal(account_id=MINE), Permission.READ, Scope.ANY, None, True),
        (principal(account_id=MINE), None, Scope.SELF, OTHER, False),
        (principal(permissions=frozenset({Permission.READ})), Permission.READ, Scope.ACCOUNT, MINE, True),
        (principal(permissions=frozenset({Permission.READ})), Permission.WRITE, Scope.ACCOUNT, MINE, False),
        (principal(permissions=frozenset({Permission.WRITE})), Permission.READ, Scope.ACCOUNT, MINE, False),
        (principal(permissions=frozenset()), None, Scope.SELF, None, True),
    ],
)
def test_permission_and_scope_both_have_to_hold(
    caller: Principal, permission: Permission | None, scope: Scope, account_id: str | None, is_allowed: bool
) -> None:
    if is_allowed:
        require_permission(caller, permission, scope, account_id)
    else:
        with pytest.raises(ForegateError) as raised:
            require_permission(caller, permission, scope, account_id)
        assert raised.value.code is ErrorCode.FORBIDDEN
