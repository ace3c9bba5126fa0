"""Where an edge keeps what: the names inside its folder of the home, and a folder for its sockets."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError

# A socket's address holds 107 octets (unix(7)); HAProxy binds it under a longer name first and needs some of them.
_LONGEST_SOCKET_PATH = 96
_LONGEST_NAME = 32


@dataclass(frozen=True, slots=True)
class EdgePaths:
    """`folder` is the home's `edge`, `own_certificates` a folder of the user's own, `logs` where HAProxy's words go."""

    folder: Path
    own_certificates: Path
    logs: Path
    sockets: Path

    @property
    def worker_log(self) -> Path:
        """What HAProxy says, of every worker."""
        return self.logs / "haproxy.log"

    @property
    def key(self) -> Path:
        """The edge key."""
        return self.folder / "edge.key"

    @property
    def secrets(self) -> Path:
        """The sealed secrets."""
        return self.folder / "secrets.sealed"

    @property
    def state(self) -> Path:
        """The records, in SQLite."""
        return self.folder / "state.db"

    @property
    def maps(self) -> Path:
        """The base map; below it a folder of map files for each worker."""
        return self.folder / "maps"

    @property
    def workers(self) -> Path:
        """A folder of rendered files for each worker."""
        return self.folder / "workers"

    @property
    def roster(self) -> Path:
        """Which workers run, for the next agent."""
        return self.folder / "workers.json"

    @property
    def spool(self) -> Path:
        """The spool files."""
        return self.folder / "spool"

    @property
    def certificates(self) -> Path:
        """What HAProxy reads."""
        return self.folder / "certs"

    @property
    def authority(self) -> Path:
        """The local CA."""
        return self.folder / "ca"

    @property
    def status(self) -> Path:
        """What `foregate status` reads."""
        return self.folder / "status.json"

    @property
    def agent_socket(self) -> Path:
        """Where workers ask for assertions."""
        return self.sockets / "agent.sock"

    @property
    def serving_socket(self) -> Path:
        """Where the worker that serves takes requests from its predecessors."""
        return self.sockets / "serving.sock"

    @property
    def serving_tls_socket(self) -> Path:
        """The same, for what came to them over TLS."""
        return self.sockets / "serving-tls.sock"

    def worker_socket(self, name: str) -> Path:
        """A worker's runtime socket."""
        return self.sockets / f"{name}.sock"


def socket_folder(home: Path, worker_user: str) -> Path:
    """A folder for sockets that `home` may be too deep, or too closed to `worker_user`, to hold; made if absent.

    `worker_user` empty: workers run as ourselves. ForegateError(UNAVAILABLE) where somebody else made it first.
    """
    inside = home / "run"
    if not worker_user and len(str(inside)) + 1 + _LONGEST_NAME <= _LONGEST_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"foregate-{os.geteuid()}-{digest}"
    # Others may pass through, not look in: the sockets have their own rights.
    mode = 0o711 if worker_user else 0o700
    folder.mkdir(mode=mode, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ForegateError(ErrorCode.UNAVAILABLE, f"{folder} is not ours; remove it, or set TMPDIR to another folder.")
    folder.chmod(mode)
    return folder
