"""A PostgreSQL server that is killed, hangs, takes no writes, is full, or has another schema: the edge lets tokens in
throughout, every refusal is one sentence, nothing is done by half, and all is well again without a hand."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from foregate.services.settings import load
from foregate.services.stores import stores_of
from harness.origin import Origin
from harness.postgresql import PostgresqlServer, running_postgresql
from harness.product import Foregate, running_foregate
from harness.things import App, Token, allow, create_app, create_token, until_status
from harness.waiting import until

TOKENS = "/access/service_tokens"
NAME = "foregate"
CUTS = 12
HEALED_SECONDS = 30


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """One of its own, as it is broken here."""
    with running_postgresql() as started:
        yield started


@pytest.fixture(scope="module")
def foregate(server: PostgresqlServer) -> Iterator[Foregate]:
    def set_up(made: Foregate) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSWORD", server.password)
            done = made.run("database", "setup", server.admin_url(NAME))
        assert done.returncode == 0, done.stderr.decode()

    with running_foregate(prepare=set_up, FOREGATE_DATABASE=server.url(NAME)) as started:
        yield started


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin) -> App:
    made = create_app(foregate, origin.service, [allow()])
    until_status(foregate, made.host, None, 403)
    return made


@pytest.fixture
def token(foregate: Foregate, app: App) -> Token:
    made = create_token(foregate.api())
    until_status(foregate, app.host, made, 200)
    return made


@contextmanager
def let_in_throughout(foregate: Foregate, app: App, token: Token) -> Iterator[None]:
    """The edge lets the token in all the while."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.02):
            statuses.append(foregate.get(app.host, headers=token.headers).status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert set(statuses) == {200}


def create(foregate: Foregate) -> tuple[int, str]:
    """Status and message of a try to make a token."""
    answer = foregate.api().account("POST", TOKENS, {"name": "now"})
    errors = answer.json()["errors"]
    return answer.status, errors[0]["message"] if errors else ""


def until_well(foregate: Foregate, app: App) -> None:
    """A new token is let in, its use is seen, and no process had to be started anew."""
    api = foregate.api()
    until(lambda: create(foregate)[0] == 201, HEALED_SECONDS, "tokens are made again", every=0.2)
    made = create_token(api)
    until_status(foregate, app.host, made, 200)
    until(
        lambda: api.result("GET", f"{TOKENS}/{made.id}")["last_seen_at"], HEALED_SECONDS, "the use is seen", every=0.2
    )
    status = json.loads(foregate.run("status", "--json").stdout)
    assert {process["restarts"] for process in status["processes"]} == {0}


def test_server_that_is_killed_and_comes_back(
    foregate: Foregate, server: PostgresqlServer, app: App, token: Token
) -> None:
    with let_in_throughout(foregate, app, token):
        server.stop(signal.SIGKILL)
        status, said = create(foregate)
        assert (status, "is not available now" in said) == (503, True), said
        assert foregate.api().account("GET", TOKENS).status == 503
        assert b"is not available now" in foregate.run("doctor").stderr
        server.start()
        until_well(foregate, app)


def test_server_that_hangs_is_told_of_and_goes_on(
    foregate: Foregate, server: PostgresqlServer, app: App, token: Token
) -> None:
    with let_in_throughout(foregate, app, token):
        server.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(lambda _: create(foregate), range(16)))
            assert {status for status, _ in answers} == {503}
            assert time.monotonic() - began < 25
        finally:
            server.signal(signal.SIGCONT)
        until_well(foregate, app)


def test_database_that_takes_no_writes(foregate: Foregate, server: PostgresqlServer, app: App, token: Token) -> None:
    with let_in_throughout(foregate, app, token):
        set_for_all(server, "default_transaction_read_only = on")
        try:
            until(lambda: "takes no writes" in create(foregate)[1], 10, "the refusal says why")
            assert foregate.api().account("GET", TOKENS).status == 200
        finally:
            set_for_all(server, "default_transaction_read_only = off")
        until_well(foregate, app)


def test_database_that_is_full(foregate: Foregate, server: PostgresqlServer, app: App, token: Token) -> None:
    """The server's own error for a full disk, raised by a trigger."""
    full = (
        "CREATE FUNCTION records.fill() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file'; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON records.secret_versions EXECUTE FUNCTION records.fill()"
    )
    with let_in_throughout(foregate, app, token):
        tokens = count(foregate)
        with server.connect(NAME) as connection:
            connection.execute(full)
        try:
            status, said = create(foregate)
            assert (status, "is full" in said) == (503, True), said
            assert count(foregate) == tokens, "the token goes with the secret that could not be written"
        finally:
            with server.connect(NAME) as connection:
                connection.execute("DROP TRIGGER full_disk ON records.secret_versions; DROP FUNCTION records.fill()")
        until_well(foregate, app)


