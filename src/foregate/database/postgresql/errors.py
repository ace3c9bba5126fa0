"""What an error of PostgreSQL means to people: one sentence that says what to do. Names no value and no statement."""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import DBAPIError

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.database.carrying import FENCE, MOVED
from foregate.database.engine import Away

_AWAY = "The database {} is not available now; it is tried again by itself."
_SENTENCES = {
    "full": "The database {} is full; free some space on its server.",
    "read-only": "The database {} takes no writes: it is a standby, or set to read only. Name the primary in "
    "FOREGATE_DATABASE; with several hosts, target_session_attrs=read-write finds it.",
    "other schema": "The database {} has another schema than this Foregate; run: foregate database setup",
    "damaged": "The database {} is damaged; its server's log says where. Restore a backup.",
    "refused": "The database {} does not take this home's password; copy the folder `database` from the home in which "
    "foregate database setup was run.",
    "missing": "The database {} is not set up; run: foregate database setup",
    "away": _AWAY,
}
# What may pass without anything being done here.
_PASSING = frozenset({"away", "full", "read-only"})
# By SQLSTATE or its class (PostgreSQL manual, appendix A).
_STATES = {
    "53100": "full",
    "25006": "read-only",
    "42P01": "other schema",
    "42703": "other schema",
    "3F000": "other schema",
    "XX001": "damaged",
    "XX002": "damaged",
    "28P01": "refused",
    "28000": "refused",
    "3D000": "missing",
    "55P03": "away",
    "57014": "away",
    "25P03": "away",
}
_CLASSES = {"08": "away", "40": "away", "53": "away", "57": "away", "58": "away"}
# libpq gives no SQLSTATE for a connection that was not made, only the server's words.
_WORDS = {"password authentication failed": "refused", "does not exist": "missing", "no password supplied": "refused"}


def explain(error: BaseException, where: str) -> ForegateError | None:
    """The sentence for an error of psycopg, or of SQLAlchemy around it; None for one that is nobody's outage: a
    constraint that was broken, a statement that is wrong or not allowed."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return None
    if isinstance(cause, psycopg.DataError) and "NUL" in str(cause):
        return invalid("A text holds the NUL character, which cannot be kept; leave it out.")
    if FENCE in str(cause):
        return Away(ErrorCode.UNAVAILABLE, MOVED, detail=str(cause).strip())
    kind = _kind(cause)
    if kind is None:
        return None
    error_type = Away if kind in _PASSING else ForegateError
    return error_type(ErrorCode.UNAVAILABLE, _SENTENCES[kind].format(where), detail=str(cause).strip())


def away(where: str, detail: str) -> Away:
    """It is not there, and may be again without anybody's doing."""
    return Away(ErrorCode.UNAVAILABLE, _AWAY.format(where), detail=detail)


def _kind(cause: psycopg.Error) -> str | None:
    if cause.sqlstate is not None:
        return _STATES.get(cause.sqlstate) or _CLASSES.get(cause.sqlstate[:2])
    if not isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return None
    return next((kind for words, kind in _WORDS.items() if words in str(cause)), "away")
