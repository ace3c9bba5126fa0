"""The calls of identity: accounts, and what a caller may ask about itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from foregate.api.auth import Scope
from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.neutral import OnlyEmpty, ReadOnly
from foregate.api.operations import Call, Operations
from foregate.api.paging import PageQuery, page_info
from foregate.api.parameters import BodyModel
from foregate.core.errors import ErrorCode, ForegateError, invalid, not_found, unsupported
from foregate.database.engine import AsyncDatabase
from foregate.identity import issuing, store
from foregate.identity.issuing import AccountSetUp
from foregate.identity.model import Account, AccountName, AccountType, Caller, Membership, VerifiedToken

Name = Annotated[str, Field(min_length=1, max_length=255)]


def _refuse_second_factor(value: bool | None) -> bool | None:
    if value:
        raise unsupported("No person logs in to Foregate, so there is no second factor: leave enforce_twofactor out.")
    return value


class SettingsWrite(BodyModel):
    """Known to Cloudflare, without effect here: only the default passes."""

    enforce_twofactor: Annotated[bool | None, AfterValidator(_refuse_second_factor)] = None
    abuse_contact_email: OnlyEmpty = None


class AccountCreate(BodyModel):
    """The body of POST /accounts. Go's older SDK sends a whole account, its zero date included."""

    name: Name
    type: Literal["standard", "enterprise"] | None = None
    settings: SettingsWrite | None = None
    managed_by: OnlyEmpty = None
    created_on: ReadOnly = None


class AccountUpdate(AccountCreate):
    """The body of PUT /accounts/{account_id}. The SDK repeats the id."""

    id: str | None = None


class AccountsQuery(PageQuery):
    """Filters of the list of accounts."""

    name: str | None = None
    direction: Literal["asc", "desc"] = "asc"


class IdentityApi:
    """Handlers. `set_ups` run in every new account's transaction."""

    def __init__(self, database: AsyncDatabase, changes: Changes, set_ups: Sequence[AccountSetUp] = ()) -> None:
        self._database = database
        self._changes = changes
        self._set_ups = tuple(set_ups)

    def operations(self) -> Operations:
        """All calls of identity."""
        operations = Operations("Accounts")
        add = operations.add
        add("GET", "/accounts", self.list, "List accounts", scope=Scope.ANY, query=AccountsQuery, result=Account,
            is_list=True)  # fmt: skip
        add("POST", "/accounts", self.create, "Create an account", body=AccountCreate, result=Account)
        add("GET", "/accounts/{account_id}", self.get, "Get an account", result=Account)
        add("PUT", "/accounts/{account_id}", self.update, "Update an account", body=AccountUpdate, result=Account)
        for path in ("/user/tokens/verify", "/accounts/{account_id}/tokens/verify"):
            add("GET", path, self.verify, "Verify the API token of this request", scope=Scope.SELF,
                result=VerifiedToken)  # fmt: skip
        add("GET", "/user", self.user, "Who calls", scope=Scope.ANY, result=Caller)
        add("GET", "/memberships", self.memberships, "Accounts that the caller may see", scope=Scope.ANY,
            query=PageQuery, result=Membership, is_list=True)  # fmt: skip
        return operations

    async def list(self, call: Call[AccountsQuery, None]) -> Answer:
        """A page of the accounts that the caller may see."""
        query = call.query
        found, total = await self._database.read(
            lambda connection: store.list_accounts(
                connection,
                only=call.principal.account_id,
                name=query.name,
                is_descending=query.direction == "desc",
                offset=query.offset,
                limit=query.per_page,
            )
        )
        return Answer(found, info=page_info(query, len(found), total))

    async def create(self, call: Call[None, AccountCreate]) -> Answer:
        """A new account with whatever the products need in it."""

        def work(connection: Connection) -> Answer:
            account, seq = issuing.create_account(
                connection,
                call.body.name,
                call.at,
                kind=AccountType(call.body.type or "standard"),
                actor=call.actor,
                set_ups=self._set_ups,
            )
            return Answer(account, change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def get(self, call: Call[None, None]) -> Answer:
        """One account."""
        account = await self._database.read(lambda connection: store.find_account(connection, call.account_id))
        if account is None:
            raise not_found("account")
        return Answer(account)

    async def update(self, call: Call[None, AccountUpdate]) -> Answer:
        """Another name or type."""
        body = call.body
        if body.id is not None and body.id != call.account_id:
            raise invalid("The id in the body is not the account in the path.", pointer="/id")

        def work(connection: Connection) -> Answer:
            kind = None if body.type is None else AccountType(body.type)
            changed = issuing.update_account(
                connection, call.account_id, call.at, name=body.name, kind=kind, actor=call.actor
            )
            return Answer(changed)

        return await self._changes.run(call, work)

    async def verify(self, call: Call[None, None]) -> Answer:
        """The status of the token that asks."""
        principal = call.principal
        if "account_id" in call.path and principal.account_id not in (None, call.account_id):
            raise ForegateError(ErrorCode.FORBIDDEN, "This API token is bound to another account.")
        return Answer(
            VerifiedToken(principal.token_id, principal.status(call.at), principal.not_before, principal.expires_at)
        )

    async def user(self, call: Call[None, None]) -> Answer:
        """The caller: an API token, not a person."""
        return Answer(Caller(call.principal.token_id))

    async def memberships(self, call: Call[PageQuery, None]) -> Answer:
        """The accounts that the caller may see, as memberships."""
        query, only = call.query, call.principal.account_id

        def read(connection: Connection) -> tuple[list[Account], int]:
            return store.list_accounts(
                connection, only=only, name=None, is_descending=False, offset=query.offset, limit=query.per_page
            )

        found, total = await self._database.read(read)
        return Answer([_membership(account) for account in found], info=page_info(query, len(found), total))


def _membership(account: Account) -> Any:
    return Membership(account.id, "accepted", AccountName(account.id, account.name, account.type), ("API token",))
