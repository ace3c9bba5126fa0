"""The seven calls of service tokens (reference page, section 1.1): parse, decide, write, answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection

from foregate.access.tokens import rules, store
from foregate.access.tokens.model import (
    LastSeenReader,
    LastSeenReport,
    NewToken,
    SecretReplaced,
    ServiceToken,
    TokenChange,
    TokenPatch,
)
from foregate.access.tokens.views import (
    NEVER_SEEN,
    IssuedSecret,
    IssuedToken,
    LastSeenView,
    SecretIfRotated,
    TokenView,
    present,
    present_issued,
    snapshot,
)
from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.operations import Call, Operations
from foregate.api.paging import PageQuery, page_info
from foregate.api.parameters import BodyModel, WholeNumber
from foregate.core.clock import parse_time
from foregate.core.errors import ErrorCode, ForegateError, not_found
from foregate.core.ids import CLIENT_ID, new_client_id, new_uuid, parse_uuid
from foregate.core.masterkey import MasterKey
from foregate.core.secrets import SERVICE_TOKEN_PREFIX, Secret, digest_secret, new_secret
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import Change, record_change

_TOKENS = "/accounts/{account_id}/access/service_tokens"
_TOKEN = _TOKENS + "/{service_token_id}"
_NAMED_AT_MOST = 3

Name = Annotated[str, Field(min_length=1, max_length=255)]
Duration = Annotated[
    str,
    Field(
        max_length=64,
        description="A Go duration longer than zero (8760h, 2h45m), or forever.",
        examples=["8760h", "forever"],
        json_schema_extra={
            "pattern": r"^(forever|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$",
        },
    ),
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Version = Annotated[WholeNumber, Field(ge=0, le=2**31 - 1, description="0 means not set.")]


class RotateBody(BodyModel):
    """The body of a rotate. Without a date the secret before ends at once."""

    previous_client_secret_expires_at: Moment | None = None


class TokenUpdate(RotateBody):
    """The body of a PUT: every member may be left out. The version raised by one rotates."""

    name: Name | None = None
    duration: Duration | None = None
    enabled: bool | None = None
    client_secret_version: Version | None = None


class TokenCreate(RotateBody):
    """The body of a creation."""

    name: Name
    duration: Duration | None = None
    enabled: bool | None = None
    client_secret_version: Version | None = None


class TokensQuery(PageQuery):
    """Filters of the list: `name` is exact, `search` a part of the name, in any case."""

    name: Annotated[str, Field(max_length=255)] | None = None
    search: Annotated[str, Field(max_length=255)] | None = None


class ServiceTokensApi:
    """Handlers. Secrets are made here, digested under the master key's current pepper, and shown once."""

    def __init__(
        self, database: AsyncDatabase, changes: Changes, master_key: MasterKey, last_seen: LastSeenReader
    ) -> None:
        self._database = database
        self._changes = changes
        self._pepper = master_key.pepper(master_key.current)
        self._pepper_version = master_key.current
        self._last_seen = last_seen

    def operations(self) -> Operations:
        """The seven calls."""
        operations = Operations("Service tokens", Family.SERVICE_TOKEN)
        add, read = operations.add, (TokenView, LastSeenView)
        issued = (*read, IssuedSecret)
        add("GET", _TOKENS, self.list, "List service tokens", query=TokensQuery, result=read, is_list=True)
        add("POST", _TOKENS, self.create, "Create a service token", body=TokenCreate, result=issued, status=201)
        add("GET", _TOKEN, self.get, "Get a service token", result=read)
        add("PUT", _TOKEN, self.update, "Update a service token; with client_secret_version raised by one, rotate it",
            body=TokenUpdate, result=(*read, SecretIfRotated))  # fmt: skip
        add("DELETE", _TOKEN, self.delete, "Revoke a service token", result=read, errors=(ErrorCode.IN_USE,))
        add("POST", _TOKEN + "/refresh", self.refresh, "Extend a service token by one year", result=read)
        add("POST", _TOKEN + "/rotate", self.rotate, "Rotate the secret of a service token",
            body=RotateBody, is_body_optional=True, result=issued)  # fmt: skip
        return operations

    async def list(self, call: Call[TokensQuery, None]) -> Answer:
        """A page of tokens with their last uses."""
        query = call.query
        tokens, total = await self._database.read(
            lambda connection: store.list_tokens(
                connection,
                call.account_id,
                name=query.name,
                search=query.search,
                offset=query.offset,
                limit=query.per_page,
            )
        )
        report = await self._report(*tokens)
        return Answer([present(token, report) for token in tokens], info=page_info(query, len(tokens), total))

    async def get(self, call: Call[None, None]) -> Answer:
        """One token."""
        token_id = _token_id(call)
        token = await self._database.read(lambda connection: _find(connection, call.account_id, token_id))
        return Answer(present(token, await self._report(token)))

    async def create(self, call: Call[None, TokenCreate]) -> Answer:
        """A new token and its secret."""
        body = call.body
        new = NewToken(
            name=body.name,
            duration=rules.DEFAULT_DURATION if body.duration is None else body.duration,
            is_enabled=body.enabled is not False,
            secret_version=body.client_secret_version or 0,
            previous_secret_expires_at=_moment(body),
        )
        token = rules.issue(
            new, token_id=new_uuid(), client_id=new_client_id(), account_id=call.account_id, now=call.at
        )
        secret = new_secret(SERVICE_TOKEN_PREFIX)

        def work(connection: Connection) -> Answer:
            store.insert_token(connection, token)
            self._insert_secret(connection, token, secret, call.at)
            seq = _record(connection, call, "create", token)
            result = present_issued(IssuedToken(token, secret), NEVER_SEEN)
            return Answer(result, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work, still_true=_is_current)

    async def update(self, call: Call[None, TokenUpdate]) -> Answer:
        """Other values; with the version raised, a new secret."""
        body = call.body
        patch = TokenPatch(
            name=body.name,
            duration=body.duration,
            is_enabled=body.enabled,
            secret_version=body.client_secret_version or 0,
            previous_secret_expires_at=_moment(body),
        )

        def decide(connection: Connection, token: ServiceToken) -> tuple[TokenChange, ...]:
            has_previous = store.has_secret_version(connection, token.id, token.previous_secret_version)
            return rules.update(token, patch, call.at, has_previous_secret=has_previous)

        return await self._change(call, "update", decide)

    async def refresh(self, call: Call[None, None]) -> Answer:
        """One year more."""
        return await self._change(call, "refresh", lambda _connection, token: rules.refresh(token, call.at))

    async def rotate(self, call: Call[None, RotateBody]) -> Answer:
        """A new secret."""
        end = _moment(call.body)
        return await self._change(call, "rotate", lambda _connection, token: (rules.rotate(token, end, call.at),))

    async def delete(self, call: Call[None, None]) -> Answer:
        """Revoke a token that no policy and no group names."""
        token_id = _token_id(call)
        report = await self._report_of(call.account_id, token_id)

        def work(connection: Connection) -> Answer:
            token = _find(connection, call.account_id, token_id)
            _require_unused(store.find_references(connection, token_id))
            store.mark_deleted(connection, token_id, call.at)
            change = Change(call.actor, "delete", "service_token", token_id, call.account_id)
            seq = record_change(connection, change, None, [f"token/{token.client_id}"], call.at)
            # Kept, so that the SDK's own retry does not end in a 404.
            return Answer(present(token, report), change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def _change(
        self,
        call: Call[Any, Any],
        action: str,
        decide: Callable[[Connection, ServiceToken], tuple[TokenChange, ...]],
    ) -> Answer:
        """Read, decide, write the changed columns, and a new secret if one is due: in one transaction."""
        token_id = _token_id(call)
        report = await self._report_of(call.account_id, token_id)

        def work(connection: Connection) -> Answer:
            token = _find(connection, call.account_id, token_id)
            changes = decide(connection, token)
            if not changes:
                return Answer(present(token, report))
            changed = rules.evolve(token, changes, call.at)
            for change in changes:
                store.apply_change(connection, token_id, change, call.at)
            rotates = any(isinstance(change, SecretReplaced) for change in changes)
            if not rotates:
                seq = _record(connection, call, action, changed)
                # A refresh that is repeated would add another year.
                return Answer(present(changed, report), change_seq=seq, is_kept_for_retry=action == "refresh")
            secret = new_secret(SERVICE_TOKEN_PREFIX)
            self._insert_secret(connection, changed, secret, call.at)
            seq = _record(connection, call, action, changed)
            result = present_issued(IssuedToken(changed, secret), report)
            return Answer(result, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work, still_true=_is_current)

    def _insert_secret(self, connection: Connection, token: ServiceToken, secret: Secret, now: datetime) -> None:
        digest = digest_secret(secret, self._pepper, self._pepper_version)
        store.insert_secret_version(connection, token.id, token.secret_version, digest, now)

    async def _report_of(self, account_id: str, token_id: str) -> LastSeenReport:
        # A token that is gone is refused where the change is made: its repeat may still get the kept answer.
        token = await self._database.read(lambda connection: store.find_token(connection, account_id, token_id))
        return LastSeenReport() if token is None else await self._report(token)

    async def _report(self, *tokens: ServiceToken) -> LastSeenReport:
        try:
            return await self._last_seen.last_seen([token.client_id for token in tokens])
        except ForegateError as error:
            if error.code is not ErrorCode.UNAVAILABLE:
                raise
            # A token must be readable and changeable while telemetry is down; the answer says that nothing is known.
            return LastSeenReport()


def _find(connection: Connection, account_id: str, token_id: str) -> ServiceToken:
    token = store.find_token(connection, account_id, token_id)
    if token is None:
        raise not_found("service token")
    return token


def _token_id(call: Call[Any, Any]) -> str:
    text = call.path["service_token_id"]
    if CLIENT_ID.fullmatch(text):
        message = "this is a client id; use the token's id, a UUID (list the tokens to find it)."
        raise ForegateError(ErrorCode.NOT_FOUND, message)
    return parse_uuid(text, "service token")


def _moment(body: RotateBody) -> datetime | None:
    text = body.previous_client_secret_expires_at
    return None if text is None else parse_time(text, pointer="/previous_client_secret_expires_at")


def _record(connection: Connection, call: Call[Any, Any], action: str, token: ServiceToken) -> int | None:
    change = Change(call.actor, action, "service_token", token.id, call.account_id)
    return record_change(connection, change, snapshot(token), [f"token/{token.client_id}"], call.at)


def _is_current(connection: Connection, result: dict[str, Any]) -> bool:
    """Whether a kept answer still shows the token's living secret."""
    version = store.find_secret_version(connection, str(result.get("id")))
    return version is not None and version == result.get("client_secret_version")


def _require_unused(references: list[tuple[str, str]]) -> None:
    if not references:
        return
    named = ", ".join(f"{kind} {referrer}" for kind, referrer in references[:_NAMED_AT_MOST])
    more = len(references) - _NAMED_AT_MOST
    rest = f" and {more} more" if more > 0 else ""
    raise ForegateError(ErrorCode.IN_USE, f"this token is named by {named}{rest}; take it out there first.")
