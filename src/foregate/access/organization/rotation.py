"""Replacing signing keys when they are due, and taking back those whose time is over. Run now and then by the API
process; safe to run at any time and as often as one likes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from foregate.access.organization import store, writes
from foregate.access.organization.keys import new_signing_key
from foregate.access.organization.model import NewKey
from foregate.access.organization.rules import next_rotation
from foregate.core.masterkey import MasterKey
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import enqueue

ACTOR = "foregate"


async def rotate_due(database: AsyncDatabase, master_key: MasterKey, now: datetime) -> int | None:
    """Replace the keys that are due, unpublish those that are over. The last change's seq, None without a change.

    The caller wakes the publisher where a seq comes back.
    """
    seqs = []
    for account_id in await database.read(lambda connection: due_accounts(connection, now)):
        key = await asyncio.to_thread(new_signing_key, master_key.key_encryption_key(), now)
        seqs.append(await database.write(_rotation(account_id, key, now)))
    seqs.append(await database.write(lambda connection: take_back(connection, now)))
    return max((seq for seq in seqs if seq is not None), default=None)


async def rotate_all(database: AsyncDatabase, master_key: MasterKey, now: datetime, *, actor: str) -> list[str]:
    """Replace the key of every account, due or not, as whoever knew it is to know it no longer; the accounts' ids.

    The caller wakes the publisher.
    """
    accounts = list(await database.read(store.all_key_settings))
    for account_id in accounts:
        key = await asyncio.to_thread(new_signing_key, master_key.key_encryption_key(), now)
        await database.write(lambda c: writes.rotate(c, actor, account_id, key, now))  # noqa: B023
    return accounts


def due_accounts(connection: Connection, now: datetime) -> list[str]:
    """The accounts whose key is due to be replaced."""
    settings = store.all_key_settings(connection)
    return [account_id for account_id, one in settings.items() if next_rotation(one) <= now]


def take_back(connection: Connection, now: datetime) -> int | None:
    """Delete the keys whose time is over and tell the edges; the last seq, None if there were none."""
    seqs = [enqueue(connection, f"keys/{account_id}", now) for account_id in store.delete_retired_keys(connection, now)]
    return max(seqs, default=None)


def _rotation(account_id: str, key: NewKey, now: datetime) -> Callable[[Connection], int | None]:
    def work(connection: Connection) -> int | None:
        # Somebody may have rotated by hand since it was found due.
        if account_id not in due_accounts(connection, now):
            return None
        return writes.rotate(connection, ACTOR, account_id, key, now)[1]

    return work
