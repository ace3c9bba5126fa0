"""A child process that is kept alive: started, watched, started again when it dies, ended when told.

The supervisor makes one `Child` for each; `restarts.py` decides. A death is never hidden: each is told to a person
with its exit, and a child that is given up with the end of its log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from foregate.core import logfile
from foregate.services.restarts import GiveUp, decide, recent

# How often a child's log is looked at.
_LOOK_SECONDS = 30.0
_ASKED_EVERY_SECONDS = 0.05
_HURRIED_DRAIN_SECONDS = 0.5


class ChildState(StrEnum):
    """Where a child is. `STARTING` until the supervisor finds it ready."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start: `foregate <command>`, called `name`, once `may_start` says so.

    `outlives_us`: our death does not end it, and a successor takes it over. `drain_seconds`: how long it may take to
    end once told, before it is killed. `descriptors`: open files of ours that it gets, under the same numbers.
    """

    name: str
    command: tuple[str, ...]
    outlives_us: bool
    drain_seconds: float
    log: Path
    environment: Mapping[str, str] = field(repr=False)
    may_start: Callable[[], bool] = field(repr=False)
    descriptors: tuple[int, ...] = ()


class GaveUp(Exception):
    """A child died too often. The text says which, how often, and shows the end of its log."""


class Child:
    """One child. `run` is awaited once; `on_change` is called when its state changes, `warn` with a line per death."""

    def __init__(self, spec: ChildSpec, on_change: Callable[[], None], warn: Callable[[str], None]) -> None:
        self.spec = spec
        self.state = ChildState.WAITING
        self.restarts = 0
        self._on_change = on_change
        self._warn = warn
        self._process: asyncio.subprocess.Process | None = None
        self._told = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The living process, if there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def found_ready(self) -> None:
        """The supervisor has seen it work."""
        if self.state is ChildState.STARTING:
            self._move(ChildState.READY)

    async def run(self) -> None:
        """Keep the child alive until `end` is called. Raises GaveUp."""
        try:
            while not self._told.is_set() and not self.spec.may_start():
                await self._sleep(_ASKED_EVERY_SECONDS)
            deaths: tuple[float, ...] = ()
            while not self._told.is_set():
                code = await self._live()
                if self._told.is_set():
                    return
                now = time.monotonic()
                deaths = (*recent(deaths, now), now)
                await self._after_death(deaths, now, code)
        finally:
            self._move(ChildState.ENDED)
            self._ended.set()

    async def end(self) -> bool:
        """Tell the child to end, wait, and kill it when its time is over. Whether it ended by itself."""
        self._told.set()
        self._signal(signal.SIGTERM)
        return await self._ended_within(self.spec.drain_seconds)

    async def hurry(self) -> bool:
        """As `end`, with hardly any time."""
        self._told.set()
        self._signal(signal.SIGTERM)
        return await self._ended_within(_HURRIED_DRAIN_SECONDS)

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._ended.wait()
            return False
        return True

    async def _live(self) -> int:
        """One life of the child, to its exit code."""
        self._move(ChildState.STARTING)
        logfile.bound(self.spec.log)
        self._process = await self._start()
        if self._told.is_set():
            self._signal(signal.SIGTERM)
        self._on_change()
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await self._process.wait()
            except TimeoutError:
                await asyncio.to_thread(logfile.bound, self.spec.log)

    async def _after_death(self, deaths: tuple[float, ...], now: float, code: int) -> None:
        match decide(deaths, now):
            case GiveUp(count):
                raise GaveUp(self._last_words(code, count))
            case verdict:
                self.restarts += 1
                self._warn(f"foregate: {self.spec.name} ended {_how(code)}; starting it again")
                self._move(ChildState.RESTARTING)
                await self._sleep(verdict.after_seconds)

    async def _start(self) -> asyncio.subprocess.Process:
        # -P: nothing in the current folder may stand in for a module of ours.
        command = [sys.executable, "-P", "-m", "foregate", *self.spec.command]
        if not self.spec.outlives_us:
            command += ["--parent", str(os.getpid())]
        with self.spec.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.environment),
                cwd="/",
                pass_fds=self.spec.descriptors,
                # A Ctrl-C in the terminal is for the supervisor alone, which ends the children in order.
                start_new_session=True,
            )

    async def _sleep(self, seconds: float) -> None:
        """Sleep, or less once told to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _move(self, state: ChildState) -> None:
        if state is not self.state:
            self.state = state
            self._on_change()

    def _last_words(self, code: int, count: int) -> str:
        lines = self.spec.log.read_bytes()[-2000:].decode("utf-8", "replace").splitlines()[-5:]
        said = "".join(f"\n    {line}" for line in lines)
        return (
            f"{self.spec.name} died {count} times within a minute (last: {describe_exit(code)}); "
            f"giving up. The end of {self.spec.log}:{said}"
        )


def _how(code: int) -> str:
    """Whoever told it to end, as a rolling upgrade does, told it to end well."""
    return "as it was told" if code == 0 else f"unasked ({describe_exit(code)})"


def describe_exit(code: int) -> str:
    """An exit code for people: a signal by its name."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
