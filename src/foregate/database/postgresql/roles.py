"""The roles of a database, their passwords, and what each may do: column grants from the `Rights` of the schemas.

Roles belong to a whole server, so they are named after the database: `foregate_control_plane`, `foregate_last_seen`.
A password lies in a file of its own, so that a machine need only have those of the processes that run on it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import write_private
from foregate.database import records_schema, telemetry_schema
from foregate.database.rights import Rights, TableRights

TREES: Mapping[str, Sequence[Rights]] = {"records": records_schema.RIGHTS, "telemetry": telemetry_schema.RIGHTS}
# Owns schemas and tables, and changes them; reads everything for a backup. Neither is a process's own.
MIGRATION, BACKUP = "migration", "backup"
_PASSWORD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Passwords:
    """The password files of one home."""

    folder: Path

    def path(self, user: str) -> Path:
        """The file of a user (`control plane`)."""
        return self.folder / f"{user.replace(' ', '_')}.password"

    def read(self, user: str) -> str:
        """A user's password. ForegateError(UNAVAILABLE) where there is no file, or others may read it."""
        path = self.path(user)
        try:
            if path.stat().st_mode & 0o077:
                raise ForegateError(ErrorCode.UNAVAILABLE, f"{path} is readable by others; run: chmod 600 {path}")
            return path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            message = (
                f"{path} cannot be read; run foregate database setup in this home, or copy the file from the home in "
                "which it was run."
            )
            raise ForegateError(ErrorCode.UNAVAILABLE, message, detail=str(error)) from error

    def make(self, user: str) -> str:
        """A new password, on disk when this returns."""
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.path(user), f"{password}\n".encode())
        return password


def users() -> list[str]:
    """All users, each once."""
    named = [rights.user for all_rights in TREES.values() for rights in all_rights]
    return [MIGRATION, BACKUP, *dict.fromkeys(named)]


def role_of(database: str, user: str) -> str:
    """The role of a user."""
    return f"{database}_{user.replace(' ', '_')}"


def grants(database: str, tree: str) -> Iterator[str]:
    """Statements that give every role exactly its rights in a schema, whatever it had before. Run by their owner."""
    for rights in TREES[tree]:
        role = role_of(database, rights.user)
        yield f"REVOKE ALL ON ALL TABLES IN SCHEMA {tree} FROM {role}"
        yield f"GRANT SELECT ON {tree}.alembic_version TO {role}"
        for table, may in rights.tables.items():
            yield from _table_grants(f"{tree}.{table}", may, role)
    backup = role_of(database, BACKUP)
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {tree} TO {backup}"
    yield f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {tree} TO {backup}"


def _table_grants(table: str, may: TableRights, role: str) -> Iterator[str]:
    whole = [("SELECT", may.may_read), ("INSERT", may.may_insert), ("DELETE", may.may_delete)]
    given = [word for word, is_given in whole if is_given]
    if may.updatable:
        columns = ", ".join(f'"{name}"' for name in sorted(may.updatable))
        given.append(f"UPDATE ({columns})")
    if given:
        yield f"GRANT {', '.join(given)} ON {table} TO {role}"
