"""What an edge decides about a request: a closed list of reasons, and what each one means for the caller.

`access/rules.py` gives these answers in Python, the rendered HAProxy configuration gives the same in HAProxy.
The names stand in events, answers, rollups and docs; they only ever grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """`answered`: the edge itself replied on a path of its own (`/cdn-cgi/access/...`)."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    ANSWERED = "answered"


class Reason(StrEnum):
    """Why. One per decision."""

    SERVICE_AUTH = "service_auth"
    BYPASS = "bypass"
    UNPROTECTED_HOST = "unprotected_host"
    EDGE_ANSWER = "edge_answer"
    REQUEST_MALFORMED = "request_malformed"
    CREDENTIALS_MALFORMED = "credentials_malformed"
    TOKEN_UNKNOWN = "token_unknown"
    SECRET_MISMATCH = "secret_mismatch"
    SECRET_SUPERSEDED = "secret_superseded"
    TOKEN_DISABLED = "token_disabled"
    TOKEN_EXPIRED = "token_expired"
    NO_APPLICATION = "no_application"
    NO_CREDENTIALS = "no_credentials"
    POLICY_DENIED = "policy_denied"
    NO_POLICY_MATCHED = "no_policy_matched"
    ASSERTION_UNAVAILABLE = "assertion_unavailable"


@dataclass(frozen=True, slots=True)
class Meaning:
    """The outcome, and the HTTP status where the edge answers itself (None: the origin's own)."""

    outcome: Outcome
    status: int | None


MEANINGS: dict[Reason, Meaning] = {
    Reason.SERVICE_AUTH: Meaning(Outcome.ALLOWED, None),
    Reason.BYPASS: Meaning(Outcome.ALLOWED, None),
    Reason.UNPROTECTED_HOST: Meaning(Outcome.ALLOWED, None),
    Reason.EDGE_ANSWER: Meaning(Outcome.ANSWERED, None),
    Reason.REQUEST_MALFORMED: Meaning(Outcome.REFUSED, 400),
    Reason.CREDENTIALS_MALFORMED: Meaning(Outcome.REFUSED, 401),
    Reason.TOKEN_UNKNOWN: Meaning(Outcome.REFUSED, 401),
    Reason.SECRET_MISMATCH: Meaning(Outcome.REFUSED, 401),
    Reason.SECRET_SUPERSEDED: Meaning(Outcome.REFUSED, 401),
    Reason.TOKEN_DISABLED: Meaning(Outcome.REFUSED, 401),
    Reason.TOKEN_EXPIRED: Meaning(Outcome.REFUSED, 401),
    Reason.NO_APPLICATION: Meaning(Outcome.REFUSED, 403),
    # 401 where the application sets service_auth_401_redirect.
    Reason.NO_CREDENTIALS: Meaning(Outcome.REFUSED, 403),
    Reason.POLICY_DENIED: Meaning(Outcome.REFUSED, 403),
    Reason.NO_POLICY_MATCHED: Meaning(Outcome.REFUSED, 403),
    Reason.ASSERTION_UNAVAILABLE: Meaning(Outcome.REFUSED, 503),
}


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer. `policy_id` and `app_id` are empty where none applied; `client_id` only once it authenticated."""

    reason: Reason
    status: int | None
    app_id: str = ""
    policy_id: str = ""
    client_id: str = ""
    session_seconds: int = 0

    @property
    def is_allowed(self) -> bool:
        """Whether the request goes to the origin."""
        return MEANINGS[self.reason].outcome is Outcome.ALLOWED
