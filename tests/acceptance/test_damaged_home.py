"""A file of the home that is damaged: one sentence says which and what to do, no child dies over it, and the advice is
good."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.product import Foregate, running_foregate

GARBAGE = bytes(range(256)) * 64
KEPT = "kept"


@pytest.fixture(scope="module")
def used() -> Iterator[Foregate]:
    """A home that was in use, and is not now. Tests change it; `product` puts it back."""
    with running_foregate() as product:
        product.stop()
        shutil.copytree(product.home, product.home.with_name(KEPT), symlinks=True)
        yield product


@pytest.fixture
def product(used: Foregate) -> Foregate:
    shutil.rmtree(used.home)
    shutil.copytree(used.home.with_name(KEPT), used.home, symlinks=True)
    return used


def overwrite(path: Path) -> None:
    path.write_bytes(GARBAGE)


def break_a_page(path: Path) -> None:
    """Damage in the middle of a database, which opens as if nothing were wrong."""
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(4 * 4096))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def open_to_all(path: Path) -> None:
    path.chmod(0o644)


BACK = "put the saved copy back"
DAMAGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("master.key", overwrite, BACK),
    ("master.key", Path.unlink, BACK),
    ("master.key", open_to_all, "chmod 600"),
    ("home.json", overwrite, BACK),
    ("home.json", empty, BACK),
    ("records.db", overwrite, BACK),
    ("records.db", break_a_page, BACK),
    ("records.db", empty, BACK),
    ("records.db", Path.unlink, BACK),
    ("telemetry.db", overwrite, "remove telemetry.db"),
    ("telemetry.db", break_a_page, "remove telemetry.db"),
    ("admin.token", overwrite, "remove it"),
    ("admin.token", open_to_all, "chmod 600"),
    ("edge/edge.key", empty, "remove it"),
]


@pytest.mark.parametrize(("name", "damage", "advice"), DAMAGES, ids=[f"{d[0]} {d[1].__name__}" for d in DAMAGES])
def test_damage_is_one_sentence_before_anything_starts_and_a_finding_of_the_doctor(
    product: Foregate, name: str, damage: Callable[[Path], None], advice: str
) -> None:
    path = product.home / name
    logs = {log: log.read_bytes() for log in (product.home / "logs").iterdir()}
    damage(path)
    done = product.run("up", seconds=10)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.count("\n") == 1
    assert str(path) in said
    assert advice in said
    assert {log: log.read_bytes() for log in (product.home / "logs").iterdir()} == logs
    assert list((product.home / "run").iterdir()) == []

    findings = json.loads(product.run("doctor", "--json").stdout)
    finding = next(finding for finding in findings if finding["check"] == path.name)
    assert finding["good"] is False
    assert advice in finding["advice"]
    assert not list(product.home.glob("*-wal"))


@pytest.mark.parametrize("name", ["records.db", "telemetry.db", "master.key", "home.json"])
def test_control_api_alone_says_it_too(product: Foregate, name: str) -> None:
    overwrite(product.home / name)
    done = product.run("api", seconds=10)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert name.encode() in done.stderr


@pytest.mark.parametrize("name", ["telemetry.db", "home.json", "admin.token", "edge/edge.key", "edge/secrets.sealed"])
def test_what_may_be_removed_is_made_anew(product: Foregate, name: str) -> None:
    (product.home / name).unlink()
    product.start()
    lines = (product.home / "demo" / "token").read_text().splitlines()
    headers = [(header, value.strip()) for header, _, value in (line.partition(":") for line in lines)]
    assert product.get("echo.localhost", "/", headers).status == 200
    assert product.run("token", "list").returncode == 0
    said = product.output.read_text()
    assert product.stop() == 0
    assert "ended unasked" not in said


def test_a_worker_alone_says_that_its_database_is_damaged(product: Foregate) -> None:
    overwrite(product.home / "telemetry.db")
    done = product.run("worker", seconds=10)
    assert done.returncode == 1
    assert done.stderr == b"foregate: The database telemetry.db is damaged; what to do says: foregate doctor\n"
