"""Runs HAProxy workers: check, start, replace, adopt, stop, and notice an exit nobody asked for. asyncio.

The agent is the master; HAProxy's own master mode is not used. A worker is a process of its own session with its own
folder of rendered files and its own spool file as descriptor 3, to which it appends one line per decision. Peppers
reach it through a file in memory, so they stand neither on disk nor in an environment or argument list.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from foregate.engines.haproxy.control import Control, ControlError, TokenMap, open_control
from foregate.engines.haproxy.maps import overlay_text
from foregate.engines.haproxy.spawn import Command, ended, has_ended, has_started, reap, spawn, started_at

_CONFIG = "haproxy.cfg"
_ASKED_EVERY_SECONDS = 0.02


class ConfigurationRefused(Exception):
    """`haproxy -c` refused the files. `output` is what it said; `folder` holds the files."""

    def __init__(self, output: str, folder: Path) -> None:
        super().__init__(output.partition("\n")[0])
        self.output = output
        self.folder = folder


class WorkerFailed(Exception):
    """A worker did not start, or was not ready in time. The one it was to replace goes on. `output` says why."""

    def __init__(self, what: str, output: str) -> None:
        super().__init__(what)
        self.output = output


@dataclass(frozen=True, slots=True)
class Launch:
    """A worker to be started. `name`: letters, digits, `.`, `_`, `-`, new each time; `files`: `render`'s, by name.

    `folder`: made for this worker's files. `maps`: the folder of the token maps. `socket`: its runtime socket, at most
    100 characters. `spool`: its spool file, made if absent. `log`: where its own words go. `generation`: proc.gen.
    """

    name: str
    files: Mapping[str, str] = field(repr=False)
    folder: Path
    maps: Path
    socket: Path
    spool: Path
    log: Path
    peppers: Mapping[int, bytes] = field(repr=False)
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker is found again by after the agent has restarted. `started`: the kernel's start time, so that
    another process with the same number is not taken for it. Keep it on disk; `adopt` takes it."""

    name: str
    pid: int
    started: int
    socket: str
    spool: str
    folder: str


class Running:
    """A worker's process, a child or adopted, of which no more is known than that it runs: one that drains since before
    this agent was started takes no session any more. `exited` is done when it has ended, asked or not."""

    def __init__(self, identity: Identity) -> None:
        """Use `Workers.adopt`."""
        self.identity = identity
        self.is_asked_to_stop = False
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._descriptor = os.pidfd_open(identity.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._notice_exit)

    def send(self, number: signal.Signals) -> None:
        """Signal the process; nothing where it has ended."""
        if self._descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def drain(self, deadline_seconds: float) -> None:
        """Let it finish what is open; at the deadline, end it. Safe to repeat."""
        await asyncio.wait([self.exited], timeout=deadline_seconds)
        if not self.exited.done():
            await self.kill()

    async def kill(self) -> None:
        """End it now: SIGTERM, and SIGKILL after a second."""
        self.is_asked_to_stop = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.send(number)
            await asyncio.wait([self.exited], timeout=1)
            if self.exited.done():
                return

    def detach(self) -> None:
        """Let go of it without ending it: the agent goes, HAProxy stays."""
        self._forget()

    def _notice_exit(self) -> None:
        status: int | None = None
        # An adopted worker is no child of ours; init reaps it and keeps its status to itself.
        with contextlib.suppress(ChildProcessError):
            status = reap(self.identity.pid)
        self._forget()
        if not self.exited.done():
            self.exited.set_result(status)

    def _forget(self) -> None:
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class Worker(Running):
    """One that can be told things. `hands_over`: it was told to send on, unjudged, what it is still asked."""

    def __init__(self, identity: Identity, control: Control) -> None:
        """Use `Workers.start` or `Workers.adopt`."""
        super().__init__(identity)
        self.control = control
        self.hands_over = False

    async def hand_over(self, generation: int) -> None:
        """See `Control.hand_over`."""
        await self.control.hand_over(generation)
        self.hands_over = True

    async def drain(self, deadline_seconds: float) -> None:
        """Have it take no more connections; else see `Running.drain`."""
        if not self.is_asked_to_stop:
            self.is_asked_to_stop = True
            self.send(signal.SIGUSR1)
        try:
            async with asyncio.timeout(deadline_seconds):
                while not self.exited.done():
                    with contextlib.suppress(ControlError):
                        if await self.control.is_drained():
                            await self.control.close()
                    await asyncio.wait([self.exited], timeout=0.1)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """See `Running.kill`."""
        await self.control.close()
        await super().kill()


