"""Where a PostgreSQL database is, as the setting `database` says it. Standard library alone: read by every process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

SCHEME = "postgresql"
# Roles are named after it (`roles.py`) and must stay within PostgreSQL's 63 bytes.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
# What Foregate decides itself: who it is, and how it behaves in a session.
_OWN = frozenset({"user", "password", "passfile", "dbname", "options"})


@dataclass(frozen=True, slots=True)
class Address:
    """`url` as libpq takes it, without a user; `database` is the name in it, `where` host, port and name for people."""

    url: str
    database: str
    where: str

    def __str__(self) -> str:
        return self.url


def parse_address(text: str, *, may_have_user: bool = False) -> tuple[Address, str]:
    """The address and the user (empty without) of a URL `postgresql://host:port/name?sslmode=…`.

    Whatever else libpq knows may stand in the query, and several hosts with commas (PostgreSQL manual, 34.1.1). A
    password may not: command lines and environments are read by others. ValueError says what is wanted.
    """
    parts = urlsplit(text)
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme != SCHEME or parts.fragment or not _NAME.fullmatch(name):
        raise ValueError("a URL such as postgresql://db.example.com:5432/foregate, the name in lower case")
    user, has_user, hosts = parts.netloc.rpartition("@")
    if ":" in user:
        raise ValueError("a URL without a password; libpq takes it from PGPASSWORD or ~/.pgpass")
    if has_user and not may_have_user:
        raise ValueError("a URL without a user; Foregate has users of its own, made by: foregate database setup")
    if given := sorted(_OWN & parse_qs(parts.query, keep_blank_values=True).keys()):
        raise ValueError(f"a URL without {given[0]} in its query")
    url = urlunsplit((SCHEME, hosts, f"/{name}", parts.query, ""))
    # urlunsplit leaves out empty hosts, which mean a socket.
    url = url if url.startswith(f"{SCHEME}://") else url.replace(f"{SCHEME}:", f"{SCHEME}://", 1)
    return Address(url, name, f"{hosts or 'a local socket'}/{name}"), unquote(user)
