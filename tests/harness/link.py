"""A machine of its own behind a link that can be cut: a network namespace (network_namespaces(7)) and a veth pair.

Needs root, and iproute2, which is installed with apt-get where it is missing; else the tests are skipped with a
sentence, and fail where `CI` is set.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_CLONE_NEWNET = 0x40000000
# A hardware address that nobody has: frames sent to it are lost, and neither side is told.
_NOBODY = "02:00:00:00:00:01"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Link:
    """`near` is this side's address, `far` the one within the namespace; each end of the pair is named likewise."""

    name: str
    near: str
    far: str

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread, and whatever threads and processes it starts, are on the machine behind the link; what
        they open stays there."""
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{self.name}") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def lose_all(self) -> None:
        """From now on every packet is lost on the way, both ways; nobody is told."""
        for side, peer in ((self._near_side, self.far), (self._far_side, self.near)):
            side("neigh", "replace", peer, "lladdr", _NOBODY, "nud", "permanent")

    def take_down(self) -> None:
        """The cable is out at the other machine, which knows it: it has no route any more."""
        self._far_side("link", "set", self._far_device, "down")

    def narrow(self, kilobits_per_second: int) -> None:
        """No more than this goes through, either way (tc-tbf(8))."""
        rate = ("rate", f"{kilobits_per_second}kbit", "burst", "4kb", "latency", "400ms")
        _run("tc", "qdisc", "replace", "dev", self._near_device, "root", "tbf", *rate)
        _run("tc", "-netns", self.name, "qdisc", "replace", "dev", self._far_device, "root", "tbf", *rate)

    def mend(self) -> None:
        """All is as at first, but for a link that was made narrow."""
        self._far_side("link", "set", self._far_device, "up")
        for side, peer in ((self._near_side, self.far), (self._far_side, self.near)):
            side("neigh", "flush", "to", peer, "nud", "permanent")

    def widen(self) -> None:
        """Take back `narrow`."""
        _run("tc", "qdisc", "del", "dev", self._near_device, "root")
        _run("tc", "-netns", self.name, "qdisc", "del", "dev", self._far_device, "root")

    @property
    def _near_device(self) -> str:
        return f"{self.name}n"

    @property
    def _far_device(self) -> str:
        return f"{self.name}f"

    def _near_side(self, *words: str) -> None:
        device = () if words[0] == "link" else ("dev", self._near_device)
        _run("ip", *words, *device)

    def _far_side(self, *words: str) -> None:
        device = () if words[0] == "link" else ("dev", self._far_device)
        _run("ip", "-netns", self.name, *words, *device)

    def _make(self) -> None:
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._near_device, "type", "veth", "peer", self._far_device, "netns", self.name)
        self._near_side("address", "add", f"{self.near}/30")
        self._far_side("address", "add", f"{self.far}/30")
        _run("ip", "link", "set", self._near_device, "up")
        self._far_side("link", "set", self._far_device, "up")
        self._far_side("link", "set", "lo", "up")

    def _remove(self) -> None:
        for words in (("link", "del", self._near_device), ("netns", "del", self.name)):
            subprocess.run(["ip", *words], capture_output=True, check=False)


@contextmanager
def made_link() -> Iterator[Link]:
    """A link that works, removed afterwards. Skips where none can be made."""
    _require_programs()
    # 198.18.0.0/15 is nobody's network (RFC 2544).
    network = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
    link = Link(f"fg{os.getpid()}x{next(_numbers)}", f"{network}.1", f"{network}.2")
    try:
        try:
            link._make()
        except CannotMake as error:
            _do_without(
                f"No network namespace can be made here ({error}); run the tests as root of a machine that may."
            )
        yield link
    finally:
        link._remove()


class CannotMake(Exception):
    """A program has failed; the text is what it said."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotMake(f"{' '.join(command)}: {done.stderr.strip()}")


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _require_programs() -> None:
    if os.geteuid() != 0:
        _do_without("A link between network namespaces needs root; run these tests as root.")
    if not _are_there() and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "iproute2"]):
            subprocess.run(command, env=quiet, capture_output=True, check=False)
    if not _are_there():
        _do_without("The programs ip and tc are not here; install them (Debian: apt-get install iproute2).")


def _are_there() -> bool:
    return all(shutil.which(program) for program in ("ip", "tc"))


def _do_without(sentence: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)
