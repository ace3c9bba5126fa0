"""The control API as one ASGI application: operations of all products, the v4 envelope, errors, /openapi.json.

How to add a product's calls (see `access/tokens/api.py` for a whole one):

    class GroupCreate(BodyModel):                      # what a write takes; members not named here are refused
        name: Annotated[str, Field(min_length=1, max_length=255)]
        is_default: Literal[False] | None = None       # known to Cloudflare, no effect here: only its default passes

    class GroupsApi:
        def __init__(self, database: AsyncDatabase, changes: Changes) -> None: ...

        def operations(self) -> Operations:
            operations = Operations("Access groups", Family.GROUP)
            operations.add("POST", "/accounts/{account_id}/access/groups", self.create, "Create a group",
                           body=GroupCreate, result=GroupView, status=201, errors=(ErrorCode.ALREADY_EXISTS,))
            operations.add("GET", "/accounts/{account_id}/access/groups", self.list, "List groups",
                           query=PageQuery, result=GroupView, is_list=True)
            return operations

        async def create(self, call: Call[None, GroupCreate]) -> Answer:
            def work(connection: Connection) -> Answer:          # runs in the writer's thread, under a savepoint
                ...rows...
                seq = record_change(connection, Change(call.actor, "create", "group", id, call.account_id), ...)
                return Answer(result, change_seq=seq)            # the seq becomes the header Foregate-Change
            return await self._changes.run(call, work)           # commits, then wakes the publisher

        async def list(self, call: Call[PageQuery, None]) -> Answer:
            rows, total = await self._database.read(lambda connection: store.page(connection, ...))
            return Answer(rows, info=page_info(call.query, len(rows), total))

The caller is authenticated, the account in the path checked (form, scope, existence), query and body parsed before
a handler runs. A handler raises `ForegateError` (`invalid`, `unsupported`, `not_found`, ...); `api/errors.py` gives
it status and number by `Family`. `call.path["group_id"]` is raw: parse it with `core.ids.parse_uuid`. `result` of
`add` is a dataclass, a TypedDict (of typing_extensions), a tuple of them whose members stand side by side, or a JSON
schema; orjson encodes dataclasses and aware datetimes as they are. A handler does no blocking work of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from foregate.api.auth import Authenticator
from foregate.api.dispatch import Dispatcher, Index
from foregate.api.envelope import encode_failure
from foregate.api.errors import NO_ROUTE, Problem, problem_of
from foregate.api.openapi import describe
from foregate.api.operations import Operations
from foregate.core.clock import Clock, utc_now
from foregate.core.errors import ErrorCode, ForegateError, invalid


def create_app(
    products: Sequence[Operations],
    authenticator: Authenticator,
    *,
    routers: Sequence[APIRouter] = (),
    clock: Clock = utc_now,
    lifespan: Callable[[FastAPI], Any] | None = None,
) -> FastAPI:
    """The application. `products` are the control API's operations; `routers` are plain ones beside it (the feed).

    ValueError where two operations claim the same method and path.
    """
    app = _Application(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan, redirect_slashes=False)
    document = describe(products, version("foregate"))
    index = Index(operation for product in products for operation in product)

    async def openapi() -> dict[str, Any]:
        return document

    app.add_api_route("/openapi.json", openapi, include_in_schema=False)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(ForegateError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    app.dispatch = Dispatcher(app.fall_through, index, authenticator, clock)
    return app


class _Application(FastAPI):
    """FastAPI with the dispatcher before everything else of it."""

    dispatch: Dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        await self.dispatch(scope, receive, send)

    async def fall_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no operation."""
        await super().__call__(scope, receive, send)


async def _answer_error(_request: Request, error: Exception) -> Response:
    """Errors of the plain routers and of paths nobody knows, in the same envelope."""
    match error:
        case ForegateError():
            problem = problem_of(error)
        case RequestValidationError():
            problem = problem_of(invalid("A parameter or the body has the wrong form."))
        case HTTPException(status_code=404):
            problem = NO_ROUTE
        case HTTPException(status_code=405):
            problem = problem_of(ForegateError(ErrorCode.METHOD_NOT_ALLOWED, "Use another method on this path."))
        case HTTPException():
            problem = Problem(error.status_code, 1004, str(error.detail))
        case _:
            raise error
    headers = dict(getattr(error, "headers", None) or {})
    return Response(encode_failure(problem), problem.status, headers, "application/json")
