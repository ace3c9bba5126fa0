"""A further edge with a home of its own, which joins a running Foregate as on another machine: by its feed port
alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.http1 import Answer, Connection, Headers
from harness.ports import free_ports
from harness.processes import kill_all
from harness.product import Foregate, running_foregate
from harness.waiting import until

SERVING_SECONDS = 30
STOP_SECONDS = 30


@dataclass(slots=True)
class JoinedEdge:
    """A home that is to be an edge's. The process is there between `start` and `stop`."""

    home: Path
    http_port: int
    https_port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the control plane's settings: all that this machine knows of it is in its home."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOREGATE_", "CLOUDFLARE_"))}
        ports = {"FOREGATE_HTTP_PORT": str(self.http_port), "FOREGATE_HTTPS_PORT": str(self.https_port)}
        return {**kept, "FOREGATE_HOME": str(self.home), **ports}

    @property
    def log(self) -> Path:
        """What the edge says."""
        return self.home.with_suffix(".log")

    def join(self, url: str, token: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`foregate edge join` with the token on stdin."""
        return self.run("edge", "join", url, "--no-start", *options, input=token)

    def run(self, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """A `foregate` command about this home."""
        command = [sys.executable, "-m", "foregate", *arguments]
        return subprocess.run(
            command, env=self.environment, input=input, capture_output=True, text=True, cwd="/", timeout=60, check=False
        )

    def start(self) -> None:
        """Run `foregate edge` until `stop`."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "foregate", "edge"]
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for it to end by itself; its exit code."""
        assert self.process is not None
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    def get(self, host: str, headers: Headers = ()) -> Answer:
        """One request on a connection of its own, over plain HTTP."""
        with Connection(self.http_port) as connection:
            return connection.request("GET", "/", [("Host", host), *headers])

    def until_status(self, host: str, headers: Headers, status: int) -> None:
        """Wait until requests get this status."""
        until(lambda: self.get(host, headers).status == status, SERVING_SECONDS, f"the joined edge answers {status}")


@contextmanager
def running_control_plane(bind: str = "127.0.0.1", **settings: str) -> Iterator[tuple[Foregate, str]]:
    """A Foregate with an open feed port at that address, and the port's URL."""
    (port,) = free_ports(1)
    feed = {"FOREGATE_FEED_BIND": bind, "FOREGATE_FEED_PORT": str(port)}
    with running_foregate(**feed, **settings) as foregate:
        yield foregate, f"https://{bind}:{port}"


@contextmanager
def edge_home() -> Iterator[JoinedEdge]:
    """An empty home; whatever runs in it at the end is killed."""
    home = Path(tempfile.mkdtemp(prefix="foregate-edge-")) / "home"
    edge = JoinedEdge(home, *free_ports(2))
    try:
        yield edge
    finally:
        if edge.process is not None:
            edge.process.kill()
            edge.process.wait()
        kill_all(home)
        shutil.rmtree(home.parent, ignore_errors=True)


def join_token(foregate: Foregate, *options: str) -> str:
    """What `foregate edge token create` prints on stdout."""
    done = foregate.run("edge", "token", "create", *options)
    assert done.returncode == 0, done.stderr
    token = done.stdout.decode().strip()
    foregate.issued.append(token.partition(".")[0])
    return token


def joined(foregate: Foregate, url: str, edge: JoinedEdge, name: str, *options: str) -> JoinedEdge:
    """The edge, joined and started."""
    done = edge.join(url, join_token(foregate), "--name", name, *options)
    assert done.returncode == 0, done.stderr
    edge.start()
    return edge