class Workers:
    """Starts and adopts workers with one HAProxy binary."""

    def __init__(self, binary: Path, *, start_seconds: float = 30.0) -> None:
        """`start_seconds`: how long a worker may take until it answers; a million tokens take about three."""
        self._binary = binary
        self._start_seconds = start_seconds

    async def start(self, launch: Launch, replaces: Worker | None = None) -> Worker:
        """Write the files, check them, start the worker; with `replaces`, take over its listeners and have it drain.

        ConfigurationRefused and WorkerFailed leave `replaces` as it was. After success the caller keeps telling
        `replaces` about revocations while it drains, and calls its `drain`.
        """
        self._write(launch)
        try:
            await self._check(launch)
            return await self._start(launch, replaces)
        except BaseException:
            failed = launch.folder.with_name("failed")
            shutil.rmtree(failed, ignore_errors=True)
            launch.folder.rename(failed)
            raise

    async def check(self, launch: Launch) -> None:
        """Have HAProxy read the files and leave nothing behind. Raises ConfigurationRefused."""
        try:
            self._write(launch)
            await self._check(launch)
        finally:
            shutil.rmtree(launch.folder, ignore_errors=True)

    async def adopt(self, identity: Identity) -> Running | None:
        """What an earlier agent left running: a Worker if it takes a session, else (it drains) Running; None where it
        is gone. Process 0: whoever answers on its socket, for an agent that ended before it knew the number. A worker
        that was still starting is ended: it waits for what only its agent could give it."""
        if identity.pid and started_at(identity.pid) != identity.started:
            return None
        try:
            if identity.pid == 0 and not has_started(Path(identity.folder), identity.socket):
                return None
            control = await open_control(Path(identity.socket))
            pid = int((await control.info()).get("Pid", "0"))
            if identity.pid not in (0, pid):
                return None
            return Worker(replace(identity, pid=pid, started=started_at(pid) or 0), control)
        except ProcessLookupError:
            return None
        except ControlError:
            with contextlib.suppress(ProcessLookupError):
                return Running(identity) if identity.pid else None
            return None

    def _write(self, launch: Launch) -> None:
        launch.folder.mkdir(parents=True, mode=0o700)
        for name, text in launch.files.items():
            path = launch.folder / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        empty = launch.folder / "empty"
        empty.mkdir(mode=0o700)
        for name in TokenMap:
            (empty / name).write_text(overlay_text(()) if name is TokenMap.OVERLAY else "")

    async def _check(self, launch: Launch) -> None:
        """`haproxy -c` with empty token maps: theirs is no configuration, and a million entries take seconds."""
        output = launch.folder / "check.txt"
        command = self._command(launch, ["-c"])
        pid = spawn(replace(command, maps=launch.folder / "empty", spool=Path(os.devnull), log=output))
        if await ended(pid) != 0:
            raise ConfigurationRefused(_alerts(output.read_text(errors="replace")), launch.folder)

    async def _start(self, launch: Launch, replaces: Worker | None) -> Worker:
        launch.socket.unlink(missing_ok=True)
        extra = ["-x", replaces.identity.socket, "-sf", str(replaces.identity.pid)] if replaces else []
        said_before = launch.log.stat().st_size if launch.log.exists() else 0
        pid = spawn(self._command(launch, ["-db", *extra]))
        try:
            control = await self._wait_ready(pid, launch.socket)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                reap(pid)
            if isinstance(error, WorkerFailed):
                error.output = _alerts(launch.log.read_bytes()[said_before:].decode(errors="replace"))
            raise
        if replaces is not None:
            replaces.is_asked_to_stop = True
        paths = (str(launch.socket), str(launch.spool), str(launch.folder))
        return Worker(Identity(launch.name, pid, started_at(pid) or 0, *paths), control)

    def _command(self, launch: Launch, arguments: list[str]) -> Command:
        config = launch.folder / _CONFIG
        paths = (launch.maps, launch.spool, launch.log)
        return Command(self._binary, arguments, config, *paths, launch.peppers, launch.generation)

    async def _wait_ready(self, pid: int, socket: Path) -> Control:
        """A session with the worker `pid`, once it has taken over the sockets and runs."""
        try:
            async with asyncio.timeout(self._start_seconds):
                while True:
                    if has_ended(pid):
                        raise WorkerFailed("the worker ended while starting", "")
                    with contextlib.suppress(ControlError):
                        control = await open_control(socket)
                        if (await control.info()).get("Pid") == str(pid):
                            return control
                        await control.close()
                    await asyncio.sleep(_ASKED_EVERY_SECONDS)
        except TimeoutError:
            raise WorkerFailed(f"the worker was not ready within {self._start_seconds:g} s", "") from None


def _alerts(output: str) -> str:
    """What HAProxy says is wrong, without its notices."""
    lines = [line for line in output.splitlines() if not line.startswith("[NOTICE]")]
    return "\n".join(lines)[:4000]
