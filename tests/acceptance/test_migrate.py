"""`foregate migrate`: a home that began on SQLite moves to PostgreSQL while it runs, with every token working, and can
move back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from harness.origin import Origin
from harness.postgresql import PostgresqlServer
from harness.product import Foregate, running_foregate
from harness.things import App, Token, allow, create_app, create_token, until_status
from harness.waiting import until

TOKENS = "/access/service_tokens"


@pytest.fixture
def foregate() -> Iterator[Foregate]:
    with running_foregate() as started:
        yield started


@pytest.fixture
def database(foregate: Foregate, postgresql: PostgresqlServer) -> str:
    """One that was set up for the home."""
    name = postgresql.new_name()
    done = foregate.run("database", "setup", postgresql.admin_url(name))
    assert done.returncode == 0, done.stderr.decode()
    return postgresql.url(name)


class Life:
    """Goes on while a home moves: a token is used, others are made and revoked."""

    def __init__(self, foregate: Foregate, app: App, token: Token) -> None:
        self.foregate, self.app, self.token = foregate, app, token
        self.made: list[Token] = []
        self.statuses: set[int] = set()
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._use), threading.Thread(target=self._make)]

    def __enter__(self) -> Life:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _use(self) -> None:
        while not self._stop.wait(0.02):
            self.statuses.add(self.foregate.get(self.app.host, headers=self.token.headers).status)

    def _make(self) -> None:
        while not self._stop.wait(0.05):
            try:
                answer = self.foregate.api().account("POST", TOKENS, {"name": f"made {len(self.made)}"})
            except OSError:  # while it starts anew
                continue
            if answer.status == 201:
                result = answer.json()["result"]
                self.made.append(Token(result["id"], result["client_id"], result["client_secret"]))
            else:
                assert answer.status == 503, answer.body
                self.refused += 1


def listed(foregate: Foregate) -> set[str]:
    return {one["client_id"] for one in foregate.api().result("GET", f"{TOKENS}?per_page=1000")}


def move(foregate: Foregate, *options: str) -> str:
    done = foregate.run("migrate", *options, seconds=180)
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


def test_home_moves_while_it_runs_and_every_token_works_throughout(
    foregate: Foregate, database: str, origin: Origin
) -> None:
    app = create_app(foregate, origin.service, [allow()])
    token = create_token(foregate.api())
    until_status(foregate, app.host, token, 200)
    revoked = create_token(foregate.api())
    foregate.api().result("DELETE", f"{TOKENS}/{revoked.id}")
    with Life(foregate, app, token) as life:
        until(lambda: len(life.made) > 5, 20, "tokens are made")
        said = move(foregate, "--to", database)
        before = len(life.made)
        until(lambda: len(life.made) > before + 5, 20, "tokens are made after it")
    assert life.statuses == {200}
    assert "every table is the same on both sides" in said
    assert f'database = "{database}"' in (foregate.home / "foregate.toml").read_text()
    assert {made.client_id for made in life.made} <= listed(foregate)
    assert revoked.client_id not in listed(foregate)
    for made in (life.made[0], life.made[before - 1], life.made[-1]):
        until_status(foregate, app.host, made, 200)
    until_status(foregate, app.host, revoked, 401)
    api = foregate.api()
    until(lambda: api.result("GET", f"{TOKENS}/{life.made[-1].id}")["last_seen_at"], 10, "its use is seen")

    # And back, with what was made on the database.
    assert b"end it first" in foregate.run("migrate", "--back").stderr
    assert foregate.stop() == 0
    move(foregate, "--back")
    assert "database" not in (foregate.home / "foregate.toml").read_text()
    foregate.start()
    assert {made.client_id for made in life.made} <= listed(foregate)
    late = create_token(foregate.api())
    until_status(foregate, app.host, late, 200)
    until_status(foregate, app.host, life.made[-1], 200)

    # A second time, on top of what is there.
    move(foregate, "--to", database)
    assert late.client_id in listed(foregate)
    until_status(foregate, app.host, create_token(foregate.api()), 200)


def test_database_of_another_foregate_is_left_alone(
    foregate: Foregate, foregate_on_postgresql: Foregate, postgresql: PostgresqlServer
) -> None:
    other = foregate_on_postgresql.settings["FOREGATE_DATABASE"]
    for password in (foregate_on_postgresql.home / "database").iterdir():
        copy = foregate.home / "database" / password.name
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        copy.write_bytes(password.read_bytes())
        copy.chmod(0o600)
    done = foregate.run("migrate", "--to", other)
    assert done.returncode != 0
    assert b"holds the accounts of another Foregate" in done.stderr
    create_token(foregate.api())


def test_move_that_fails_leaves_the_home_as_it_was(foregate: Foregate, database: str) -> None:
    (foregate.home / "database" / "migration.password").unlink()
    done = foregate.run("migrate", "--to", database)
    assert done.returncode != 0
    assert b"migration.password cannot be read" in done.stderr
    assert not (foregate.home / "foregate.toml").exists()
    create_token(foregate.api())
