"""Starts an HAProxy process and waits for its end, without a shell and without asyncio's child watcher.

Descriptor 3 is the spool file, 4 a configuration in memory with what must not stand on disk, in an environment or in
an argument list: the peppers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hmac
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import certifi

_SPOOL_AT, _SECRETS_AT = 3, 4
# Far longer than a program takes to begin; a process that has wiped out its words makes the search wait that long.
_BEGINNING_SECONDS = 0.2
# Debian and Alpine; Fedora, Red Hat; SUSE.
_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: HAProxy with `arguments` on the file `config`. `maps` is the folder of its token maps, `spool` and
    `log` are appended to and made if absent."""

    binary: Path
    arguments: Sequence[str]
    config: Path
    maps: Path
    spool: Path
    log: Path
    peppers: Mapping[int, bytes] = field(repr=False)
    generation: int


def spawn(command: Command) -> int:
    """Start it in a session of its own, so that a terminal's Ctrl-C does not reach it. Returns the process's number."""
    opened: list[int] = []
    try:
        opened.append(os.open(command.spool, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        # Inherited with the descriptor: the spool file is locked as long as any process may append to it, which is how
        # `edge/spool.py` knows that a worker is gone and its file complete.
        fcntl.flock(opened[0], fcntl.LOCK_SH)
        opened.append(_secrets_file(command.peppers, command.generation))
        opened.append(os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        opened.append(os.open(os.devnull, os.O_RDONLY))
        # Copied aside first: 3 or 4 may be among those that are open here.
        aside = max(*opened, _SECRETS_AT) + 1
        moves = [(os.POSIX_SPAWN_DUP2, at, aside + number) for number, at in enumerate(opened)]
        for number, target in enumerate((_SPOOL_AT, _SECRETS_AT, 1, 0)):
            moves.append((os.POSIX_SPAWN_DUP2, aside + number, target))
        moves.append((os.POSIX_SPAWN_DUP2, 1, 2))
        closed = [(os.POSIX_SPAWN_CLOSE, aside + number) for number in range(len(opened))]
        configs = ["-f", f"/dev/fd/{_SECRETS_AT}", "-f", str(command.config)]
        return os.posix_spawn(
            command.binary,
            [str(command.binary), *command.arguments, *configs],
            {
                "PATH": os.defpath,
                "TZ": "UTC",
                # Maps of a hundred thousand entries are walked through many pages: huge ones need fewer look-ups each.
                "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
                "FOREGATE_MAPS": str(command.maps),
                "FOREGATE_SYSTEM_CA": str(system_ca_file()),
            },
            file_actions=[*moves, *closed],
            setsid=True,
        )
    finally:
        for descriptor in opened:
            os.close(descriptor)


async def ended(pid: int) -> int:
    """The exit status of a child of ours, once it has ended."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, lambda: None if done.done() else done.set_result(None))
    try:
        await done
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return reap(pid)


def reap(pid: int) -> int:
    """The exit status of a child that has ended, or is about to: waits for it. ChildProcessError if it is no child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def has_ended(pid: int) -> bool:
    """Whether a child has ended; if so, it is reaped."""
    return os.waitpid(pid, os.WNOHANG)[0] != 0


def system_ca_file() -> Path:
    """The CAs that this machine trusts, as one PEM file. HAProxy's own `@system-ca` asks the OpenSSL it was built with,
    which may look where another distribution has them; certifi's list is for machines that have none."""
    named = os.environ.get("SSL_CERT_FILE", "")
    found = (Path(path) for path in (named, *_CA_FILES) if path and Path(path).is_file())
    return next(found, Path(certifi.where()))


def started_at(pid: int) -> int | None:
    """The kernel's start time of a process (clock ticks since boot), None where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def has_started(folder: Path, address: str) -> bool:
    """Whether the process that runs on the configuration in `folder` listens on its runtime socket, as it does just
    before it takes over; if not, it is ended. It is halted meanwhile: it must not take over and be ended then."""
    found = [pid for pid, name in find_spawned(folder.parent) if name == folder.name]
    _send(found, signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX) as probe:
        is_listening = probe.connect_ex(address) == 0
    _send(found, signal.SIGCONT if is_listening else signal.SIGKILL)
    return is_listening


def find_spawned(workers: Path) -> list[tuple[int, str]]:
    """The processes that run on a configuration in one of the folders in `workers`, by whomever they were started, and
    the folder's name; oldest first by that. Those that only check one are left out."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                words = words_of(int(process.name))
                folder = Path(words[-1]).parent  # the configuration comes last
                if folder.parent == workers and "-c" not in words:
                    found.append((int(process.name), folder.name))
    return sorted(found, key=lambda entry: entry[1])


def words_of(pid: int) -> list[str]:
    """A process's program and arguments; OSError where it is gone or has none, as the kernel's own.

    The kernel shows no words for a moment after a program has begun. They are waited for: an HAProxy that was
    overlooked would go on when all others have ended.
    """
    process = Path(f"/proc/{pid}")
    deadline = time.monotonic() + _BEGINNING_SECONDS
    while not (words := (process / "cmdline").read_bytes()) and time.monotonic() < deadline:
        (process / "exe").readlink()  # what the kernel's own processes and zombies lack
        time.sleep(0.001)
    return [os.fsdecode(word) for word in words.removesuffix(b"\0").split(b"\0")]


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _secrets_file(peppers: Mapping[int, bytes], generation: int) -> int:
    """A configuration in memory: the peppers, and the salt of hot.map's keys, derived so that it survives a restart.

    It is read before the other one and names the big maps first, so that the small one, which `edge/engine.py` hands
    over as late as it can, is read when the time-consuming ones are in memory already.
    """
    lines = [f"set-var proc.pepper{number} str({base64.b64encode(key).decode()})" for number, key in peppers.items()]
    salt = base64.b64encode(hmac.digest(peppers[max(peppers)], b"hot map", "sha256")[:18]).decode()
    warm = [f'set-var proc.warm str(-),map_str("${{FOREGATE_MAPS}}/{name}")' for name in ("base.map", "hot.map")]
    numbers = [f"set-var proc.gen str({generation})", f"set-var proc.salt str({salt})"]
    text = "\n".join(["global", *warm, *numbers, *lines, ""])
    descriptor = os.memfd_create("foregate-peppers")
    os.write(descriptor, text.encode())
    return descriptor
