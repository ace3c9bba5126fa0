"""Foregate on a PostgreSQL server, from outside: setting it up, and what is said where it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.ports import free_ports
from harness.postgresql import PostgresqlServer
from harness.product import Foregate
from harness.things import allow, create_app, create_token, until_status
from harness.waiting import until


@pytest.fixture
def name(postgresql: PostgresqlServer) -> Iterator[str]:
    """A database that is not there yet."""
    made = postgresql.new_name()
    yield made
    postgresql.drop(made)


@pytest.fixture
def home(tmp_path: Path, postgresql: PostgresqlServer, name: str) -> Foregate:
    """A home that nobody has used, told to keep its stores there."""
    return Foregate(tmp_path / "home", *free_ports(3), {"FOREGATE_DATABASE": postgresql.url(name)})


def set_up(home: Foregate, postgresql: PostgresqlServer, name: str, *options: str) -> str:
    done = home.run("database", "setup", postgresql.admin_url(name), *options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


def refusal(home: Foregate, *command: str) -> str:
    done = home.run(*command)
    assert done.returncode != 0
    said = done.stderr.decode()
    assert "Traceback" not in said
    return said


def test_setup_says_what_it_made_and_makes_it_once(home: Foregate, postgresql: PostgresqlServer, name: str) -> None:
    first = set_up(home, postgresql, name)
    again = set_up(home, postgresql, name)
    for made in (f"database {name}: made", f"role {name}_control_plane: made", "schema records: made"):
        assert made in first
        assert made not in again
    files = list((home.home / "database").iterdir())
    assert {path.name for path in files} >= {"control_plane.password", "last_seen.password", "migration.password"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    passwords = [path.read_text().strip() for path in files]
    assert all(password not in first + again for password in passwords)


def test_setup_of_a_second_home_takes_no_passwords_away(
    home: Foregate, postgresql: PostgresqlServer, name: str, tmp_path: Path
) -> None:
    set_up(home, postgresql, name)
    second = Foregate(tmp_path / "second", 1, 2, 3)
    said = refusal(second, "database", "setup", postgresql.admin_url(name))
    assert "copy the folder" in said and "--new-passwords" in said
    set_up(second, postgresql, name, "--new-passwords")
    assert "does not take this home's password" in refusal(home, "api")


def test_everybody_is_shut_out(home: Foregate, postgresql: PostgresqlServer, name: str) -> None:
    set_up(home, postgresql, name)
    with postgresql.connect(name) as connection:
        allowed = connection.execute(
            "SELECT has_database_privilege('public', current_database(), 'CONNECT'), "
            "has_schema_privilege('public', 'records', 'USAGE'), has_schema_privilege('public', 'public', 'USAGE')"
        ).fetchone()
    assert allowed == (False, False, False)


WRONG = {
    "no URL": "somewhere",
    "another engine": "mysql://127.0.0.1/foregate",
    "a user": "postgresql://me@127.0.0.1/foregate",
    "a password": "postgresql://me:secret@127.0.0.1/foregate",
    "no name": "postgresql://127.0.0.1",
    "a user in the query": "postgresql://127.0.0.1/foregate?user=me",
}


@pytest.mark.parametrize("url", WRONG.values(), ids=WRONG.keys())
def test_setting_that_is_no_address_is_one_sentence(home: Foregate, url: str) -> None:
    home.settings = {"FOREGATE_DATABASE": url}
    said = refusal(home, "status")
    assert said.startswith("foregate: FOREGATE_DATABASE must be a URL")
    assert "secret" not in said


def test_database_that_was_not_set_up_is_one_sentence(home: Foregate, postgresql: PostgresqlServer, name: str) -> None:
    assert "run foregate database setup" in refusal(home, "api")
    set_up(home, postgresql, name)
    postgresql.drop(name)
    assert "foregate database setup" in refusal(home, "api")


def test_server_that_is_not_there_is_one_sentence(home: Foregate, postgresql: PostgresqlServer, name: str) -> None:
    set_up(home, postgresql, name)
    home.settings = {"FOREGATE_DATABASE": f"postgresql://127.0.0.1:{free_ports(1)[0]}/{name}"}
    assert "is not available now" in refusal(home, "doctor")


def test_life_of_an_api_token(foregate_on_postgresql: Foregate) -> None:
    made = foregate_on_postgresql.run("api-token", "create", "for-ci")
    assert made.returncode == 0, made.stderr.decode()
    api = foregate_on_postgresql.api(made.stdout.decode().strip())
    assert api.account("GET", "/access/service_tokens").status == 200
    id = next(one["id"] for one in api.call("GET", "/foregate/api_tokens").json()["result"] if one["name"] == "for-ci")
    assert foregate_on_postgresql.run("api-token", "revoke", "--yes", id).returncode == 0
    assert api.account("GET", "/access/service_tokens").status == 401


def test_last_use_is_known_within_moments(foregate_on_postgresql: Foregate, origin: object) -> None:
    api = foregate_on_postgresql.api()
    app = create_app(foregate_on_postgresql, origin.service, [allow()])  # type: ignore[attr-defined]
    token = create_token(api)
    until_status(foregate_on_postgresql, app.host, token, 200)
    path = f"/access/service_tokens/{token.id}"
    until(lambda: api.result("GET", path)["last_seen_at"], 10, "the use is seen")
