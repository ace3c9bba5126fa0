"""The home: one folder that holds everything of one Foregate, and the names of what lies in it.

Folders are 0700 and files 0600: a process of Foregate calls
`open_home` first, which also sets the umask, so that nothing it writes later is readable by others.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import write_private

# What marks a folder as a home; a folder that holds other files and none of these is somebody else's.
_MARKS = ("home.json", "master.key", "foregate.toml", "edge")


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of a home."""

    root: Path

    @property
    def master_key(self) -> Path:
        """The key file everything else is sealed under. Lost, it cannot be replaced."""
        return self.root / "master.key"

    @property
    def admin_token(self) -> Path:
        """The admin API token, which `foregate env` and the CLI use."""
        return self.root / "admin.token"

    @property
    def facts(self) -> Path:
        """`home.json`: `{"account_id", "edge_id"}`."""
        return self.root / "home.json"

    @property
    def records_db(self) -> Path:
        """The database of records, opened by the API process only."""
        return self.root / "records.db"

    @property
    def telemetry_db(self) -> Path:
        """The database of the log and what consumers make of it."""
        return self.root / "telemetry.db"

    @property
    def database(self) -> Path:
        """Passwords for PostgreSQL, one file for each user; with SQLite there is none."""
        return self.root / "database"

    @property
    def logs(self) -> Path:
        """What each process says, one file each."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Locks, sockets and the status of what runs now. Holds nothing that must outlive a restart."""
        return self.root / "run"

    def troubles(self, worker: str) -> Path:
        """What keeps failing in the worker of that name, as it says itself."""
        return self.run / f"troubles-{worker}.json"

    @property
    def kafka(self) -> Path:
        """Users of Kafka with their passwords, and its CA."""
        return self.root / "kafka"

    @property
    def demo(self) -> Path:
        """The demo's token and port."""
        return self.root / "demo"

    @property
    def edge(self) -> Path:
        """The edge's own state; the agent knows the names in it."""
        return self.root / "edge"

    @property
    def edge_key(self) -> Path:
        """The key with which the edge on this machine shows itself to the feed."""
        return self.edge / "edge.key"

    @property
    def membership(self) -> Path:
        """Who this home's edge is, where it joined a control plane on another machine (`edge/membership.py`)."""
        return self.edge / "membership.json"

    @property
    def joining(self) -> Path:
        """The keys of a join that has not been answered yet."""
        return self.edge / "joining.json"

    @property
    def expulsion(self) -> Path:
        """That this home's edge has been expelled. It holds a sentence for people."""
        return self.edge / "expelled"

    @property
    def edge_ca(self) -> Path:
        """The certificate of the local CA, for clients of the edge."""
        return self.edge / "ca" / "ca.pem"


@dataclass(frozen=True, slots=True)
class Facts:
    """Which account and which edge this home was made with."""

    account_id: str
    edge_id: str


def open_home(root: Path) -> Home:
    """The home in `root`, with its folders made. Safe to repeat and to call from several processes at once.

    Raises ForegateError(UNAVAILABLE) where the folder belongs to another user, holds other things, or cannot be made.
    """
    os.umask(0o077)
    home = Home(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _claim(root)
        for folder in (home.logs, home.run, home.demo, home.edge):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
    except OSError as error:
        raise _unusable(f"The home {root} cannot be used: {error.strerror}.") from error
    return home


def read_facts(home: Home) -> Facts | None:
    """What `home.json` says; None before the first start. ForegateError(UNAVAILABLE) where it is damaged."""
    try:
        found = json.loads(home.facts.read_text())
        return Facts(str(found["account_id"]), str(found["edge_id"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(f"{home.facts} is damaged; put the saved copy back.") from error


def write_facts(home: Home, facts: Facts) -> None:
    """Write `home.json`, whole or not at all."""
    content = json.dumps({"account_id": facts.account_id, "edge_id": facts.edge_id}, indent=2)
    write_private(home.facts, content.encode() + b"\n")


def read_private(path: Path) -> str:
    """A secret file's text without the line end. ForegateError(UNAVAILABLE) where absent, readable by others, or
    no text."""
    try:
        if path.stat().st_mode & 0o077:
            raise _unusable(f"{path} is readable by others; run: chmod 600 {path}")
        return path.read_text().strip()
    except OSError as error:
        raise _unusable(f"{path} cannot be read ({error.strerror}); is FOREGATE_HOME right?") from error
    except UnicodeDecodeError:
        raise _unusable(f"{path} is damaged; remove it: another one is made at the next start") from None


def _claim(root: Path) -> None:
    """Make sure that the folder is ours alone, without closing somebody's shared folder by mistake."""
    state = root.stat()
    if state.st_uid != os.geteuid():
        raise _unusable(f"The home {root} belongs to another user; set FOREGATE_HOME to a folder of your own.")
    if state.st_mode & 0o077:
        names = {entry.name for entry in root.iterdir()}
        if names and not names & set(_MARKS):
            raise _unusable(f"{root} holds other files and is open to others; set FOREGATE_HOME to an empty folder.")
        root.chmod(0o700)


def _unusable(message: str) -> ForegateError:
    return ForegateError(ErrorCode.UNAVAILABLE, message)
