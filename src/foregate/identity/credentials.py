"""Who presents an API token or an edge key: digests compared in constant time, answers remembered in memory.

What changes a token or an edge calls `forget` in the same process, where the memory is then never stale; what another
API process has changed is seen in the records (`look`) within moments. Unknown credentials are not remembered: they
would let anyone fill the memory.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from foregate.api.auth import Principal
from foregate.core.masterkey import MasterKey
from foregate.core.secrets import API_TOKEN_PREFIX, EDGE_KEY_PREFIX, Secret
from foregate.database.engine import AsyncDatabase
from foregate.identity import edges_store, store
from foregate.identity.issuing import digest_key

_REMEMBERED_LIMIT = 10_000


class Credentials:
    """Knows API tokens, accounts and edge keys. Safe for any number of requests at once in one event loop."""

    def __init__(self, database: AsyncDatabase, master_key: MasterKey) -> None:
        self._database = database
        self._key = master_key.api_token_key()
        self._principals: dict[bytes, Principal] = {}
        self._accounts: set[str] = set()
        self._edges: dict[str, bytes] = {}
        # Counts the calls of `forget`: what was read before one must not be remembered after it.
        self._generation = 0
        self._audited_to = 0

    async def authenticate(self, bearer: Secret) -> Principal | None:
        """The principal of an API token, whatever its status; None for one that does not exist."""
        if not bearer.reveal().startswith(API_TOKEN_PREFIX):
            return None
        # A plain hash names the token in memory: half the price of the digest, and it is never written anywhere.
        name = hashlib.sha256(bearer.reveal().encode()).digest()
        known = self._principals.get(name)
        if known is not None:
            return known
        digest, generation = digest_key(self._key, bearer).value, self._generation
        row = await self._database.read(lambda connection: store.find_api_token(connection, digest))
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        if generation == self._generation:
            _make_room(self._principals)
            self._principals[name] = row.principal
        return row.principal

    async def account_exists(self, account_id: str) -> bool:
        """Whether there is such an account. Accounts are never deleted, so a yes holds for ever."""
        if account_id in self._accounts:
            return True
        account = await self._database.read(lambda connection: store.find_account(connection, account_id))
        if account is not None:
            self._accounts.add(account_id)
        return account is not None

    async def authenticate_edge(self, authorization: str) -> str | None:
        """The edge id of a header value `Edge <id>:<key>`, if its key is right and not revoked; else None."""
        scheme, _, pair = authorization.strip().partition(" ")
        edge_id, _, key = pair.strip().partition(":")
        if scheme.lower() != "edge" or not key.startswith(EDGE_KEY_PREFIX) or not key.isascii():
            return None
        digest, generation = digest_key(self._key, Secret(key)).value, self._generation
        known = self._edges.get(edge_id)
        if known is None:
            known = await self._database.read(lambda connection: edges_store.find_edge_digest(connection, edge_id))
            if known is None:
                return None
        if not hmac.compare_digest(known, digest):
            return None
        if generation == self._generation:
            _make_room(self._edges)
            self._edges[edge_id] = known
        return edge_id

    def forget(self) -> None:
        """Ask the database again from now on. Call it after a change to an API token or an edge has committed."""
        self._generation += 1
        self._principals.clear()
        self._edges.clear()

    async def look(self) -> bool:
        """Forget where another process has changed an API token or an edge; whether one has. Call it when the records
        have changed."""
        newest, has_changed = await self._database.read(
            lambda connection: store.credential_changes(connection, self._audited_to)
        )
        self._audited_to = newest
        if has_changed:
            self.forget()
        return has_changed


def _make_room(memory: dict[Any, Any]) -> None:
    if len(memory) >= _REMEMBERED_LIMIT:
        memory.clear()
