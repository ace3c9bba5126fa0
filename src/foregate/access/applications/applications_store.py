"""Applications in the records database: their rows, patterns and lists of policies. The only SQL about those."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from foregate.access.applications.model import Application, ApplicationDraft, LinkedPolicy
from foregate.access.applications.policies_store import read_row as read_policy_row
from foregate.access.applications.rows import application_body, read_application
from foregate.core.clock import from_micros, to_micros
from foregate.core.errors import ErrorCode, ForegateError, not_found
from foregate.database.host_owners import find_foreign_host
from foregate.database.records_schema import (
    application_patterns,
    application_policies,
    applications,
    organizations,
    policies,
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which applications of a list are wanted; None: all. `is_exact`: whole names and domains, else parts."""

    name: str | None = None
    domain: str | None = None
    aud: str | None = None
    search: str | None = None
    is_exact: bool = False


def insert_application(connection: Connection, application: Application) -> None:
    """A new application without its policies. ForegateError(ALREADY_EXISTS) where another has one of its patterns, or
    another account a part of one of its hosts."""
    draft = application.draft
    connection.execute(
        insert(applications),
        {
            "id": application.id,
            "account_id": application.account_id,
            "aud": application.aud,
            "name": draft.name,
            "body": application_body(draft),
            "created_at": to_micros(application.created_at),
            "updated_at": to_micros(application.updated_at),
        },
    )
    _replace_patterns(connection, application.id, application.account_id, draft.patterns)


def update_application(
    connection: Connection, application: Application, draft: ApplicationDraft, now: datetime
) -> None:
    """Put `draft` in the place of what the application was. ALREADY_EXISTS as in `insert_application`."""
    connection.execute(
        update(applications)
        .where(applications.c.id == application.id)
        .values(name=draft.name, body=application_body(draft), updated_at=to_micros(now))
    )
    if set(draft.patterns) != set(application.draft.patterns):
        _replace_patterns(connection, application.id, application.account_id, draft.patterns)


def delete_application(connection: Connection, application_id: str) -> None:
    """Delete an application whose own policies are gone."""
    mine = application_policies.c.application_id == application_id
    connection.execute(delete(application_policies).where(mine))
    connection.execute(delete(application_patterns).where(application_patterns.c.application_id == application_id))
    connection.execute(delete(applications).where(applications.c.id == application_id))


def replace_links(connection: Connection, application_id: str, links: Sequence[tuple[str, int]]) -> None:
    """Make `links` (policy id, precedence) the application's whole list of policies."""
    connection.execute(delete(application_policies).where(application_policies.c.application_id == application_id))
    if links:
        connection.execute(
            insert(application_policies),
            [
                {"application_id": application_id, "policy_id": policy_id, "precedence": precedence}
                for policy_id, precedence in links
            ],
        )


def get_application(connection: Connection, account_id: str, application_id: str) -> Application:
    """An application. ForegateError(NOT_FOUND) where the account has none with this id."""
    found = _load(connection, (applications.c.account_id == account_id) & (applications.c.id == application_id))
    if not found:
        raise not_found("application")
    return found[0]


def find_application(connection: Connection, application_id: str) -> Application | None:
    """An application of any account, or None."""
    found = _load(connection, applications.c.id == application_id)
    return found[0] if found else None


def page_of_applications(
    connection: Connection, account_id: str, wanted: Filter, limit: int, offset: int
) -> tuple[list[Application], int]:
    """A page of the account's applications, oldest first, and how many there are."""
    where = (applications.c.account_id == account_id) & _matches(wanted)
    total = connection.execute(select(func.count()).select_from(applications).where(where)).scalar_one()
    return _load(connection, where, limit, offset), total


def application_ids_without_session(connection: Connection, account_id: str) -> list[str]:
    """Applications whose session duration is the organization's: those that a change of that concerns."""
    rows = connection.execute(
        select(applications.c.id, applications.c.name, applications.c.body).where(
            applications.c.account_id == account_id
        )
    )
    return [row.id for row in rows if read_application(row.name, row.body).session_duration is None]


