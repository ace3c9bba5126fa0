"""A real Foregate, started as a user starts it (`foregate up`), on free ports and with a home of its own.

`stop` ends it as a user does and makes sure that nothing is left. Everything a test needs to reach it hangs on
`Foregate`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.api import Api
from harness.http1 import Answer, Connection, Headers
from harness.http2 import Http2Connection
from harness.ports import free_ports
from harness.processes import Process, kill_all, processes_of
from harness.waiting import until

READY_SECONDS = 30  # 5 s are promised on an idle machine; here others may be compiling
STOP_SECONDS = 30


@dataclass(slots=True)
class Foregate:
    """One home and the ports it listens on. The process is there between `start` and `stop`."""

    home: Path
    api_port: int
    http_port: int
    https_port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    supervisor: subprocess.Popen[bytes] | None = None
    issued: list[str] = field(default_factory=list, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of `foregate` commands about this home."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOREGATE_", "CLOUDFLARE_"))}
        return {
            **kept,
            "FOREGATE_HOME": str(self.home),
            "FOREGATE_API_PORT": str(self.api_port),
            "FOREGATE_HTTP_PORT": str(self.http_port),
            "FOREGATE_HTTPS_PORT": str(self.https_port),
            **self.settings,
        }

    @property
    def output(self) -> Path:
        """What `foregate up` printed, stdout and stderr. Beside the home, not in it."""
        return self.home.with_suffix(".out")

    @property
    def account_id(self) -> str:
        """The account made at first start."""
        return str(json.loads((self.home / "home.json").read_text())["account_id"])

    @property
    def admin_token(self) -> str:
        """The admin API token made at first start."""
        return (self.home / "admin.token").read_text().strip()

    @property
    def base_url(self) -> str:
        """What `CLOUDFLARE_BASE_URL` is set to."""
        return f"http://127.0.0.1:{self.api_port}/client/v4"

    def start(self, *, ready_seconds: float = READY_SECONDS) -> None:
        """Start `foregate up` and wait until it says that it is ready."""
        with self.output.open("ab") as output:
            begun = output.tell()
            self.supervisor = subprocess.Popen(
                [sys.executable, "-m", "foregate", "up", *self.arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )

        def is_ready() -> bool:
            assert self.supervisor is not None and self.supervisor.poll() is None, self.output.read_text()[-2000:]
            return b"ready after" in self.output.read_bytes()[begun:]

        until(is_ready, ready_seconds, "foregate up is ready", every=0.05)

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code. AssertionError where anything of it is left."""
        assert self.supervisor is not None
        self.supervisor.send_signal(signal.SIGINT)
        code = self.supervisor.wait(STOP_SECONDS)
        self.supervisor = None
        left = [f"{found.pid} {found.command.decode('utf-8', 'replace')}" for found in processes_of(self.home)]
        assert not left, f"still there after the end: {left}; the agent said:\n{self._said_by('edge')}"
        return code

    def run(
        self, *arguments: str, input: bytes | None = None, seconds: float = 30
    ) -> subprocess.CompletedProcess[bytes]:
        """A `foregate` command about this home."""
        command = [sys.executable, "-m", "foregate", *arguments]
        return subprocess.run(
            command, env=self.environment, input=input, capture_output=True, cwd="/", timeout=seconds, check=False
        )

    def _said_by(self, name: str) -> str:
        return (self.home / "logs" / f"{name}.log").read_text()[-3000:]

    def processes(self, name: str) -> list[Process]:
        """The home's living processes of that name (`up`, `api`, `worker`, `edge`, `echo`, `haproxy`)."""
        return [process for process in processes_of(self.home) if process.name == name]

    def api(self, token: str | None = None) -> Api:
        """The control API with the admin token, or another."""
        return Api(self.api_port, self.account_id, token or self.admin_token, self.issued)

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts the local CA alone."""
        return ssl.create_default_context(cafile=str(self.home / "edge" / "ca" / "ca.pem"))

    def connect(self) -> Connection:
        """A plain connection to the edge."""
        return Connection(self.http_port)

    def connect_tls(self, host: str) -> Connection:
        """A TLS connection to the edge, HTTP/1.1."""
        return Connection(self.https_port, tls=self.tls(), server_name=host)

    def connect_h2(self, host: str) -> Http2Connection:
        """An HTTP/2 connection to the edge."""
        return Http2Connection(self.https_port, self.tls(), host)

    def get(self, host: str, path: str = "/", headers: Headers = (), method: str = "GET") -> Answer:
        """One request to the edge on a connection of its own, over plain HTTP."""
        with self.connect() as connection:
            return connection.request(method, path, [("Host", host), *headers])


@contextmanager
def running_foregate(
    *arguments: str, prepare: Callable[[Foregate], None] = lambda _: None, **settings: str
) -> Iterator[Foregate]:
    """A started Foregate with a fresh home, prepared before; stopped, and the home removed, whatever happens in
    between. `arguments`: of `foregate up`."""
    home = Path(tempfile.mkdtemp(prefix="foregate-")) / "home"
    api_port, http_port, https_port = free_ports(3)
    foregate = Foregate(home, api_port, http_port, https_port, settings, arguments)
    try:
        prepare(foregate)
        foregate.start()
        yield foregate
        if foregate.supervisor is not None:
            assert foregate.stop() == 0
    finally:
        kill_all(home)
        shutil.rmtree(home.parent, ignore_errors=True)
