"""What the calls about events take, and how it is turned into a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from foregate.access.events.scan import FOREVER, Wanted
from foregate.api.parameters import QueryModel
from foregate.core.clock import parse_time, to_micros
from foregate.core.decision import MEANINGS, Outcome, Reason
from foregate.core.errors import invalid
from foregate.core.ids import parse_uuid

Op = Literal["eq", "neq"]
Limit = Annotated[int, Field(ge=1, le=1000)]
Text = Annotated[str, Field(max_length=255)]

# Decisions in which the edge knew the token: with one of these, a client id is a token's of that account.
OF_KNOWN_TOKENS = frozenset(
    {
        Reason.SERVICE_AUTH,
        Reason.BYPASS,
        Reason.SECRET_MISMATCH,
        Reason.SECRET_SUPERSEDED,
        Reason.TOKEN_DISABLED,
        Reason.TOKEN_EXPIRED,
        Reason.POLICY_DENIED,
        Reason.NO_POLICY_MATCHED,
        Reason.ASSERTION_UNAVAILABLE,
    }
)


class AccessRequestsQuery(QueryModel):
    """Cloudflare's parameters. Events of tokens have no e-mail, country or identity provider: filters on those compare
    with an empty text. `user_id` is taken and ignored, as there."""

    limit: Limit = 25
    page: Annotated[int, Field(ge=1, le=100_000)] = 1
    per_page: Limit = 25
    direction: Literal["asc", "desc"] = "desc"
    since: str | None = None
    until: str | None = None
    fields: Text | None = None
    email: Text | None = None
    email_exact: bool = False
    email_op: Annotated[Literal["eq", "neq", "contains"], Field(alias="emailOp")] = "eq"
    user_id: Text | None = None
    user_id_op: Annotated[Op, Field(alias="user_idOp")] = "eq"
    allowed: bool | None = None
    allowed_op: Annotated[Op, Field(alias="allowedOp")] = "eq"
    app_type: Text | None = None
    app_type_op: Annotated[Op, Field(alias="app_typeOp")] = "eq"
    app_uid: Text | None = None
    app_uid_op: Annotated[Op, Field(alias="app_uidOp")] = "eq"
    country_code: Text | None = None
    country_code_op: Annotated[Op, Field(alias="country_codeOp")] = "eq"
    idp: Text | None = None
    idp_op: Annotated[Op, Field(alias="idpOp")] = "eq"
    non_identity: bool | None = None
    non_identity_op: Annotated[Op, Field(alias="non_identityOp")] = "eq"
    ray_id: Text | None = None
    ray_id_op: Annotated[Op, Field(alias="ray_idOp")] = "eq"

    @property
    def size(self) -> int:
        """How many items a page has: the smaller of the two, of which a client sets one."""
        given = {"limit": self.limit, "per_page": self.per_page}
        chosen = [value for name, value in given.items() if name in self.model_fields_set]
        return min(chosen, default=self.per_page)

    def may_match(self) -> bool:
        """Whether events of tokens can be meant at all, by what is the same for all of them."""
        return (
            _holds(self.email, "", self.email_op)
            and _holds(self.app_type, "self_hosted", self.app_type_op)
            and _holds(self.country_code, "", self.country_code_op)
            and _holds(self.idp, "", self.idp_op)
            and (self.non_identity is None or self.non_identity is (self.non_identity_op == "eq"))
        )

    def wanted(self, account_id: str) -> Wanted:
        """The search for them. Raises ForegateError(INVALID_INPUT) for a time or an id that is none."""
        app = parse_uuid(self.app_uid, "application", pointer="?app_uid") if self.app_uid else ""
        ray = self.ray_id or ""
        return Wanted(
            account_id=account_id,
            app_ids=frozenset({app} if app and self.app_uid_op == "eq" else ()),
            without_app_id=app if self.app_uid_op == "neq" else "",
            ray_id=ray if self.ray_id_op == "eq" else "",
            without_ray_id=ray if self.ray_id_op == "neq" else "",
            reasons=self._reasons(),
            since=micros(self.since, 0, pointer="?since"),
            until=micros(self.until, FOREVER, pointer="?until"),
            has_client=True,
        )

    def _reasons(self) -> frozenset[Reason]:
        if self.allowed is None:
            return OF_KNOWN_TOKENS
        is_allowed = self.allowed is (self.allowed_op == "eq")
        return frozenset(r for r in OF_KNOWN_TOKENS if (MEANINGS[r].outcome is Outcome.ALLOWED) is is_allowed)


class EventsQuery(QueryModel):
    """Filters of events. `token` is an id, a client id or a name, `app` an id or a name. `after` and `before` are
    cursors of earlier answers; with `after`, `wait` keeps the answer back so many seconds until there is an event."""

    token: Text | None = None
    app: Text | None = None
    outcome: Outcome | None = None
    reason: Reason | None = None
    ray_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    since: str | None = None
    until: str | None = None
    after: Annotated[str, Field(max_length=40)] | None = None
    before: Annotated[str, Field(max_length=40)] | None = None
    wait: Annotated[float, Field(ge=0, le=30)] = 0
    limit: Limit = 20

    def wanted(self, account_id: str, *, has_unowned: bool) -> Wanted:
        """The search for them, whatever token and application. Raises ForegateError(INVALID_INPUT) for a time that is
        none."""
        return Wanted(
            account_id=account_id,
            has_unowned=has_unowned,
            ray_id=self.ray_id or "",
            reasons=frozenset(
                reason
                for reason in Reason
                if self.reason in (None, reason) and self.outcome in (None, MEANINGS[reason].outcome)
            ),
            since=micros(self.since, 0, pointer="?since"),
            until=micros(self.until, FOREVER, pointer="?until"),
        )


class RollupsQuery(QueryModel):
    """A range of time, the last hour by default."""

    since: str | None = None
    until: str | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000


def micros(text: str | None, default: int, *, pointer: str) -> int:
    """A query's time in microseconds."""
    return default if text is None else to_micros(parse_time(text, pointer=pointer))


def parse_fields(text: str | None, known: frozenset[str]) -> frozenset[str]:
    """The names in a comma list, all of them without one. Raises ForegateError(INVALID_INPUT) for an unknown name."""
    if text is None:
        return known
    names = frozenset(name.strip() for name in text.split(","))
    for name in sorted(names - known):
        raise invalid(f"There is no field {name!r}; known are {', '.join(sorted(known))}.", pointer="?fields")
    return names


_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda actual, given: actual == given,
    "neq": lambda actual, given: actual != given,
    "contains": lambda actual, given: given in actual,
}


def _holds(given: str | None, actual: str, op: str) -> bool:
    return given is None or _COMPARE[op](actual, given)
