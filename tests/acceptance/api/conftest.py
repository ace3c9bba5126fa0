"""One control plane for all tests of this folder: each test makes the tokens it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from acceptance.api.control_plane import ControlPlane, run_control_plane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with run_control_plane(tmp_path_factory.mktemp("home")) as running:
        yield running
