"""The calls about API tokens: make one for another person or program, list them, end one.

Paths of Foregate's own: Cloudflare's speak of permission groups and resources, which there are none of here. Only a
token for all accounts may call them, and none may make another that can do more than itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import Connection
from typing_extensions import TypedDict

from foregate.api.auth import Permission
from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.operations import Call, Operations
from foregate.api.paging import PageQuery, page_info
from foregate.api.parameters import BodyModel
from foregate.api.texts import DisplayName
from foregate.core.clock import parse_time
from foregate.core.errors import ErrorCode, ForegateError, invalid, not_found
from foregate.core.ids import ACCOUNT_ID
from foregate.core.masterkey import MasterKey
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import Change
from foregate.identity import issuing, store
from foregate.identity.model import ApiTokenFacts, RevokedApiToken

_PATH = "/foregate/api_tokens"


class ApiTokenCreate(BodyModel):
    """The body of POST. Without `account_id` for all accounts, without `expires_on` for ever."""

    name: DisplayName
    account_id: str | None = None
    permissions: Annotated[list[Literal["read", "write"]], Field(min_length=1, max_length=2)] | None = None
    expires_on: str | None = None


class ApiTokenValue(TypedDict):
    """What a new API token has beside its facts: its text."""

    value: str


class ApiTokensApi:
    """Handlers. `forget` is called after a token has ended: nobody may remember it (`Credentials.forget`)."""

    def __init__(
        self, database: AsyncDatabase, changes: Changes, master_key: MasterKey, forget: Callable[[], None]
    ) -> None:
        self._database = database
        self._changes = changes
        self._master_key = master_key
        self._forget = forget

    def operations(self) -> Operations:
        """The operations."""
        operations = Operations("API tokens")
        add = operations.add
        add("GET", _PATH, self.list, "List API tokens", query=PageQuery, result=ApiTokenFacts, is_list=True)
        add("POST", _PATH, self.create, "Make an API token", body=ApiTokenCreate,
            result=(ApiTokenFacts, ApiTokenValue), status=201, errors=(ErrorCode.NOT_FOUND,))  # fmt: skip
        add("DELETE", f"{_PATH}/{{token_id}}", self.revoke, "Revoke an API token", result=RevokedApiToken,
            errors=(ErrorCode.NOT_FOUND,))  # fmt: skip
        return operations

    async def list(self, call: Call[PageQuery, None]) -> Answer:
        """A page of all API tokens, oldest first, those included that have ended."""
        query = call.query
        found, total = await self._database.read(
            lambda connection: store.list_api_tokens(connection, call.at, offset=query.offset, limit=query.per_page)
        )
        return Answer(found, info=page_info(query, len(found), total))

    async def create(self, call: Call[None, ApiTokenCreate]) -> Answer:
        """A new token; `value` is its text, which is shown here and never again."""
        body, expires_at = call.body, _end_of(call.body, call.at)
        permissions = frozenset(map(Permission, body.permissions)) if body.permissions else frozenset(Permission)
        if not permissions <= call.principal.permissions:
            message = "This API token may not give a permission that it does not have itself."
            raise ForegateError(ErrorCode.FORBIDDEN, message, pointer="/permissions")

        def work(connection: Connection) -> Answer:
            _require_account(connection, body.account_id)
            principal, secret = issuing.create_api_token(
                connection,
                self._master_key,
                body.name,
                call.at,
                account_id=body.account_id,
                permissions=permissions,
                expires_at=expires_at,
                actor=call.actor,
            )
            facts = store.get_api_token(connection, principal.token_id, call.at)
            return Answer({**facts.to_members(), "value": secret.reveal()}, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def revoke(self, call: Call[None, None]) -> Answer:
        """End a token for good. Not the one that asks, so that nobody locks everybody out by mistake."""
        token_id = call.path["token_id"]
        if token_id == call.principal.token_id:
            raise invalid("An API token cannot revoke itself; use another one.")

        def work(connection: Connection) -> Answer:
            facts = store.get_api_token(connection, token_id, call.at)
            store.set_api_token_enabled(connection, token_id, is_enabled=False)
            change = Change(call.actor, "revoke", "api_token", token_id, facts.account_id or "")
            store.insert_audit(connection, change, call.at)
            return Answer(RevokedApiToken(token_id))

        answer = await self._changes.run(call, work)
        self._forget()
        return answer


def _end_of(body: ApiTokenCreate, now: datetime) -> datetime | None:
    if body.expires_on is None:
        return None
    expires_at = parse_time(body.expires_on, pointer="/expires_on")
    if expires_at <= now:
        raise invalid("The API token would have ended already; give a time to come.", pointer="/expires_on")
    return expires_at


def _require_account(connection: Connection, account_id: str | None) -> None:
    if account_id is None:
        return
    if not ACCOUNT_ID.fullmatch(account_id):
        raise invalid("An account id is 32 hexadecimal digits.", pointer="/account_id")
    if store.find_account(connection, account_id) is None:
        raise not_found("account")
