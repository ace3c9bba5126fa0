"""An edge of the version before works with this control plane, and an edge of this version with the one before: both
kinds of process are replaced one after the other, and never all at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.joined import edge_home, join_token
from harness.origin import Origin
from harness.ports import free_ports
from harness.processes import kill_all
from harness.product import Foregate
from harness.releases import unpack
from harness.things import allow, create_app, create_token, until_status
from harness.waiting import until

# The last commit whose edges know version 1 of the feed: no edge joins there, and there are no records about edges.
BEFORE = "cd53b2b"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(BEFORE, tmp_path_factory.mktemp("before"))


@dataclass(slots=True)
class Mixed:
    """One home whose processes are of different versions. `sources` by process: where its program is, if not here."""

    foregate: Foregate
    sources: dict[str, Path]
    feed_port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str) -> None:
        environment = dict(self.foregate.environment)
        if name in self.sources:
            environment["PYTHONPATH"] = str(self.sources[name])
        elif name == "api":
            environment |= {"FOREGATE_FEED_BIND": "127.0.0.1", "FOREGATE_FEED_PORT": str(self.feed_port)}
        with self.foregate.home.with_suffix(f".{name}").open("ab") as log:
            command = [sys.executable, "-P", "-m", "foregate", name]
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd="/"))

    def edge(self) -> dict[str, Any]:
        [found] = [edge for edge in self.foregate.api().result("GET", "/foregate/edges") if edge["name"] == "local"]
        return dict(found)


@contextmanager
def mixed(sources: dict[str, Path]) -> Iterator[Mixed]:
    home = Path(tempfile.mkdtemp(prefix="foregate-")) / "home"
    *ports, feed_port = free_ports(4)
    running = Mixed(Foregate(home, *ports), sources, feed_port)
    try:
        running.start("api")
        until(lambda: (home / "home.json").exists() and (home / "edge" / "edge.key").exists(), 30, "the API has begun")
        for name in ("worker", "edge"):
            running.start(name)
        until(lambda: running.edge()["is_reporting"], 30, "the edge reports", every=0.1)
        yield running
    finally:
        for process in running.processes:
            process.kill()
            process.wait()
        kill_all(home)


def works(running: Mixed, origin: Origin) -> None:
    """What an edge is for."""
    foregate, api = running.foregate, running.foregate.api()
    app = create_app(foregate, origin.service, [allow()])
    token = create_token(api)
    until_status(foregate, app.host, token, 200)
    until(lambda: api.result("GET", f"/access/service_tokens/{token.id}")["last_seen_at"], 15, "it is seen", every=0.1)
    rotated = api.result("POST", f"/access/service_tokens/{token.id}/rotate", {})
    until_status(foregate, app.host, token.with_secret(rotated["client_secret"]), 200)
    api.result("DELETE", f"/access/service_tokens/{token.id}")
    until_status(foregate, app.host, token, 401)


def test_edge_of_the_version_before_works_with_this_control_plane(before: Path, origin: Origin) -> None:
    with mixed({"edge": before}) as running:
        works(running, origin)
        # What it knows nothing of does not trouble it.
        with edge_home() as edge:
            done = edge.join(f"https://127.0.0.1:{running.feed_port}", join_token(running.foregate), "--name", "new")
            assert done.returncode == 0, done.stderr
        works(running, origin)
        until(lambda: running.edge()["pending"] == 0, 15, "it has applied all", every=0.1)
        found = running.edge()
        assert (found["refused"], found["held"]) == ([], [])
        said = (running.foregate.home / "edge" / "status.json").read_text()
        assert '"gap' not in said and '"garbage' not in said, "it takes nothing for a fault of the feed"


def test_edge_of_this_version_works_with_the_control_plane_before(before: Path, origin: Origin) -> None:
    with mixed({"api": before, "worker": before}) as running:
        works(running, origin)


def test_home_of_the_version_before_goes_on_under_this_one(before: Path, origin: Origin) -> None:
    with mixed({"api": before, "worker": before, "edge": before}) as running:
        foregate = running.foregate
        app = create_app(foregate, origin.service, [allow()])
        token = create_token(foregate.api())
        until_status(foregate, app.host, token, 200)
        running.sources.clear()
        for name in ("api", "worker", "edge"):  # each in turn, as an upgrade does it
            for process in foregate.processes(name):
                os.kill(process.pid, 15)
            until(lambda name=name: not foregate.processes(name), 30, f"{name} has ended")
            running.start(name)
        until_status(foregate, app.host, token, 200)
        works(running, origin)
