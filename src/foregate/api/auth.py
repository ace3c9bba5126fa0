"""Who calls: from the request's headers to a principal, and what a principal may do.

`identity/` implements `Authenticator`; the dispatcher asks it once per request. A credential is compared by digest
only, and nothing here or there keeps or logs its text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from foregate.api.errors import BAD_AUTHORIZATION, INVALID_TOKEN, LONE_AUTH_KEY, ProblemRaised, problem_of
from foregate.core.errors import ErrorCode, ForegateError, not_found
from foregate.core.secrets import Secret

_LONGEST_TOKEN = 512


class Permission(StrEnum):
    """What an API token may be allowed to do within its scope."""

    READ = "read"
    WRITE = "write"


class Scope(StrEnum):
    """What an operation is about.

    ACCOUNT: the account in its path. INSTALLATION: all accounts (a token bound to one account is refused).
    SELF: the caller's own token, usable or not. ANY: whatever the caller may see.
    """

    ACCOUNT = "account"
    INSTALLATION = "installation"
    SELF = "self"
    ANY = "any"


class TokenStatus(StrEnum):
    """As GET /user/tokens/verify tells it."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Principal:
    """An API token that exists. `account_id` None: every account."""

    token_id: str
    name: str
    account_id: str | None
    permissions: frozenset[Permission]
    is_enabled: bool
    not_before: datetime | None
    expires_at: datetime | None

    @property
    def actor(self) -> str:
        """How audit and history name the caller."""
        return f"api_token:{self.token_id}"

    def status(self, now: datetime) -> TokenStatus:
        """Whether the token may be used at `now`. Before `not_before` it counts as disabled."""
        if self.expires_at is not None and now >= self.expires_at:
            return TokenStatus.EXPIRED
        if not self.is_enabled or (self.not_before is not None and now < self.not_before):
            return TokenStatus.DISABLED
        return TokenStatus.ACTIVE


class Authenticator(Protocol):
    """Knows API tokens and accounts. Both calls answer from memory where they can."""

    async def authenticate(self, bearer: Secret) -> Principal | None:
        """The token's principal, whatever its status; None for a token that does not exist."""
        ...

    async def account_exists(self, account_id: str) -> bool:
        """Whether there is such an account."""
        ...


def bearer_of(headers: dict[bytes, bytes]) -> Secret:
    """The bearer token of a request. Raises ProblemRaised or ForegateError(UNAUTHENTICATED), with a sentence.

    The official SDKs drop `Authorization` as soon as an e-mail or a global key is set beside the token, so a lone
    one gets a sentence of its own (reference page, section 6.2).
    """
    value = headers.get(b"authorization")
    if value is None:
        if b"x-auth-key" in headers or b"x-auth-email" in headers or b"x-auth-user-service-key" in headers:
            raise ProblemRaised(LONE_AUTH_KEY)
        raise ForegateError(
            ErrorCode.UNAUTHENTICATED, "Send an API token: 'Authorization: Bearer <API token>' (see: foregate env)."
        )
    scheme, _, token = value.decode("latin-1").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN or not token.isascii() or " " in token:
        raise ProblemRaised(BAD_AUTHORIZATION)
    return Secret(token)


def require_usable(principal: Principal | None, now: datetime, *, is_verify: bool) -> Principal:
    """The principal, if its token may be used now. A verify call may use one that is not active."""
    if principal is None:
        if is_verify:
            raise ProblemRaised(INVALID_TOKEN)
        raise ForegateError(ErrorCode.UNAUTHENTICATED, "This API token is not known here.")
    status = principal.status(now)
    if status is TokenStatus.ACTIVE or is_verify:
        return principal
    raise ForegateError(ErrorCode.UNAUTHENTICATED, f"This API token is {status.value}; use another one.")


def require_permission(
    principal: Principal, permission: Permission | None, scope: Scope, account_id: str | None
) -> None:
    """Raises ForegateError(FORBIDDEN) unless the principal may do this to that account."""
    if permission is not None and permission not in principal.permissions:
        raise ForegateError(ErrorCode.FORBIDDEN, f"This API token has no {permission.value} permission.")
    if principal.account_id is None:
        return
    if scope is Scope.INSTALLATION:
        raise ForegateError(ErrorCode.FORBIDDEN, "This API token is bound to one account; use one for all accounts.")
    if account_id is not None and account_id != principal.account_id:
        raise ForegateError(ErrorCode.FORBIDDEN, "This API token is bound to another account.")


async def require_account(authenticator: Authenticator, account_id: str) -> None:
    """Raises ProblemRaised for an account that does not exist: the same number whatever the operation is about."""
    if not await authenticator.account_exists(account_id):
        raise ProblemRaised(problem_of(not_found("account")))
