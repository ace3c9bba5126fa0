"""The peppers of a home: a new one for the secrets of tomorrow, and which ones are in use. Works on the master key file
and beside whatever runs; the control API takes a new pepper when it starts."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import DatabaseError

from foregate.access.tokens.store import count_live_secrets
from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import MasterKey, encode, load, write_private
from foregate.database.stores import Store
from foregate.services.holder import Held, hold
from foregate.services.home import Home

_ROOT_BYTES = 32


@dataclass(frozen=True, slots=True)
class PepperUse:
    """A pepper, whether new secrets get it, and how many live secrets of service tokens have it."""

    version: int
    is_current: bool
    live_secrets: int


def add_pepper(home: Home) -> int:
    """Add a root to the master key and make it the current one; its number. What was there stays.

    ForegateError(UNAVAILABLE) where there is no whole master key, it is another user's, or another process is just
    doing the same.
    """
    load(home.master_key)  # before a lock file is left in a folder that is no home
    if home.master_key.stat().st_uid != os.geteuid():
        # Written by us it would be ours, and the one whose home it is could not read it any more.
        message = f"{home.master_key} belongs to another user; run this as that user."
        raise ForegateError(ErrorCode.UNAVAILABLE, message)
    try:
        with hold(home.root / "master.key.lock"):
            key = load(home.master_key)
            version = max(key.roots) + 1
            roots = {**key.roots, version: secrets.token_bytes(_ROOT_BYTES)}
            write_private(home.master_key, encode(MasterKey(roots, version)))
            return version
    except Held as held:
        message = f"Process {held.holder.pid} is changing {home.master_key} just now; try again."
        raise ForegateError(ErrorCode.UNAVAILABLE, message) from None


def read_peppers(home: Home, records: Store, now: datetime) -> list[PepperUse]:
    """The peppers by number, those included that live secrets have and the master key does not know."""
    key = load(home.master_key)
    try:
        with records.look_into() as connection:
            counts = count_live_secrets(connection, now)
    except DatabaseError as error:
        message = f"{records.where} cannot be read ({error.orig}); see: foregate doctor"
        raise ForegateError(ErrorCode.UNAVAILABLE, message) from error
    versions = sorted(key.roots.keys() | counts.keys())
    return [PepperUse(version, version == key.current, counts.get(version, 0)) for version in versions]


def unknown_peppers(home: Home, records: Store, now: datetime) -> list[PepperUse]:
    """Peppers that live secrets have and the master key does not know: an older copy of it was put back."""
    known = load(home.master_key).roots
    return [use for use in read_peppers(home, records, now) if use.version not in known]
