"""Whether a port can be had, and if not, which process of this machine has it (Linux's /proc)."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import dataclass
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Well-known services are below.
_LOWEST_DRAWN, _TRIES = 20_000, 50
_LOOKS = 3
_LISTENING = "0A"  # the state column of /proc/net/tcp


@dataclass(frozen=True, slots=True)
class PortHolder:
    """A process that listens on a port, and its short name."""

    pid: int
    name: str


def is_free(host: str, port: int) -> bool:
    """Whether a listener could be opened now. Asks by opening one, without listening."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def draw_port(host: str) -> int:
    """A free port that the kernel gives to no outgoing connection, so that it can be had again after a restart; 0, the
    kernel's choice, where there is none."""
    for port in random.sample(range(_LOWEST_DRAWN, max(_LOWEST_DRAWN + _TRIES, _ephemeral_start())), _TRIES):
        if is_free(host, port):
            return port
    return 0


def _ephemeral_start() -> int:
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768  # what Linux starts with


def find_port_holder(port: int) -> PortHolder | None:
    """A process that listens on `port`; None where there is none or this user may not see it."""
    # The kernel's table is read in pieces, and where sockets come and go meanwhile a row can be passed over.
    for _ in range(_LOOKS):
        inodes = {inode for table in ("tcp", "tcp6") for inode in _listening_inodes(table, port)}
        if inodes:
            break
    else:
        return None
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _has_descriptor(process, links):
            return _describe(process)
    return None


def _listening_inodes(table: str, port: int) -> list[str]:
    try:
        lines = Path("/proc/net", table).read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _has_descriptor(process: Path, links: set[str]) -> bool:
    try:
        return any(os.readlink(entry) in links for entry in (process / "fd").iterdir())
    except OSError:  # gone meanwhile, or another user's
        return False


def _describe(process: Path) -> PortHolder:
    try:
        name = (process / "comm").read_text().strip()
    except OSError:
        name = ""
    return PortHolder(int(process.name), name)
