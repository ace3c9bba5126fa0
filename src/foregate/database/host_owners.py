"""Which account holds a host. Applications, ingress and auth domains of several accounts meet on the same edges, so a
host belongs to one account in all of them: the one that named it first, by itself or with a wildcard over it.

Asked by the products before they write; a write that changes no host asks nothing, so what was there stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from sqlalchemy import ColumnElement, Connection, or_, select, true

from foregate.core.targets import hosts_overlap
from foregate.database.records_schema import application_patterns, applications, ingress_hostnames, organizations


def find_foreign_host(connection: Connection, hosts: Collection[str], account_id: str) -> str | None:
    """The first of `hosts` (canonical, `*` in a label or not) of which another account holds a part; None without one.

    What the other account calls it is not told: its names are none of the caller's business.
    """
    held = list(_held_by_others(connection, hosts, account_id))
    return next((host for host in hosts if any(hosts_overlap(host, other) for other in held)), None)


def _held_by_others(connection: Connection, hosts: Collection[str], account_id: str) -> Iterator[str]:
    """Hosts of other accounts, those left out that surely meet none of `hosts`."""
    pattern, hostname = application_patterns.c.pattern, ingress_hostnames.c.hostname
    near_patterns: ColumnElement[bool] = true()
    near_hostnames: ColumnElement[bool] = true()
    if not any("*" in host for host in hosts):
        # Of thousands of applications, the database leaves out nearly all. A pattern is a host and perhaps a path.
        below = [pattern.startswith(f"{host}/", autoescape=True) for host in hosts]
        near_patterns = or_(pattern.in_(hosts), pattern.contains("*", autoescape=True), *below)
        near_hostnames = or_(hostname.in_(hosts), hostname.contains("*", autoescape=True))
    rows = connection.execute(
        select(pattern)
        .join(applications, applications.c.id == application_patterns.c.application_id)
        .where(applications.c.account_id != account_id, near_patterns)
    )
    yield from {str(row.pattern).partition("/")[0] for row in rows}
    rows = connection.execute(select(hostname).where(ingress_hostnames.c.account_id != account_id, near_hostnames))
    yield from (row.hostname for row in rows)
    rows = connection.execute(select(organizations.c.settings).where(organizations.c.account_id != account_id))
    yield from (str(json.loads(row.settings)["auth_domain"]).lower().removesuffix(".") for row in rows)
