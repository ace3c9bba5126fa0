"""From a ForegateError to what a v4 client sees: HTTP status, error number, name and sentence, in one table.

Nothing else in the program knows a status or a number. No refusal is a 409, and all carry `x-should-retry: false`: the
official SDKs and Terraform repeat a 409, up to ten times over three minutes (docs/decisions/0009).
Numbers are Cloudflare's where they are known (reference page, section 5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from foregate.core.errors import ErrorCode, ForegateError


class Family(StrEnum):
    """Which product an operation belongs to: some numbers differ by product."""

    GENERAL = "general"
    SERVICE_TOKEN = "service_token"
    APPLICATION = "application"
    POLICY = "policy"
    GROUP = "group"
    ORGANIZATION = "organization"
    KEYS = "keys"
    LOGS = "logs"
    TUNNEL = "tunnel"


ACCESS_FAMILIES = frozenset(set(Family) - {Family.GENERAL, Family.TUNNEL})


_SECRET_LIKE = re.compile(r"[a-z]{2,6}_[0-9A-Za-z]{24,}")


@dataclass(frozen=True, slots=True)
class Number:
    """A v4 error number, and the name that goes before the sentence (empty: the sentence alone)."""

    number: int
    name: str = ""


STATUS: dict[ErrorCode, int] = {
    ErrorCode.INVALID_INPUT: 400,
    ErrorCode.UNSUPPORTED: 400,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.GONE: 410,
    ErrorCode.ALREADY_EXISTS: 400,
    ErrorCode.IN_USE: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.WRONG_CONTENT_TYPE: 415,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.INTERNAL: 500,
}

_GENERAL: dict[ErrorCode, Number] = {
    ErrorCode.INVALID_INPUT: Number(1004, "Invalid request"),
    ErrorCode.UNSUPPORTED: Number(1004, "Not supported"),
    ErrorCode.NOT_FOUND: Number(7003, "Could not route to the object"),
    ErrorCode.GONE: Number(7003, "Ended for good"),
    ErrorCode.ALREADY_EXISTS: Number(1061),
    ErrorCode.IN_USE: Number(1008),
    ErrorCode.UNAUTHENTICATED: Number(10000, "Authentication error"),
    ErrorCode.FORBIDDEN: Number(9109, "Unauthorized to access requested resource"),
    ErrorCode.TOO_LARGE: Number(10013, "Request too large"),
    ErrorCode.WRONG_CONTENT_TYPE: Number(10015, "Unsupported content type"),
    ErrorCode.METHOD_NOT_ALLOWED: Number(10405, "Method not allowed"),
    ErrorCode.UNAVAILABLE: Number(10503, "Service unavailable"),
    ErrorCode.INTERNAL: Number(10500, "Internal error"),
}

_ACCESS: dict[ErrorCode, Number] = {
    ErrorCode.INVALID_INPUT: Number(12130, "access.api.error.invalid_request"),
    ErrorCode.UNSUPPORTED: Number(12130, "access.api.error.invalid_request"),
    ErrorCode.NOT_FOUND: Number(12135, "access.api.error.not_found"),
    ErrorCode.ALREADY_EXISTS: Number(12132, "access.api.error.already_exists"),
    ErrorCode.IN_USE: Number(12139, "access.api.error.in_use"),
}

_BY_FAMILY: dict[tuple[Family, ErrorCode], Number] = {
    **{(family, code): number for family in ACCESS_FAMILIES for code, number in _ACCESS.items()},
    (Family.SERVICE_TOKEN, ErrorCode.NOT_FOUND): Number(12135, "access.api.error.service_token_not_found"),
    (Family.SERVICE_TOKEN, ErrorCode.IN_USE): Number(12139, "access.api.error.service_token_in_use"),
    (Family.APPLICATION, ErrorCode.ALREADY_EXISTS): Number(11010, "access.api.error.application_already_exists"),
    (Family.ORGANIZATION, ErrorCode.INVALID_INPUT): Number(12062, "access.api.error.invalid_org_config"),
    (Family.ORGANIZATION, ErrorCode.UNSUPPORTED): Number(12062, "access.api.error.invalid_org_config"),
    (Family.TUNNEL, ErrorCode.NOT_FOUND): Number(1003, "Tunnel not found"),
    (Family.TUNNEL, ErrorCode.ALREADY_EXISTS): Number(1013, "You already have a tunnel with this name"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One item of a failure answer's `errors`, and the status it comes with."""

    status: int
    number: int
    message: str
    pointer: str | None = None
    chain: tuple[Number, ...] = ()

    def item(self) -> dict[str, object]:
        """The JSON object (reference page, section 5)."""
        item: dict[str, object] = {"code": self.number, "message": self.message}
        if self.pointer is not None:
            item["source"] = {"pointer": self.pointer}
        if self.chain:
            item["error_chain"] = [{"code": link.number, "message": link.name} for link in self.chain]
        return item


def problem_of(error: ForegateError, family: Family = Family.GENERAL) -> Problem:
    """What a client of `family` is told about `error`. The inner detail stays behind."""
    number = _BY_FAMILY.get((family, error.code)) or _GENERAL[error.code]
    message = f"{number.name}: {error.message}" if number.name else error.message
    pointer = None if error.pointer is None else _masked(error.pointer)
    return Problem(STATUS[error.code], number.number, _masked(message), pointer)


def _masked(text: str) -> str:
    # A caller may put a secret where a name belongs, and an answer is logged and pasted more often than a request.
    return _SECRET_LIKE.sub("****", text)


# Refusals that happen before an operation is known to run; their numbers are of no ErrorCode.
NO_ROUTE = Problem(404, 7000, "No route for that URI: check the path against /openapi.json.")
BAD_ACCOUNT_ID = Problem(
    400,
    7003,
    "Could not route to the account: an account id is 32 hexadecimal digits.",
    chain=(Number(7000, "No route for that URI"),),
)
BAD_AUTHORIZATION = Problem(
    400,
    6003,
    "Invalid request headers: write the header as 'Authorization: Bearer <API token>'.",
    chain=(Number(6111, "Invalid format for Authorization header"),),
)
LONE_AUTH_KEY = Problem(
    400,
    6003,
    "Invalid request headers: Foregate takes API tokens only. Unset CLOUDFLARE_EMAIL and CLOUDFLARE_API_KEY "
    "(X-Auth-Email, X-Auth-Key) and send 'Authorization: Bearer <API token>'.",
    chain=(Number(6103, "X-Auth-Key is not supported"),),
)
MALFORMED_HTTP = Problem(400, 10400, "Malformed request: this is not HTTP/1.1, or is ambiguous (RFC 9112).")
HEAD_TOO_LARGE = Problem(431, 10431, "Request header too large: the first line and the headers may hold 64 KiB.")
INVALID_TOKEN = Problem(401, 1000, "Invalid API Token")


class ProblemRaised(Exception):
    """A refusal that is already a Problem. Only this package raises it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem
