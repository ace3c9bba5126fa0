"""Runs operations: match, authenticate, authorise, parse, call the handler, answer in the envelope, log one line.

An ASGI layer in front of FastAPI's router. FastAPI's own path costs some 120 us a request with sixty routes (linear
matching, exit stacks, dependency solving; measured 2026, one core), this one about 20, and creations are wanted by
the thousand per second. Whatever is no operation goes on to FastAPI.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Iterable
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from foregate.api.auth import (
    Authenticator,
    Principal,
    bearer_of,
    require_account,
    require_permission,
    require_usable,
)
from foregate.api.auth import Scope as OperationScope
from foregate.api.body import parse_json_object, read_body
from foregate.api.envelope import encode_answer, encode_failure
from foregate.api.errors import BAD_ACCOUNT_ID, NO_ROUTE, Family, Problem, ProblemRaised, problem_of
from foregate.api.operations import BASE_PATH, Call, Operation, Retry
from foregate.api.parameters import parse_members, parse_query
from foregate.core.clock import Clock
from foregate.core.errors import ErrorCode, ForegateError, invalid, unsupported
from foregate.core.ids import ACCOUNT_ID
from foregate.core.secrets import Secret

_IDEMPOTENCY_KEY_LIMIT = 255
_PARAMETER = "{}"
_LOGGED_ID = re.compile(r"[0-9a-f]{32}(?:\.access)?|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Index:
    """Finds an operation by path and method: a tree of path segments, a fixed segment before a parameter."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._root: dict[str, Any] = {}
        for operation in operations:
            self._add(operation)

    def find(self, path: str) -> tuple[dict[str, tuple[Operation, tuple[str, ...]]], list[str]] | None:
        """The operations of `path` (below /client/v4) by method with their parameter names, and the values."""
        node, values = self._root, []
        for segment in path.split("/")[1:]:
            below = node.get(segment)
            if below is None or segment == _PARAMETER:
                below = node.get(_PARAMETER)
                if below is None or not segment:
                    return None
                values.append(segment)
            node = below
        methods = node.get("")
        return None if methods is None else (methods, values)

    def _add(self, operation: Operation) -> None:
        node, names = self._root, []
        for segment in operation.path.split("/")[1:]:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                segment = _PARAMETER  # noqa: PLW2901
            node = node.setdefault(segment, {})
        methods = node.setdefault("", {})
        if operation.method in methods:
            raise ValueError(f"two operations for {operation.method} {operation.path}")
        methods[operation.method] = (operation, tuple(names))