def organization_session(connection: Connection, account_id: str) -> str | None:
    """The session duration that the account's organization sets for applications that set none."""
    settings = connection.execute(
        select(organizations.c.settings).where(organizations.c.account_id == account_id)
    ).scalar()
    found: str | None = None if settings is None else json.loads(settings).get("session_duration")
    return found


def has_organization(connection: Connection, account_id: str) -> bool:
    """Whether the account has an organization, and so signing keys: without them nothing could be let through."""
    statement = select(organizations.c.account_id).where(organizations.c.account_id == account_id)
    return connection.execute(statement).first() is not None


def _replace_patterns(connection: Connection, application_id: str, account_id: str, patterns: Iterable[str]) -> None:
    connection.execute(delete(application_patterns).where(application_patterns.c.application_id == application_id))
    rows = [{"pattern": pattern, "application_id": application_id} for pattern in patterns]
    foreign = find_foreign_host(connection, [row["pattern"].partition("/")[0] for row in rows], account_id)
    if foreign is not None:
        # Another account's names are none of the caller's business.
        message = f"{foreign} is covered by another account already, whole or in part; choose another host."
        raise ForegateError(ErrorCode.ALREADY_EXISTS, message)
    taken = connection.execute(
        select(application_patterns.c.pattern, applications.c.name)
        .join(applications, applications.c.id == application_patterns.c.application_id)
        .where(application_patterns.c.pattern.in_([row["pattern"] for row in rows]))
        .limit(1)
    ).one_or_none()
    if taken is not None:
        message = (
            f"{taken.pattern} is covered by application {taken.name!r} already; choose another host or path, or "
            "change that one."
        )
        raise ForegateError(ErrorCode.ALREADY_EXISTS, message)
    connection.execute(insert(application_patterns), rows)


def _matches(wanted: Filter) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name is not None:
        conditions.append(
            applications.c.name == wanted.name
            if wanted.is_exact
            else applications.c.name.icontains(wanted.name, autoescape=True)
        )
    if wanted.domain is not None:
        conditions.append(_covers(wanted.domain, is_exact=wanted.is_exact))
    if wanted.aud is not None:
        conditions.append(applications.c.aud == wanted.aud)
    if wanted.search is not None:
        conditions.append(
            or_(
                applications.c.name.icontains(wanted.search, autoescape=True),
                applications.c.aud == wanted.search,
                applications.c.id == wanted.search,
                _covers(wanted.search, is_exact=False),
            )
        )
    return and_(true(), *conditions)


def _covers(text: str, *, is_exact: bool) -> ColumnElement[bool]:
    pattern = application_patterns.c.pattern
    fits = (pattern == text) if is_exact else pattern.icontains(text.removesuffix("/"), autoescape=True)
    return exists().where(application_patterns.c.application_id == applications.c.id, fits)


def _load(
    connection: Connection, where: ColumnElement[bool], limit: int | None = None, offset: int | None = None
) -> list[Application]:
    """Two statements for a whole page: the applications, then the policies of all of them."""
    order = (applications.c.created_at, applications.c.id)
    rows = connection.execute(select(applications).where(where).order_by(*order).limit(limit).offset(offset)).all()
    links: dict[str, list[LinkedPolicy]] = {row.id: [] for row in rows}
    linked = connection.execute(
        select(policies, application_policies.c.precedence, application_policies.c.application_id.label("linked_to"))
        .join(application_policies, application_policies.c.policy_id == policies.c.id)
        .where(application_policies.c.application_id.in_(list(links)))
        .order_by(application_policies.c.precedence)
    )
    for row in linked:
        links[row.linked_to].append(LinkedPolicy(read_policy_row(row), row.precedence))
    return [_read_row(row, links[row.id]) for row in rows]


def _read_row(row: Row[tuple[object, ...]], links: list[LinkedPolicy]) -> Application:
    return Application(
        id=row.id,
        account_id=row.account_id,
        aud=row.aud,
        draft=read_application(row.name, row.body),
        policies=tuple(links),
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
    )
