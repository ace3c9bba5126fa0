"""One control plane for all tests of this folder: each test makes the tokens it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from acceptance.api.control_plane import ControlPlane, run_control_plane
from harness.postgresql import ENGINES, PostgresqlDatabase


@pytest.fixture(scope="session", params=ENGINES)
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One on each database: its answers must be the same."""
    folder = tmp_path_factory.mktemp("home")
    if request.param == "sqlite":
        with run_control_plane(folder) as running:
            yield running
        return
    database = PostgresqlDatabase(request.getfixturevalue("postgresql"), folder / "database")
    with run_control_plane(folder, database.stores.records) as running:
        yield running
