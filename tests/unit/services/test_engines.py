"""HAProxy workers of a home are found whichever program they are, and nobody else's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foregate.services.engines import find_workers
from foregate.services.home import Home, open_home
from foregate.services.settings import Settings, load


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@contextmanager
def running(program: str, configuration: Path) -> Iterator[int]:
    """A process that is called `program`, with a configuration, until its input ends."""
    words = [program, "-c", "read line", "-f", str(configuration)]
    with subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE) as process:
        yield process.pid


def settings(home: Home, **environment: str) -> Settings:
    return load({**os.environ, "FOREGATE_HOME": str(home.root), **environment})


def test_worker_of_another_haproxy_is_found_by_the_homes_configuration(home: Home) -> None:
    with running("/elsewhere/bin/haproxy", home.edge / "workers" / "w1" / "haproxy.cfg") as pid:
        assert find_workers(settings(home), home) == [pid]


def test_worker_of_a_program_with_another_name_is_found_where_the_setting_says_so(home: Home) -> None:
    with running("/elsewhere/bin/haproxy-lts", home.edge / "workers" / "w1" / "haproxy.cfg") as pid:
        assert find_workers(settings(home), home) == []
        assert find_workers(settings(home, FOREGATE_HAPROXY="/other/haproxy-lts"), home) == [pid]


def test_worker_is_found_while_it_is_just_beginning(home: Home) -> None:
    for _ in range(100):
        with running("/elsewhere/bin/haproxy", home.edge / "workers" / "w1" / "haproxy.cfg") as pid:
            assert find_workers(settings(home), home) == [pid]


def test_neither_another_homes_worker_nor_an_editor_is_taken_for_one(home: Home, tmp_path: Path) -> None:
    with (
        running("/elsewhere/bin/haproxy", tmp_path / "other" / "edge" / "haproxy.cfg"),
        running("/usr/bin/editor", home.edge / "haproxy.cfg"),
    ):
        assert find_workers(settings(home), home) == []
