"""The HAProxy workers of an edge: the one that serves, and those that still finish what they began. asyncio.

Who runs is on disk before a worker starts, so the next agent finds it, whenever this one is killed. Knows nothing of
records: a worker gets rendered files and a folder of maps.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from foregate.edge import roster
from foregate.edge.paths import EdgePaths
from foregate.edge.roster import Memory
from foregate.edge.spool import open_for_worker, spool_path
from foregate.engines.haproxy.control import Control, ControlError
from foregate.engines.haproxy.process import Identity, Launch, Running, Worker, Workers
from foregate.engines.haproxy.spawn import find_spawned, started_at

log = structlog.get_logger(__name__)

# HAProxy ends a drained worker's last connections after ten minutes by itself (`hard-stop-after`); this is for one
# that does not.
_DRAIN_SECONDS = 660.0
# A connection between two requests is closed once none was answered on any for so many looks.
_QUIET_LOOKS, _LOOK_SECONDS = 3, 0.05
# So long a drained worker may judge by what is no longer in force, if it hangs; it is told in milliseconds.
_HAND_OVER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outfit:
    """What a new worker is made from. `files` by name; `write_maps` makes its folder of maps."""

    files: Mapping[str, str] = field(repr=False)
    write_maps: Callable[[Path], Awaitable[None]]
    memory: Memory
    peppers: Mapping[int, bytes] = field(repr=False)


class Fleet:
    """Starts, replaces, adopts and ends workers. One call of `start` at a time."""

    def __init__(self, workers: Workers, paths: EdgePaths, on_exit: Callable[[Worker], None]) -> None:
        """`on_exit` is called when the worker that serves ends unasked, or can no longer be told of changes."""
        self._workers = workers
        self._paths = paths
        self._on_exit = on_exit
        self._draining: dict[str, Running] = {}
        self._starting: Identity | None = None
        self._is_adopting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._untold: Worker | None = None
        self.current: Worker | None = None
        self.memory = Memory()  # of the worker that serves

    def controls(self) -> list[Control]:
        """Sessions with all workers that judge requests, the one that serves first."""
        return [worker.control for worker in self._workers_alive() if not worker.hands_over]

    def control_of(self, process: int) -> Control | None:
        """The session with the worker that is this process; None where it is none of ours."""
        found = (worker for worker in self._workers_alive() if worker.identity.pid == process)
        return next((worker.control for worker in found), None)

    def processes(self) -> set[int]:
        """All workers, those included that drain and take no session any more."""
        return {one.identity.pid for one in self._everyone() if not one.exited.done()}

    def is_sound(self, control: Control) -> bool:
        """Whether this is the session with the worker that serves, and it could always be told of changes."""
        return self.current is not None and self.current.control is control and self.current is not self._untold

    def next_generation(self) -> int:
        """Higher than any before, those of earlier agents included: milliseconds since 1970, or one more."""
        self._generation = max(self._generation + 1, time.time_ns() // 1_000_000)
        return self._generation

    async def adopt(self) -> bool:
        """Take over what an earlier agent left running, on its roster or not. Whether a worker serves now."""
        entries = roster.read(self._paths.roster)
        self._is_adopting = True
        for entry in entries:
            await self._take_over(entry)
        listed = {entry.identity.name for entry in entries}
        for pid, name in find_spawned(self._paths.workers):
            if pid not in self.processes():
                if name not in listed:
                    log.error("worker_not_on_roster", worker=name, pid=pid)
                await self._take_over(roster.Entry(self._identity(name, pid)))
        await self._hand_over()
        self._is_adopting = False
        self._write_roster()
        return self.current is not None

    async def _take_over(self, entry: roster.Entry) -> None:
        found = await self._workers.adopt(entry.identity)
        if found is None:
            self._clean_up(entry.identity)
        elif not isinstance(found, Worker):
            self._let_drain(found)
            if not entry.hands_over:
                # It judges by what it was told last, and nobody can tell it any better.
                log.error("draining_worker_ended", worker=found.identity.name, reason="it takes no session")
                await found.kill()
        elif await _is_stopping(found):
            self._let_drain(found)
        else:
            if self.current is not None:
                self._let_drain(self.current)
            self._serve(found, entry.memory)

    def folded(self, fold: int) -> None:
        """The worker that serves now has base map number `fold`, and remembers nothing from before."""
        self.memory = replace(self.memory, fold=fold)
        self._write_roster()

    async def start(self, name: str, outfit: Outfit) -> None:
        """Start a worker called `name` (`new_name`) in place of the one that serves. When this returns, nobody is
        judged by an older one any more.

        ConfigurationRefused and WorkerFailed leave the old one serving.
        """
        launch = self._launch(name, outfit)
        self._starting = self._identity(name, 0)
        self._write_roster()
        spool = open_for_worker(self._paths.spool, name)
        try:
            await outfit.write_maps(launch.maps)
            old = self.current if self.current and not self.current.exited.done() else None
            worker = await self._workers.start(launch, replaces=old)
        except BaseException:
            shutil.rmtree(launch.maps, ignore_errors=True)
            self._starting = None
            self._write_roster()
            raise
        finally:
            os.close(spool)
        self._starting = None
        if old is not None:
            self._let_drain(old)
        self._serve(worker, outfit.memory)
        await self._hand_over()
        self._write_roster()
        # HAProxy has read them: a million entries need not lie on the disk twice.
        shutil.rmtree(launch.maps, ignore_errors=True)
        log.info("worker_serves", worker=name, pid=worker.identity.pid)

    async def check(self, name: str, outfit: Outfit) -> None:
        """Have HAProxy read the files. Raises ConfigurationRefused."""
        await self._workers.check(self._launch(name, outfit))

    async def give_up(self, control: Control, reason: str) -> None:
        """The worker behind `control` can no longer be told of changes: it must not go on with what it knows."""
        for worker in self._workers_alive():
            if worker.control is control and worker is not self.current:
                log.info("draining_worker_ended", worker=worker.identity.name, reason=reason)
                await worker.kill()
        if self.current is not None and self.current.control is control and self._untold is not self.current:
            # A new worker takes over its listeners first, so that nobody is turned away.
            log.error("worker_cannot_be_told", worker=self.current.identity.name, reason=reason)
            self._untold = self.current
            self._on_exit(self.current)

    async def stop(self, deadline_seconds: float) -> None:
        """Drain and end every worker; there is none to take over connections, so idle ones are closed."""
        everyone = self._everyone()
        self.current = None
        await asyncio.gather(*(_drain_and_close(one, deadline_seconds) for one in everyone))
        for one in everyone:
            self._clean_up(one.identity)
        self._draining.clear()
        self._paths.serving_socket.unlink(missing_ok=True)
        self._paths.serving_tls_socket.unlink(missing_ok=True)
        self._paths.roster.unlink(missing_ok=True)

    def detach(self) -> None:
        """Let go of every worker without ending it."""
        for task in self._tasks:
            task.cancel()
        for one in self._everyone():
            one.detach()

    def _launch(self, name: str, outfit: Outfit) -> Launch:
        return Launch(
            name=name,
            files=outfit.files,
            folder=self._paths.workers / name,
            maps=self._paths.maps / name,
            socket=self._paths.worker_socket(name),
            spool=spool_path(self._paths.spool, name),
            log=self._paths.worker_log,
            peppers=outfit.peppers,
            generation=self.next_generation(),
        )

    def _serve(self, worker: Worker, memory: Memory) -> None:
        self.current, self.memory = worker, memory
        worker.exited.add_done_callback(lambda _: self._exited(worker))

    def _exited(self, worker: Worker) -> None:
        self._clean_up(worker.identity)
        if self.current is worker and not worker.is_asked_to_stop:
            self._on_exit(worker)

    def _let_drain(self, one: Running) -> None:
        self._draining[one.identity.name] = one
        task = asyncio.create_task(self._drain(one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self) -> None:
        """What is asked on connections of workers that drain goes to the one that serves. One that does not obey is
        ended, connections and all: it knows rules that no longer hold."""
        if self.current is not None:
            others = [worker for worker in self._workers_alive() if worker is not self.current]
            await asyncio.gather(*(self._retire(worker) for worker in others))

    async def _retire(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(_HAND_OVER_SECONDS):
                await worker.hand_over(self.next_generation())
        except (ControlError, TimeoutError) as error:
            if not worker.exited.done():
                log.info("draining_worker_ended", worker=worker.identity.name, reason=str(error))
                await worker.kill()

    async def _drain(self, one: Running) -> None:
        await one.drain(_DRAIN_SECONDS)
        self._draining.pop(one.identity.name, None)
        self._clean_up(one.identity)
        self._write_roster()

    def _everyone(self) -> list[Running]:
        return [*([self.current] if self.current else []), *self._draining.values()]

    def _workers_alive(self) -> list[Worker]:
        return [one for one in self._everyone() if isinstance(one, Worker) and not one.exited.done()]

    def _identity(self, name: str, pid: int) -> Identity:
        paths = (self._paths.worker_socket(name), spool_path(self._paths.spool, name), self._paths.workers / name)
        return Identity(name, pid, started_at(pid) or 0, *map(str, paths))

    def _clean_up(self, identity: Identity) -> None:
        Path(identity.socket).unlink(missing_ok=True)
        shutil.rmtree(identity.folder, ignore_errors=True)
        shutil.rmtree(self._paths.maps / identity.name, ignore_errors=True)

    def _write_roster(self) -> None:
        if self._is_adopting:  # half of them are not known yet
            return
        entries = [
            roster.Entry(one.identity, hands_over=not isinstance(one, Worker) or one.hands_over)
            for one in self._draining.values()
        ]
        if self.current is not None:
            entries.append(roster.Entry(self.current.identity, self.memory))
        if self._starting is not None:
            entries.append(roster.Entry(self._starting))
        try:
            roster.write(self._paths.roster, entries)
        except OSError as error:  # the workers are there all the same
            log.error("roster_not_written", reason=str(error))


async def _is_stopping(worker: Worker) -> bool:
    try:
        return (await worker.control.info()).get("Stopping") == "1"
    except ControlError:  # it ends just now
        return True


async def _drain_and_close(worker: Running, deadline_seconds: float) -> None:
    if not isinstance(worker, Worker):  # nobody can say whether anything is open on its connections
        await worker.kill()
        return
    draining = asyncio.create_task(worker.drain(deadline_seconds))
    quiet = 0
    while not draining.done() and quiet < _QUIET_LOOKS:
        await asyncio.wait([draining], timeout=_LOOK_SECONDS)
        try:
            quiet = quiet + 1 if await worker.control.requests() == 0 else 0
        except ControlError:
            break
    if not draining.done() and quiet:
        await worker.kill()
    await draining


def new_name(now_seconds: float) -> str:
    """A worker's name: the time it starts, so that names sort, and a random rest, so that they never repeat."""
    return f"w{int(now_seconds):010d}-{secrets.token_hex(4)}"
