"""One real Foregate and one origin for all acceptance tests that do not break them; each test has its own names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.api import Api
from harness.leaks import assert_nothing_leaked
from harness.origin import Origin, running_origin
from harness.postgresql import PostgresqlServer
from harness.product import Foregate, running_foregate


@pytest.fixture(scope="session")
def foregate() -> Iterator[Foregate]:
    """A started Foregate. When all tests are done it is searched for the secrets that they were given."""
    with running_foregate() as started:
        yield started
        assert_nothing_leaked(started)


@pytest.fixture(scope="session")
def foregate_on_postgresql(postgresql: PostgresqlServer) -> Iterator[Foregate]:
    """The same with its records and telemetry on a PostgreSQL server, set up as an administrator does."""
    name = postgresql.new_name()

    def set_up(foregate: Foregate) -> None:
        done = foregate.run("database", "setup", postgresql.admin_url(name))
        assert done.returncode == 0, done.stderr.decode()

    with running_foregate(prepare=set_up, FOREGATE_DATABASE=postgresql.url(name)) as started:
        yield started
        assert_nothing_leaked(started)


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    """An origin that keeps what reached it."""
    with running_origin() as started:
        yield started


@pytest.fixture
def api(foregate: Foregate) -> Api:
    """The control API with the admin token."""
    return foregate.api()