class Dispatcher:
    """The ASGI layer. One per process; safe for any number of requests at once."""

    def __init__(self, app: ASGIApp, index: Index, authenticator: Authenticator, clock: Clock) -> None:
        self._app = app
        self._index = index
        self._authenticator = authenticator
        self._clock = clock
        self._log = structlog.get_logger("foregate.api")
        self._process_id = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith(BASE_PATH + "/"):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _Exchange(scope["method"], scope["path"], f"{self._process_id}{next(self._numbers):08x}")
        family = Family.GENERAL
        try:
            operation, values = self._match(exchange)
            family = operation.family
            await self._run(operation, values, exchange, scope, receive)
        except ForegateError as error:
            exchange.refuse(problem_of(error, family), error.detail)
        except ProblemRaised as raised:
            exchange.refuse(raised.problem)
        except Exception:
            self._log.exception("api_request_failed", request_id=exchange.request_id, route=exchange.route)
            message = f"Something broke here. Look for request {exchange.request_id} in the log."
            exchange.refuse(problem_of(ForegateError(ErrorCode.INTERNAL, message), family))
        await exchange.send(send)
        self._log.info(
            "api_request",
            method=exchange.method,
            route=exchange.route,
            status=exchange.status,
            ms=round((time.perf_counter() - started) * 1000, 2),
            request_id=exchange.request_id,
            **exchange.notes,
        )

    def _match(self, exchange: _Exchange) -> tuple[Operation, dict[str, str]]:
        path = exchange.path[len(BASE_PATH) :]
        found = self._index.find(path)
        if found is None:
            if path.startswith("/zones/") and "/access/" in path:
                raise unsupported("Foregate has no zones: use the account form, /accounts/{account_id}/access/...")
            raise ProblemRaised(NO_ROUTE)
        methods, values = found
        matched = methods.get(exchange.method)
        if matched is None:
            exchange.headers.append((b"allow", ", ".join(sorted(methods)).encode()))
            raise ForegateError(ErrorCode.METHOD_NOT_ALLOWED, f"This path takes {', '.join(sorted(methods))}.")
        operation, names = matched
        exchange.route = operation.path
        if values:
            # A path may hold anything, a secret pasted by mistake too; only what looks like an id is logged.
            exchange.notes["ids"] = [value if _LOGGED_ID.fullmatch(value) else "?" for value in values]
        return operation, dict(zip(names, values, strict=True))

    async def _run(
        self, operation: Operation, values: dict[str, str], exchange: _Exchange, scope: Scope, receive: Receive
    ) -> None:
        headers = _headers_of(scope)
        now = self._clock()
        bearer = bearer_of(headers)
        principal = await self._authorise(operation, values, bearer, exchange)
        # No id holds a NUL, and some databases refuse even to look for one.
        if any("\0" in value for value in values.values()):
            raise ProblemRaised(NO_ROUTE)
        query = parse_query(operation.query, scope["query_string"])
        raw = await read_body(receive, _text(headers, b"content-length"))
        call = Call(
            principal=principal,
            path=values,
            query=query,
            body=_parse_body(operation, raw, _text(headers, b"content-type") or ""),
            at=now,
            retry=_retry_of(headers, exchange, raw, bearer),
        )
        answer = await operation.handler(call)
        exchange.status = answer.status or operation.status
        exchange.body = encode_answer(answer)
        if answer.change_seq is not None:
            exchange.headers.append((b"foregate-change", b"%d" % answer.change_seq))
            exchange.notes["change"] = answer.change_seq
        if answer.is_replay:
            exchange.headers.append((b"foregate-replayed", b"true"))

    async def _authorise(
        self, operation: Operation, values: dict[str, str], bearer: Secret, exchange: _Exchange
    ) -> Principal:
        is_verify = operation.scope is OperationScope.SELF
        found = await self._authenticator.authenticate(bearer)
        principal = require_usable(found, self._clock(), is_verify=is_verify)
        exchange.notes["actor"] = principal.actor
        account_id = values.get("account_id")
        if account_id is not None and not ACCOUNT_ID.fullmatch(account_id):
            raise ProblemRaised(BAD_ACCOUNT_ID)
        require_permission(principal, operation.permission, operation.scope, account_id)
        if account_id is not None and principal.account_id is None:
            await require_account(self._authenticator, account_id)
        return principal


class _Exchange:
    """One request's answer in the making."""

    __slots__ = ("body", "headers", "method", "notes", "path", "request_id", "route", "status")

    def __init__(self, method: str, path: str, request_id: str) -> None:
        self.method = method
        self.path = path
        self.route = ""
        self.request_id = request_id
        self.status = 500
        self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.notes: dict[str, Any] = {}

    def refuse(self, problem: Problem, detail: str = "") -> None:
        """Answer with a failure."""
        self.status = problem.status
        self.body = encode_failure(problem)
        self.notes["code"] = problem.number
        if detail:
            self.notes["detail"] = detail
        if 400 <= problem.status < 500:
            self.headers.append((b"x-should-retry", b"false"))
        if problem.status == 401:
            self.headers.append((b"www-authenticate", b"Bearer"))

    async def send(self, send: Send) -> None:
        """Send it. Answers may hold a secret, so nothing on the way may store them."""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"no-store"),
            (b"foregate-request-id", self.request_id.encode()),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def _headers_of(scope: Scope) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in headers and name in (b"authorization", b"content-type", b"idempotency-key"):
            raise invalid(f"Send the header {name.decode()} once.")
        headers[name] = value
    return headers


def _text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _parse_body(operation: Operation, raw: bytes, content_type: str) -> Any:
    model = operation.body
    if model is None:
        if raw.strip() not in (b"", b"{}", b"null"):
            raise invalid("This call takes no body.")
        return None
    if not raw.strip():
        if not operation.is_body_optional:
            raise invalid("This call needs a JSON object as its body.")
        return model()
    return parse_members(model, parse_json_object(raw, content_type), noun="member")


def _retry_of(headers: dict[bytes, bytes], exchange: _Exchange, raw: bytes, bearer: Secret) -> Retry:
    count = headers.get(b"x-stainless-retry-count", b"0")
    key = _text(headers, b"idempotency-key")
    if key is not None and not 0 < len(key) <= _IDEMPOTENCY_KEY_LIMIT:
        raise invalid(f"An Idempotency-Key has 1 to {_IDEMPOTENCY_KEY_LIMIT} characters.")
    return Retry(
        count=int(count) if count.isdigit() and len(count) < 6 else 0,
        key=key,
        method=exchange.method,
        path=exchange.path,
        body=raw,
        bearer=bearer,
    )
