"""A private PostgreSQL server from the distribution's own programs: its data in a temporary folder, on loopback alone.

One per test session, a fresh database for each test that asks. Where the programs are missing they are installed with
apt-get, if this user may; else the tests are skipped with a sentence, and fail where `CI` is set.
"""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from foregate.database.engine import Database
from foregate.database.postgresql.address import parse_address
from foregate.database.postgresql.roles import Passwords
from foregate.database.postgresql.setup import set_up
from foregate.database.postgresql.store import PostgresqlStore
from foregate.database.stores import Stores
from harness.ports import free_ports
from harness.waiting import until

_PROGRAMS = Path("/usr/lib/postgresql")
_OLDEST_VERSION = 15
ADMIN = "admin"
# The databases that pass the same suites.
ENGINES = ("sqlite", "postgresql")
_START_SECONDS = 30
# What the tests promise themselves of a server: that a commit is on disk as far as the server is concerned.
_SETTINGS = {
    "fsync": "off",  # the machine does not lose power within a test; a kill of the server loses nothing by it
    "max_connections": "200",
    "shared_buffers": "32MB",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


@dataclass(slots=True)
class PostgresqlServer:
    """A server with its data in `folder`. `port` stays the same over restarts."""

    programs: Path
    folder: Path
    port: int
    user: str | None  # whose process it is, where root may not run it
    process: subprocess.Popen[bytes] | None = None
    password: str = field(default_factory=secrets.token_hex, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def url(self, database: str) -> str:
        """As `FOREGATE_DATABASE` takes it."""
        return f"postgresql://127.0.0.1:{self.port}/{database}"

    def admin_url(self, database: str) -> str:
        """As `foregate database setup` takes it; the password is in `PGPASSWORD`."""
        return f"postgresql://{ADMIN}@127.0.0.1:{self.port}/{database}"

    def new_name(self) -> str:
        """The name of a database that nobody has used."""
        return f"t{os.getpid()}_{next(self._numbers)}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection that may do anything."""
        return psycopg.connect(self.admin_url(database), password=self.password, autocommit=True)

    def drop(self, database: str) -> None:
        """Remove a database and its roles, whoever is connected."""
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            roles = connection.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [f"{database}_"])
            for (role,) in roles.fetchall():
                connection.execute(f'DROP ROLE "{role}"')

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {**_SETTINGS, **self.settings, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._as_user([str(self.programs / "postgres"), "-D", str(self.folder / "data"), *given]),
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        until(self._answers, _START_SECONDS, "PostgreSQL answers")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts connections and writes everything, SIGKILL is a crash of the whole server."""
        if self.process is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(number)
        self.process.wait(_START_SECONDS)
        self.process = None
        until(self._is_gone, _START_SECONDS, "PostgreSQL has ended")
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of the server's processes where it kills or stops them; else to the first."""
        assert self.process is not None
        is_for_all = number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT)
        for pid in self._pids() if is_for_all else [self._postmaster()]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _postmaster(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def _pids(self) -> list[int]:
        """The first process and its children, whose folder is the data."""
        data = (self.folder / "data").resolve()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").resolve() == data:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def _is_gone(self) -> bool:
        return not self._pids()

    def _as_user(self, command: list[str]) -> list[str]:
        return command if self.user is None else ["setpriv", f"--reuid={self.user}", "--clear-groups", "--", *command]

    def make(self) -> None:
        """Make its data, with an administrator whose password is ours."""
        password = self.folder / "password"
        password.write_text(self.password)
        if self.user is not None:
            shutil.chown(self.folder, self.user)
            shutil.chown(password, self.user)
        command = [str(self.programs / "initdb"), "-D", str(self.folder / "data"), "-U", ADMIN, "--no-sync"]
        options = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password}"]
        made = subprocess.run(self._as_user([*command, *options]), capture_output=True, cwd="/", check=False)
        assert made.returncode == 0, made.stderr.decode()


@contextmanager
def running_postgresql(**settings: str) -> Iterator[PostgresqlServer]:
    """A started server, stopped and removed afterwards whatever happens in between. Skips where there is none.
    `settings`: of the server, beside the usual ones."""
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="foregate-postgresql-"))
    folder.chmod(0o755)
    server = PostgresqlServer(
        programs, folder, free_ports(1)[0], "postgres" if os.geteuid() == 0 else None, settings=settings
    )
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def find_programs() -> Path:
    """The folder of the newest server's programs; installed if they are not there. Skips, or fails in CI, without."""
    if _newest() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install()
    found = _newest()
    if found is None:
        sentence = f"PostgreSQL {_OLDEST_VERSION} or newer is not here; install it (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found


def _newest() -> Path | None:
    versions = [
        int(path.name) for path in _PROGRAMS.glob("*") if path.name.isdigit() and (path / "bin/initdb").exists()
    ]
    newest = max(versions, default=0)
    return _PROGRAMS / str(newest) / "bin" if newest >= _OLDEST_VERSION else None


def _install() -> None:
    """Debian's package, without the cluster that it would otherwise make and start."""
    settings = Path("/etc/postgresql-common/createcluster.conf")
    settings.parent.mkdir(exist_ok=True)
    if not settings.exists():
        settings.write_text("create_main_cluster = false\n")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "postgresql"]):
        subprocess.run(command, env=quiet, capture_output=True, check=False)


class PostgresqlDatabase:
    """One set-up database, and the home's passwords for it; `renew` gives it back as it was when it was set up."""

    def __init__(self, server: PostgresqlServer, folder: Path) -> None:
        self.server = server
        self.name = server.new_name()
        self.passwords = Passwords(folder)
        self.address, admin = parse_address(server.admin_url(self.name), may_have_user=True)
        set_up(self.address, admin, self.passwords, lambda _: None)
        self._template = f"{self.name}_template"
        with server.connect() as connection:
            connection.execute(f"CREATE DATABASE {self._template} TEMPLATE {self.name}")

    @property
    def stores(self) -> Stores:
        """Its two stores."""
        return Stores(*(PostgresqlStore(self.address, tree, self.passwords) for tree in ("records", "telemetry")))

    def renew(self) -> None:
        """Cut whoever is connected, and begin anew."""
        with self.server.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {self.name} TEMPLATE {self._template}")

    def open_as_owner(self, tree: str) -> Database:
        """A store with all rights, as a migration has it."""
        store = self.stores.records if tree == "records" else self.stores.telemetry
        assert isinstance(store, PostgresqlStore)
        return store.open_as_owner()