def test_database_of_another_schema(foregate: Foregate, server: PostgresqlServer, app: App, token: Token) -> None:
    with let_in_throughout(foregate, app, token):
        with server.connect(NAME) as connection:
            connection.execute("ALTER TABLE records.secret_versions RENAME TO taken_away")
        try:
            status, said = create(foregate)
            assert (status, "has another schema than this Foregate" in said) == (503, True), said
        finally:
            with server.connect(NAME) as connection:
                connection.execute("ALTER TABLE records.taken_away RENAME TO secret_versions")
        until_well(foregate, app)


def test_older_schema_is_brought_up_by_the_home_that_may(foregate: Foregate, server: PostgresqlServer) -> None:
    """A second control API finds the schema older than its own program: with the owner's password it migrates."""
    stores = stores_of(load(foregate.environment))
    owner = stores.telemetry.open_as_owner()
    from foregate.database.migrate import HEADS, current_revision, move

    with owner.write() as connection:
        move(connection, "telemetry", "0001")
    password = foregate.home / "database" / "migration.password"
    kept = password.read_text()
    password.unlink()
    try:
        with pytest.raises(Exception, match="run: foregate database setup"):
            stores.telemetry.upgrade()
    finally:
        password.write_text(kept)
        password.chmod(0o600)
    stores.telemetry.upgrade()
    with owner.read() as connection:
        assert current_revision(connection) == HEADS["telemetry"]
    owner.close()


def test_connection_lost_in_any_statement_leaves_no_half_change(foregate: Foregate, server: PostgresqlServer) -> None:
    """Clients make tokens and try again, as SDKs do, while the control API's connections are cut again and again."""
    stop = threading.Event()
    cuts: list[float] = []

    def cut() -> None:
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{NAME}_control_plane'"
        with server.connect() as connection:
            # Long enough now and then for a change to get through, however busy the machine is.
            while not stop.wait(random.uniform(0.0, 0.4)):
                connection.execute(kill)
                cuts.append(time.monotonic())

    def make(number: int) -> str:
        key = {"Idempotency-Key": f"cut-{number}"}

        def answer() -> Any:
            got = foregate.api().account("POST", TOKENS, {"name": f"cut {number}"}, headers=key)
            assert got.status in (201, 503), got.body
            return got.json()["result"] if got.status == 201 else None

        return str(until(answer, 120, "the token is made", every=0.05)["client_id"])

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            made: list[str] = []
            while len(made) < 60 or len(cuts) < CUTS:  # a quick machine makes many tokens between two of them
                made += pool.map(make, range(len(made), len(made) + 20))
    finally:
        stop.set()
        cutter.join()
    assert len(set(made)) == len(made)
    with stores_of(load(foregate.environment)).records.look_into() as connection:
        rows = connection.execute(
            text(
                "SELECT t.name, count(DISTINCT t.id), count(DISTINCT s.version), count(DISTINCT h.id), "
                "count(DISTINCT a.change_seq) FROM service_tokens t "
                "LEFT JOIN secret_versions s ON s.token_id = t.id LEFT JOIN history h ON h.entity_id = t.id "
                "LEFT JOIN audit a ON a.entity_id = t.id WHERE t.name LIKE 'cut %' GROUP BY t.name"
            )
        ).all()
        orphans = connection.execute(
            text(
                "SELECT count(*) FROM outbox o LEFT JOIN service_tokens t ON o.record_key = 'token/' || t.client_id "
                "WHERE o.record_key LIKE 'token/%' AND t.id IS NULL"
            )
        ).scalar_one()
    assert {tuple(row[1:]) for row in rows} == {(1, 1, 1, 1)}
    assert len(rows) == len(made)
    assert orphans == 0


def test_start_waits_for_a_server_that_is_away(foregate: Foregate, server: PostgresqlServer, app: App) -> None:
    assert foregate.stop() == 0
    server.stop(signal.SIGKILL)
    starting = threading.Thread(target=foregate.start, kwargs={"ready_seconds": 60})
    starting.start()
    log = foregate.home / "logs" / "api.log"
    until(lambda: "database_away" in log.read_text(), 30, "the control API says what it waits for")
    server.start()
    starting.join()
    until_well(foregate, app)


def count(foregate: Foregate) -> int:
    return int(foregate.api().account("GET", TOKENS).json()["result_info"]["total_count"])


def set_for_all(server: PostgresqlServer, setting: str) -> None:
    with server.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
