"""What the kernel says about a home's processes, asked from outside: which there are, and what they were started with.

A process belongs to a home if its environment names it, as Foregate hands FOREGATE_HOME down to its own children, or if
it is a HAProxy whose configuration lies there. Further edges of `foregate up --edges` have homes within the home.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.sockets import remove_outside_folders
from harness.waiting import until


@dataclass(frozen=True, slots=True)
class Process:
    """A living process. `name`: `up`, `api`, `worker`, `edge`, `echo`, `haproxy`, or another program's own name."""

    pid: int
    name: str
    command: bytes
    environment: bytes

    @property
    def instance(self) -> str:
        """Which of several of its name it is, as `foregate status` calls it: `api-2`; a HAProxy like its edge,
        `haproxy-2`."""
        if self.name == "haproxy":
            found = re.search(rb"/edges/edge-(\d+)/", self.command)
        elif self.name == "edge":
            found = re.search(rb"(?:^|\0)FOREGATE_HOME=[^\0]*/edges/edge-(\d+)\0", self.environment)
        else:
            found = re.search(rb"\0--number=(\d+)", self.command)
        return f"{self.name}-{found[1].decode()}" if found else self.name


def processes_of(home: Path) -> list[Process]:
    """The home's living processes. Zombies, which nobody has waited for yet, are left out."""
    return list(_find(f"FOREGATE_HOME={home}".encode(), f"{home}/edge".encode()))


def waited_seconds(home: Path) -> dict[Process, float]:
    """How long each of the home's processes was ready to run and had no core (its main thread; the kernel's
    Documentation/scheduler/sched-stats): what a machine with too much to do has cost it."""
    found = {}
    for process in processes_of(home):
        try:
            found[process] = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):  # it is gone, or this kernel does not count
            continue
    return found


def kill(process: Process, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal; nothing happens if the process is gone."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return


def kill_all(home: Path) -> None:
    """Kill whatever of the home is left, supervisor first so that nothing is started again, until nothing is.

    Then remove the sockets that the killed could not: the home itself is the caller's to remove.
    """

    def all_gone() -> bool:
        left = processes_of(home)
        for process in sorted(left, key=lambda found: found.name != "up"):
            kill(process)
        if left:
            return False
        # The kernel shows neither words nor environment for a moment after a program has begun.
        time.sleep(0.05)
        return not processes_of(home)

    until(all_gone, 20, f"the processes of {home} are gone")
    remove_outside_folders(home)


def _find(mark: bytes, folder_mark: bytes) -> Iterator[Process]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes()
            is_engine = _name(command) == "haproxy" and folder_mark in command
            if not is_engine and not any(_is_within(mark, entry) for entry in environment.split(b"\0")):
                continue
            if command and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                yield Process(int(folder.name), _name(command), command, environment)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


def _is_within(mark: bytes, entry: bytes) -> bool:
    return entry == mark or entry.startswith(mark + b"/edges/")


def _name(command: bytes) -> str:
    words = command.decode("utf-8", "replace").split("\0")
    program = Path(words[0]).name
    if program.startswith("haproxy"):
        return "haproxy"
    for word, following in itertools.pairwise(words):
        if word == "foregate" or Path(word).name == "foregate":
            return following
    return program
