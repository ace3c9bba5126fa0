"""A connection to PostgreSQL that never waits for ever, and whose errors quote no row.

Limits, from the inside out: a lock, a statement, a transaction that does nothing, an answer, a network that is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo, errors

from foregate.database.postgresql.address import Address

CONNECT_SECONDS = 5
# A writer waits this long for another's transaction; a statement runs this long.
LOCK_SECONDS = 6
STATEMENT_SECONDS = 8
# One that was stopped within a transaction holds up the others no longer than they wait.
IDLE_SECONDS = 5
# A server that hangs does not end its statements by itself. More than a statement's limit, so that it may.
ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects where: the role with its password, and the schema that it works in."""

    address: Address
    role: str
    password: str
    schema: str


class NoAnswer(psycopg.OperationalError):
    """The server is there and says nothing: it hangs, or was stopped."""


class Link(psycopg.Connection[Any]):
    """A connection. Errors hold the server's first line alone: the others may quote a row, digests included."""

    answer_seconds: float | None = ANSWER_SECONDS

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server's answer. NoAnswer after `answer_seconds`; the connection is closed then."""
        try:
            return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except errors._WaitTimeout:
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise NoAnswer(f"no answer within {self.answer_seconds} s") from None
        except psycopg.Error as error:
            if error.diag.message_primary:
                error.args = (error.diag.message_primary,)
            raise


def connect(login: Login, *, has_limits: bool = True) -> Link:
    """A new connection, each statement a transaction of its own until BEGIN. psycopg.OperationalError without one."""
    # A stopped process or a machine that is gone answers nothing: the kernel is told how long to believe in it.
    quiet = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
    given = conninfo.conninfo_to_dict(login.address.url)
    defaults: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "application_name": "foregate", **quiet}
    settings = {"search_path": login.schema, "client_min_messages": "warning", "timezone": "UTC"}
    if has_limits:
        settings |= {
            "lock_timeout": f"{LOCK_SECONDS}s",
            "statement_timeout": f"{STATEMENT_SECONDS}s",
            "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        }
    link = Link.connect(
        **{**defaults, **given},
        user=login.role,
        password=login.password or None,
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        autocommit=True,
    )
    if not has_limits:
        link.answer_seconds = None
    return link
