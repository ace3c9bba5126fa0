"""`foregate doctor`: looks at this machine and this home, says what is wrong and what to do about it. Changes nothing,
and needs nothing to be running."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foregate.core.clock import format_time, utc_now
from foregate.core.errors import ForegateError
from foregate.edge.membership import read_membership
from foregate.engines.haproxy.binary import find_binary, require_version
from foregate.services.clock_state import is_synchronised
from foregate.services.edge_report import edge_problems
from foregate.services.engines import find_workers
from foregate.services.expulsion import require_not_expelled
from foregate.services.folding import read_folding
from foregate.services.home import Home
from foregate.services.kafka import look_at_kafka
from foregate.services.peppers import unknown_peppers
from foregate.services.ports import find_port_holder, is_free
from foregate.services.settings import FILE_NAME, PREFIX, Settings
from foregate.services.status import read_status
from foregate.services.stores import look_at, stores_of
from foregate.services.wholeness import find_faults

_OLDEST_PYTHON = (3, 11)
# The oldest SQLite with all that the databases use: RETURNING, STRICT, WITHOUT ROWID with upserts.
_OLDEST_SQLITE = (3, 37, 0)
# The spool and the kept events may each grow to their bound, 1 GiB by default.
_LEAST_DISK_BYTES = 2 << 30
_EARLIEST_CLOCK = 1_760_000_000  # October 2025: a clock before that was never set


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `advice` is empty where nothing is to be done."""

    check: str
    found: str
    advice: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether something is to be done."""
        return bool(self.advice)

    @property
    def verdict(self) -> str:
        """In a word."""
        return "wrong" if self.is_wrong else "good"

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"check": self.check, "good": not self.is_wrong, "found": self.found, "advice": self.advice}


def examine(settings: Settings) -> list[Finding]:
    """All checks, in an order in which a person would mend what is wrong."""
    home = Home(settings.home)
    return [
        _python(),
        _sqlite(),
        _haproxy(settings),
        _edge_user(settings),
        _clock(home),
        _home_folder(home),
        _disk(home),
        *_membership(home),
        *_wholeness(settings, home),
        *_database(settings),
        *_peppers(settings, home),
        *_private_files(home),
        *_kafka(settings, home),
        *_ports(settings, home),
        _running(home),
        _edge(home),
        *_events(settings, home),
    ]


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    advice = "" if sys.version_info >= _OLDEST_PYTHON else "install Python 3.11 or newer"
    return Finding("Python", found, advice)


def _sqlite() -> Finding:
    is_old = sqlite3.sqlite_version_info < _OLDEST_SQLITE
    return Finding("SQLite", sqlite3.sqlite_version, "use a Python with SQLite 3.37 or newer" if is_old else "")


def _haproxy(settings: Settings) -> Finding:
    try:
        binary = find_binary(str(settings.haproxy or ""))
        version = asyncio.run(require_version(binary))
    except ForegateError as error:
        return Finding("HAProxy", "not usable", error.message)
    return Finding("HAProxy", f"{'.'.join(map(str, version))}, {binary}")


def _edge_user(settings: Settings) -> Finding:
    if os.geteuid() != 0:
        return Finding("HAProxy's user", "the one who starts it")
    try:
        pwd.getpwnam(settings.edge_user)
    except KeyError:
        advice = f"make the user {settings.edge_user}, or set {PREFIX}EDGE_USER to one that exists"
        return Finding("HAProxy's user", f"{settings.edge_user} does not exist", advice)
    return Finding("HAProxy's user", settings.edge_user)


def _clock(home: Home) -> Finding:
    now = time.time()
    if now < _EARLIEST_CLOCK:
        return Finding("clock", time.strftime("%Y-%m-%d", time.gmtime(now)), "set the clock: tokens expire by it")
    if home.facts.exists() and home.facts.stat().st_mtime > now + 60:
        return Finding("clock", "before this home was made", "set the clock: tokens expire by it")
    return Finding("clock", "synchronised" if is_synchronised() else "plausible; the kernel knows no time server")


def _home_folder(home: Home) -> Finding:
    if not home.root.exists():
        return Finding("home", f"{home.root}, not made yet")
    mode = stat.S_IMODE(home.root.stat().st_mode)
    if mode & 0o077:
        return Finding("home", f"{home.root}, open to others ({mode:o})", f"run: chmod 700 {home.root}")
    return Finding("home", str(home.root))


def _disk(home: Home) -> Finding:
    place = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    advice = "" if free >= _LEAST_DISK_BYTES else f"free some space for {place}: at least 2 GiB are needed"
    return Finding("disk", f"{free / (1 << 30):.1f} GiB free", advice)


def _membership(home: Home) -> Iterator[Finding]:
    """Of a home whose edge joined another control plane."""
    check = "membership"
    try:
        require_not_expelled(home)
        membership = read_membership(home.membership)
    except ForegateError as error:
        yield Finding(check, "none that is good", error.message)
        return
    if membership is not None:
        until = membership.expires_at
        advice = "" if until > utc_now() else "have the edge join again; see docs/operations/edges.md"
        found = f"{membership.name}, at {membership.control_plane}; its certificate ends at {format_time(until)}"
        yield Finding(check, found, advice)


def _wholeness(settings: Settings, home: Home) -> Iterator[Finding]:
    """One finding for each file that has to be whole. Databases are read through, beside whatever runs on them."""
    faults = {fault.path: fault for fault in find_faults(settings, is_thorough=True)}
    databases = (home.records_db, home.telemetry_db) if settings.keeps_files else ()
    for path in (home.master_key, home.facts, *databases, home.admin_token, home.edge_key):
        if fault := faults.get(path):
            yield Finding(path.name, fault.what, fault.advice)
        else:
            yield Finding(path.name, "whole" if path.exists() else "not made yet")


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.keeps_files:  # looked through above
        return
    try:
        yield Finding("database", look_at(stores_of(settings)))
    except ForegateError as error:
        yield Finding("database", "not usable", error.message.removesuffix("."))


def _peppers(settings: Settings, home: Home) -> Iterator[Finding]:
    try:
        unknown = unknown_peppers(home, stores_of(settings).records, utc_now())
    except ForegateError:  # a finding of its own
        return
    if unknown:
        numbers = ", ".join(str(use.version) for use in unknown)
        count = sum(use.live_secrets for use in unknown)
        advice = "put back the copy that was saved after the last foregate keys add-pepper"
        yield Finding("peppers", f"{count} live secrets are under {numbers}, which master.key does not know", advice)
    else:
        yield Finding("peppers", "every live secret's is known")


def _private_files(home: Home) -> Iterator[Finding]:
    """Every file of the home is for its owner alone; the worst that can be found is told."""
    if not home.root.exists():
        return
    shown = [path for path in _files(home) if path.lstat().st_mode & 0o077 and not path.is_symlink()]
    if shown:
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        names = ", ".join(str(path.relative_to(home.root)) for path in shown[:3])
        yield Finding("file rights", f"open to others: {names}{more}", f"run: chmod -R go= {home.root}")
    else:
        yield Finding("file rights", "0600 throughout")


def _files(home: Home) -> Iterator[Path]:
    # What lies in edge/ is partly for HAProxy's own user; the agent sets those rights.
    for path in home.root.rglob("*"):
        # The settings hold nothing secret, and a person's editor made the file.
        if path.is_file() and home.edge not in path.parents and path != home.root / FILE_NAME:
            yield path
    yield from (path for path in (home.edge_key,) if path.exists())


def _ports(settings: Settings, home: Home) -> Iterator[Finding]:
    wanted = (
        ("API_PORT", settings.api_host, settings.api_port),
        ("HTTP_PORT", settings.bind, settings.http_port),
        ("HTTPS_PORT", settings.bind, settings.https_port),
    )
    status = read_status(home)
    ours = {status.pid, *(process.pid for process in status.processes), *find_workers(settings, home)}
    for name, host, port in wanted:
        check = f"port {port}"
        if is_free(host, port):
            yield Finding(check, "free")
            continue
        holder = find_port_holder(port)
        if holder is not None and holder.pid in ours:
            yield Finding(check, f"in use by this Foregate ({holder.name}, process {holder.pid})")
        else:
            who = f"process {holder.pid} ({holder.name})" if holder else "another program"
            yield Finding(check, f"taken by {who}", f"free it, or set {PREFIX}{name} to another port")


def _running(home: Home) -> Finding:
    status = read_status(home)
    if status.pid is None:
        return Finding("foregate up", "not running")
    if status.is_ready:
        return Finding("foregate up", f"ready, process {status.pid}")
    return Finding("foregate up", f"process {status.pid}, not ready", f"{status.problem}; see {home.logs}")


def _kafka(settings: Settings, home: Home) -> Iterator[Finding]:
    if not settings.kafka:
        return
    try:
        yield Finding("kafka", look_at_kafka(settings, home))
    except ForegateError as error:
        yield Finding("kafka", "not usable", error.message.removesuffix("."))


def _edge(home: Home) -> Finding:
    problems = edge_problems(home)
    if not problems:
        return Finding("edge", "not running" if problems is None else "takes all that it is sent")
    return Finding("edge", "; ".join(problems), f"see docs/operations/running.md and {home.logs / 'edge.log'}")


def _events(settings: Settings, home: Home) -> Iterator[Finding]:
    try:
        folding = read_folding(home, stores_of(settings).telemetry, utc_now())
    except ForegateError:  # a finding of its own
        return
    if not folding.problems:
        yield Finding("events", "all taken in are counted" if folding.consumers else "none yet")
    else:
        yield Finding("events", "; ".join(folding.problems), f"see {home.logs / 'worker.log'}")
