"""The event line: one decision as HAProxy writes it into a worker's spool file, and how it is read.

A line is JSON with the members of `MEMBERS` in their order. HAProxy's own notices, and connections that failed before a
request, stand between them and do not begin with `{`. Names only grow: a reader takes a missing member as empty and
ignores one it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from foregate.core.decision import MEANINGS, Outcome, Reason

VERSION = 1
# Number, time, ray, account, application, client id as presented, policy, reason, host, address, method, path, status,
# the worker's count of lines before this one, how the exchange ended (HAProxy's termination state).
MEMBERS = ("n", "t", "ray", "acct", "app", "id", "pol", "why", "host", "ip", "m", "path", "st", "c", "end")

# With one of these reasons and a client id, the token authenticated and the request was let through: a use.
USES = frozenset({Reason.SERVICE_AUTH, Reason.BYPASS})


class MalformedLine(Exception):
    """A line that is no event. The text says what is wrong and holds nothing of the line."""


@dataclass(frozen=True, slots=True)
class Event:
    """One decision. `number` counts the worker's requests from 0; `at` is microseconds since 1970. Texts are empty
    where they do not apply; `client_id` is as presented, known or not."""

    number: int
    at: int
    ray_id: str
    account_id: str
    app_id: str
    client_id: str
    policy_id: str
    reason: Reason
    host: str
    ip: str
    method: str
    path: str
    status: int
    end: str

    @property
    def outcome(self) -> Outcome:
        """What the reason means."""
        return MEANINGS[self.reason].outcome

    @property
    def is_use(self) -> bool:
        """Whether "last seen" counts it."""
        return self.reason in USES and bool(self.client_id)


def is_notice(line: bytes) -> bool:
    """Whether a line is no event: HAProxy's own notice, or a connection that failed before there was a request."""
    return not line.startswith(b"{")


def parse_line(line: bytes) -> Event:
    """An event line, its newline or not. Raises MalformedLine."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise MalformedLine("not JSON") from None
    if not isinstance(found, dict):
        raise MalformedLine("not a JSON object")
    return Event(
        number=_whole(found, "n"),
        at=_time(found),
        ray_id=_text(found, "ray"),
        account_id=_text(found, "acct"),
        app_id=_text(found, "app"),
        client_id=_text(found, "id"),
        policy_id=_text(found, "pol"),
        reason=_reason(found),
        host=_text(found, "host"),
        ip=_text(found, "ip"),
        method=_text(found, "m"),
        path=_text(found, "path"),
        status=_whole(found, "st", missing=0),
        end=_text(found, "end"),
    )


def parse_reason(text: str) -> Reason:
    """The reason of that name; empty is a request that HAProxy refused while parsing it. Raises MalformedLine."""
    if not text:
        return Reason.REQUEST_MALFORMED
    try:
        return Reason(text)
    except ValueError:
        raise MalformedLine("unknown reason") from None


def _reason(found: dict[str, Any]) -> Reason:
    return parse_reason(_text(found, "why"))


# Times beyond the year 2100 are a broken clock, and would not fit the databases' whole numbers at some point.
_LAST_SECOND = 4_102_444_800


def _time(found: dict[str, Any]) -> int:
    seconds = found.get("t")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < _LAST_SECOND:
        raise MalformedLine("no time")
    return round(seconds * 1000) * 1000


def _whole(found: dict[str, Any], name: str, missing: int | None = None) -> int:
    value = found.get(name, missing)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**62) < value < 2**62:
        raise MalformedLine(f"{name} is not a whole number")
    return value


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name, "")
    if not isinstance(value, str):
        raise MalformedLine(f"{name} is not a text")
    return value
