"""Which edge a certificate stands for, answered from memory where it can be.

The first time that an edge's newer certificate is seen, its older ones end: so of two machines with the same files one
is found out at the next renewal at the latest. Used by the API process, on one event loop.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection

from foregate.database.engine import AsyncDatabase
from foregate.edge.feed_gates import Member
from foregate.identity import edges_store

_REMEMBERED_LIMIT = 50_000


class Memberships:
    """Safe for any number of requests at once."""

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._members: dict[bytes, Member] = {}
        # As in `Credentials`: what was read before a `forget` must not be remembered after it.
        self._generation = 0

    async def find(self, certificate: bytes) -> Member | None:
        """The edge of a certificate (DER) of the feed's CA, one that is expelled too; None where it is not known or
        has been replaced."""
        fingerprint = hashlib.sha256(certificate).digest()
        known = self._members.get(fingerprint)
        if known is not None:
            return known
        generation = self._generation
        member, has_older = await self._database.read(lambda connection: _look_up(connection, fingerprint))
        if has_older:
            await self._database.write(lambda c: edges_store.drop_older_certificates(c, fingerprint))
            self.forget()
        elif member is not None and generation == self._generation:
            if len(self._members) >= _REMEMBERED_LIMIT:
                self._members.clear()
            self._members[fingerprint] = member
        return member

    def forget(self) -> None:
        """Ask the database again from now on. Call it after a change to an edge or its certificates has committed."""
        self._generation += 1
        self._members.clear()


def _look_up(connection: Connection, fingerprint: bytes) -> tuple[Member | None, bool]:
    member = edges_store.find_member(connection, fingerprint)
    return member, member is not None and edges_store.has_older_certificate(connection, fingerprint)
