"""`foregate database setup`: makes the database, its roles with their passwords, the two schemas and what is in them.

Run by an administrator of the server, as often as one likes: what is there stays. Nothing is granted to everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.postgresql.address import Address
from foregate.database.postgresql.link import CONNECT_SECONDS
from foregate.database.postgresql.roles import BACKUP, MIGRATION, TREES, Passwords, role_of, users
from foregate.database.postgresql.store import PostgresqlStore

# The oldest with everything that is used here, and still maintained.
OLDEST_VERSION = 15
Say = Callable[[str], None]


def set_up(address: Address, admin: str, passwords: Passwords, say: Say, *, has_new_passwords: bool = False) -> None:
    """Make whatever is missing of the database at `address`, as the role `admin`; `say` gets a line for each thing.

    ForegateError(UNAVAILABLE) where the server cannot be reached or refuses, its version is too old, or roles exist
    whose password files this home does not have (unless `has_new_passwords`: then others' files are worth nothing).
    """
    with _admin(address, admin, "postgres") as connection:
        _require_version(connection, address)
        _make_database(connection, address, say)
    with _admin(address, admin, address.database) as connection, connection.transaction():
        for user in users():
            _make_role(connection, address, passwords, user, say, has_new_passwords=has_new_passwords)
        _close_to_others(connection, address)
        for tree in TREES:
            _make_schema(connection, address, tree, say)
    for tree in TREES:
        before = PostgresqlStore(address, tree, passwords).migrate()
        say(f"schema {tree}: {'made' if before is None else f'was at {before}'}, is at the newest; rights given")


def _make_database(connection: psycopg.Connection[Any], address: Address, say: Say) -> None:
    found = connection.execute(
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s", [address.database]
    ).fetchone()
    if found is None:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
        connection.execute(make.format(sql.Identifier(address.database)))
        say(f"database {address.database}: made")
    elif found[0] != "UTF8":
        message = f"The database {address.where} has the encoding {found[0]}; make one with UTF8."
        raise ForegateError(ErrorCode.UNAVAILABLE, message)


def _make_role(
    connection: psycopg.Connection[Any],
    address: Address,
    passwords: Passwords,
    user: str,
    say: Say,
    *,
    has_new_passwords: bool,
) -> None:
    role = role_of(address.database, user)
    exists = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None
    if passwords.path(user).exists() and not has_new_passwords:
        password = passwords.read(user)
    elif exists and not has_new_passwords:
        message = (
            f"The role {role} exists, and {passwords.path(user)} is not here: copy the folder from the home in which "
            "the database was set up, or give --new-passwords, after which the files of other homes are worth nothing."
        )
        raise ForegateError(ErrorCode.UNAVAILABLE, message)
    else:
        # On disk first: a role whose password nobody has would be in the way of the next try.
        password = passwords.make(user)
    # The server gets the verifier alone, so that the password stands in no log of statements.
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}" if exists else "CREATE ROLE {} LOGIN PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(verifier)))
    if not exists:
        say(f"role {role}: made, its password in {passwords.path(user)}")
    elif has_new_passwords:
        say(f"role {role}: a new password in {passwords.path(user)}")


def _close_to_others(connection: psycopg.Connection[Any], address: Address) -> None:
    database = sql.Identifier(address.database)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for user in users():
        role = sql.Identifier(role_of(address.database, user))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))


def _make_schema(connection: psycopg.Connection[Any], address: Address, tree: str, say: Say) -> None:
    owner = role_of(address.database, MIGRATION)
    exists = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [tree]).fetchone() is not None
    if not exists:
        # Owning a schema needs no membership where its owner makes it: an administrator need not be a superuser.
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
        connection.execute(
            sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(tree), sql.Identifier(owner))
        )
        say(f"schema {tree}: made")
    for user in (BACKUP, *(rights.user for rights in TREES[tree])):
        role = sql.Identifier(role_of(address.database, user))
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(tree), role))


def _require_version(connection: psycopg.Connection[Any], address: Address) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST_VERSION:
        message = f"{address.where} is PostgreSQL {version}; Foregate needs {OLDEST_VERSION} or newer."
        raise ForegateError(ErrorCode.UNAVAILABLE, message)


@contextmanager
def _admin(address: Address, admin: str, database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection as administrator; the password comes from where libpq finds it."""
    try:
        with psycopg.connect(
            address.url, dbname=database, user=admin or None, autocommit=True, connect_timeout=CONNECT_SECONDS
        ) as connection:
            yield connection
    except psycopg.Error as error:
        words = str(error).strip().splitlines()[-1]
        message = f"{replace(address, database=database).where} does not let {admin or 'you'} set it up: {words}"
        raise ForegateError(ErrorCode.UNAVAILABLE, message) from error
