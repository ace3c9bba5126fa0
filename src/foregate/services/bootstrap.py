"""What the API process makes in a home: on the first start an account, an admin API token and an edge key, and at any
start whatever of the two secret files is missing. What is there is never made anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from foregate.core.masterkey import MasterKey, write_private
from foregate.core.secrets import Secret
from foregate.database.engine import Database
from foregate.identity import edges_store, store
from foregate.identity.issuing import AccountSetUp, create_account, create_api_token, create_edge
from foregate.services.holder import hold_in_turn
from foregate.services.home import Facts, Home, read_facts, write_facts

ACCOUNT_NAME = "Foregate"
ADMIN_NAME = "admin"
EDGE_NAME = "local"


def bootstrap(
    records: Database, home: Home, master_key: MasterKey, set_ups: Sequence[AccountSetUp], now: datetime
) -> Facts:
    """Make what is missing; the home's facts. Called before the process serves; safe to repeat.

    A secret is committed before its file is written: a crash between leaves one that nobody knows, and the next start
    issues another. Several processes of a home take turns.
    """
    with hold_in_turn(home.run / "bootstrap.lock"):
        return _bootstrap(records, home, master_key, set_ups, now)


def _bootstrap(
    records: Database, home: Home, master_key: MasterKey, set_ups: Sequence[AccountSetUp], now: datetime
) -> Facts:
    known = read_facts(home)
    with records.write() as connection:
        account_id = known.account_id if known else _account_id(connection, set_ups, now)
        admin = None if home.admin_token.exists() else _issue_admin(connection, master_key, now)
        edge = None if known and home.edge_key.exists() else _issue_edge(connection, master_key, known, now)
    if admin is not None:
        write_private(home.admin_token, f"{admin.reveal()}\n".encode())
    if edge is None:
        edge_id = known.edge_id if known else ""
    else:
        edge_id, key = edge
        write_private(home.edge_key, f"{key.reveal()}\n".encode())
    facts = Facts(account_id, edge_id)
    if facts != known:
        write_facts(home, facts)
    return facts


def _account_id(connection: Connection, set_ups: Sequence[AccountSetUp], now: datetime) -> str:
    """The oldest account, where only `home.json` was lost; else a new one."""
    found, _ = store.list_accounts(connection, only=None, name=None, is_descending=False, offset=0, limit=1)
    if found:
        return found[0].id
    account, _ = create_account(connection, ACCOUNT_NAME, now, set_ups=set_ups)
    return account.id


def _issue_admin(connection: Connection, master_key: MasterKey, now: datetime) -> Secret:
    _, secret = create_api_token(connection, master_key, ADMIN_NAME, now, account_id=None)
    return secret


def _issue_edge(
    connection: Connection, master_key: MasterKey, known: Facts | None, now: datetime
) -> tuple[str, Secret]:
    """An edge's id and key. One whose key file was lost is revoked: nobody can use it any more."""
    if known is not None:
        edges_store.revoke_edge(connection, known.edge_id, now)
    names = {edge.name for edge in edges_store.list_edges(connection)}
    name = next(name for n in range(len(names) + 1) if (name := f"{EDGE_NAME}-{n}" if n else EDGE_NAME) not in names)
    edge, key = create_edge(connection, master_key, name, now)
    return edge.id, key
