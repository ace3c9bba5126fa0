"""An operation of the control API: method, path, what it takes and gives, who may call it, and its handler.

Products collect theirs in an `Operations`; the dispatcher runs them, `api/openapi.py` describes them. See
`api/app.py` for how to write one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from foregate.api.auth import Permission, Principal, Scope
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.paging import PageInfo
from foregate.api.parameters import BodyModel, QueryModel
from foregate.core.errors import ErrorCode
from foregate.core.secrets import Secret

Q = TypeVar("Q")
B = TypeVar("B")

BASE_PATH = "/client/v4"


@dataclass(frozen=True, slots=True)
class Retry:
    """What a request says about being a repeat (the SDK's own count, or a key the caller chose), and what makes it
    itself. `bearer` lives as long as the request does."""

    count: int
    key: str | None
    method: str
    path: str
    body: bytes = field(repr=False)
    bearer: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One authorised request. `Q` and `B` are the operation's query and body models (None: takes none).

    `path` holds the path parameters as sent; `account_id` is checked for form, scope and existence, the others are
    the handler's to parse. `at` is when the request came in, aware UTC.
    """

    principal: Principal
    path: dict[str, str]
    query: Q
    body: B
    at: datetime
    retry: Retry = field(repr=False)

    @property
    def account_id(self) -> str:
        """The account in the path."""
        return self.path["account_id"]

    @property
    def actor(self) -> str:
        """How audit and history name the caller."""
        return self.principal.actor


Handler = Callable[[Any], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as declared. Paths stand below /client/v4 and begin with a slash."""

    method: str
    path: str
    handler: Handler
    summary: str
    family: Family
    permission: Permission | None
    scope: Scope
    query: type[QueryModel] | None
    body: type[BodyModel] | None
    is_body_optional: bool
    result: Any
    is_list: bool
    info: type[PageInfo]
    status: int
    errors: tuple[ErrorCode, ...]


class Operations:
    """The operations of one product. `family` picks its error numbers, `tag` its section in the OpenAPI document."""

    def __init__(self, tag: str, family: Family = Family.GENERAL) -> None:
        self.tag = tag
        self._family = family
        self._operations: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        summary: str,
        *,
        result: Any,
        is_list: bool = False,
        info: type[PageInfo] = PageInfo,
        query: type[QueryModel] | None = None,
        body: type[BodyModel] | None = None,
        is_body_optional: bool = False,
        status: int = 200,
        scope: Scope | None = None,
        errors: tuple[ErrorCode, ...] = (),
    ) -> None:
        """Declare an operation.

        `result` is what stands under `result`: a dataclass or TypedDict type, a JSON schema (dict), or a tuple of
        types whose members stand side by side. `is_list` makes it an array with `result_info`, an `info`. `scope` is
        ACCOUNT if the path names an account, else INSTALLATION. GET needs the READ permission, everything else WRITE,
        but in the scope SELF neither. `errors` are refusals of this operation's own, for the OpenAPI document.
        """
        about = scope or (Scope.ACCOUNT if "{account_id}" in path else Scope.INSTALLATION)
        needed = Permission.READ if method == "GET" else Permission.WRITE
        self._operations.append(
            Operation(
                method=method,
                path=path,
                handler=handler,
                summary=summary,
                family=self._family,
                permission=None if about is Scope.SELF else needed,
                scope=about,
                query=query,
                body=body,
                is_body_optional=is_body_optional,
                result=result,
                is_list=is_list,
                info=info,
                status=status,
                errors=errors,
            )
        )
