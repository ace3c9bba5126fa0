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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson
import structlog

from foregate.core.masterkey import write_private
from foregate.edge.paths import EdgePaths
from foregate.edge.spool import open_for_worker, spool_path
from foregate.engines.haproxy.control import Control, ControlError
from foregate.engines.haproxy.process import Identity, Launch, Worker, Workers

log = structlog.get_logger(__name__)

# HAProxy ends a drained worker's last connections after ten minutes by itself (`hard-stop-after`); this is for one
# that does not.
_DRAIN_SECONDS = 660.0
# A connection between two requests is closed once none was answered on any for so many looks.
_QUIET_LOOKS, _LOOK_SECONDS = 3, 0.05
# So long a drained worker may judge by what is no longer in force, if it hangs; it is told in milliseconds.
_HAND_OVER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Memory:
    """How old what a worker remembers can be: not from before base map number `fold`, nor signed by other keys than
    those that `keys` stands for."""

    fold: int = 0
    keys: str = ""


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
        self._draining: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._untold: Worker | None = None
        self.current: Worker | None = None
        self.memory = Memory()  # of the worker that serves

    def controls(self) -> list[Control]:
        """Sessions with all workers, the one that serves first."""
        everyone = [*([self.current] if self.current else []), *self._draining.values()]
        return [worker.control for worker in everyone if not worker.exited.done()]

    def control_of(self, process: int) -> Control | None:
        """The session with the worker that is this process; None where it is none of ours."""
        everyone = [*([self.current] if self.current else []), *self._draining.values()]
        found = (worker for worker in everyone if worker.identity.pid == process and not worker.exited.done())
        return next((worker.control for worker in found), None)

    def is_sound(self, control: Control) -> bool:
        """Whether this is the session with the worker that serves, and it could always be told of changes."""
        return self.current is not None and self.current.control is control and self.current is not self._untold

    def next_generation(self) -> int:
        """Higher than any before, those of earlier agents included: milliseconds since 1970, or one more."""
        self._generation = max(self._generation + 1, time.time_ns() // 1_000_000)
        return self._generation

    async def adopt(self) -> bool:
        """Take over what an earlier agent left running. Whether a worker serves now."""
        for identity, memory in _read_roster(self._paths.roster):
            worker = await self._workers.adopt(identity)
            if worker is None:
                continue
            if (await worker.control.info()).get("Stopping") == "1":
                self._let_drain(worker)
            else:
                if self.current is not None:
                    self._let_drain(self.current)
                self._serve(worker, memory)
        await self._hand_over()
        self._write_roster()
        return self.current is not None

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
        self._write_roster(Identity(name, 0, 0, str(launch.socket), str(launch.spool), str(launch.folder)))
        spool = open_for_worker(self._paths.spool, name)
        try:
            await outfit.write_maps(launch.maps)
            old = self.current if self.current and not self.current.exited.done() else None
            worker = await self._workers.start(launch, replaces=old)
        except BaseException:
            shutil.rmtree(launch.maps, ignore_errors=True)
            self._write_roster()
            raise
        finally:
            os.close(spool)
        if old is not None:
            self._let_drain(old, 0 if old is self._untold else _DRAIN_SECONDS)
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
        for worker in list(self._draining.values()):
            if worker.control is control and not worker.exited.done():
                log.info("draining_worker_ended", worker=worker.identity.name, reason=reason)
                await worker.kill()
        if self.current is not None and self.current.control is control and self._untold is not self.current:
            # A new worker takes over its listeners first, so that nobody is turned away.
            log.error("worker_cannot_be_told", worker=self.current.identity.name, reason=reason)
            self._untold = self.current
            self._on_exit(self.current)

    async def stop(self, deadline_seconds: float) -> None:
        """Drain and end every worker; there is none to take over connections, so idle ones are closed."""
        everyone = [*([self.current] if self.current else []), *self._draining.values()]
        self.current = None
        await asyncio.gather(*(_drain_and_close(worker, deadline_seconds) for worker in everyone))
        for worker in everyone:
            self._clean_up(worker)
        self._draining.clear()
        self._paths.serving_socket.unlink(missing_ok=True)
        self._paths.serving_tls_socket.unlink(missing_ok=True)
        self._paths.roster.unlink(missing_ok=True)

    def detach(self) -> None:
        """Let go of every worker without ending it."""
        for task in self._tasks:
            task.cancel()
        for worker in [*([self.current] if self.current else []), *self._draining.values()]:
            worker.detach()

    def _launch(self, name: str, outfit: Outfit) -> Launch:
        return Launch(
            name=name,
            files=outfit.files,
            folder=self._paths.workers / name,
            maps=self._paths.maps / name,
            socket=self._paths.worker_socket(name),
            spool=spool_path(self._paths.spool, name),
            log=self._paths.logs / "haproxy.log",
            peppers=outfit.peppers,
            generation=self.next_generation(),
        )

    def _serve(self, worker: Worker, memory: Memory) -> None:
        self.current, self.memory = worker, memory
        worker.exited.add_done_callback(lambda _: self._exited(worker))

    def _exited(self, worker: Worker) -> None:
        self._clean_up(worker)
        if self.current is worker and not worker.is_asked_to_stop:
            self._on_exit(worker)

    def _let_drain(self, worker: Worker, seconds: float = _DRAIN_SECONDS) -> None:
        self._draining[worker.identity.name] = worker
        task = asyncio.create_task(self._drain(worker, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self) -> None:
        """What is asked on connections of workers that drain goes to the one that serves. One that does not obey is
        ended, connections and all: it knows rules that no longer hold."""
        if self.current is not None:
            await asyncio.gather(*(self._retire(worker) for worker in list(self._draining.values())))

    async def _retire(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(_HAND_OVER_SECONDS):
                await worker.control.hand_over(self.next_generation())
        except (ControlError, TimeoutError) as error:
            if not worker.exited.done():
                log.info("draining_worker_ended", worker=worker.identity.name, reason=str(error))
                await worker.kill()

    async def _drain(self, worker: Worker, seconds: float) -> None:
        await worker.drain(seconds)
        self._draining.pop(worker.identity.name, None)
        self._clean_up(worker)
        self._write_roster()

    def _clean_up(self, worker: Worker) -> None:
        Path(worker.identity.socket).unlink(missing_ok=True)
        shutil.rmtree(worker.identity.folder, ignore_errors=True)

    def _write_roster(self, starting: Identity | None = None) -> None:
        everyone = [*self._draining.values(), *([self.current] if self.current else [])]
        identities = [worker.identity for worker in everyone] + ([starting] if starting else [])
        serving = self.current.identity if self.current else None
        entries = [{**asdict(one), "memory": asdict(self.memory) if one is serving else None} for one in identities]
        try:
            write_private(self._paths.roster, orjson.dumps(entries))
        except OSError as error:  # the workers are there all the same
            log.error("roster_not_written", reason=str(error))


async def _drain_and_close(worker: Worker, deadline_seconds: float) -> None:
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


def _read_roster(path: Path) -> list[tuple[Identity, Memory]]:
    try:
        entries = [(found.pop("memory", None) or {}, found) for found in orjson.loads(path.read_bytes())]
        return [(Identity(**found), Memory(**memory)) for memory, found in entries]
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return []
