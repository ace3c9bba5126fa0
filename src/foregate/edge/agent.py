"""The edge's agent: one process that keeps HAProxy in step with the control plane, and serves without it.

On start it serves from its own disk at once, taking over what an earlier agent left running; then it follows the feed.
Told to stop it drains HAProxy; told to hand over (SIGUSR1) it goes and leaves HAProxy running, and so it does when it
fails: who starts the next agent loses no request. Expelled by the control plane, it stops serving. One event loop;
everything is given to it by `services/edge.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from foregate.core import logfile
from foregate.edge.assertions import Assertions, InForce
from foregate.edge.certificates import Certificates
from foregate.edge.compiler import Compiler
from foregate.edge.config_records import ConfigRecords
from foregate.edge.engine import Engine
from foregate.edge.feed_client import Expelled
from foregate.edge.fleet import Fleet
from foregate.edge.following import Following, StateThread
from foregate.edge.hot_entries import HotEntries
from foregate.edge.identity import EdgeIdentity
from foregate.edge.link import Link
from foregate.edge.paths import EdgePaths
from foregate.edge.reporting import Reporter
from foregate.edge.shipping import Shipper
from foregate.edge.state import State, StateDamaged
from foregate.edge.token_maps import TokenMaps
from foregate.engines.haproxy.process import Worker, Workers

log = structlog.get_logger(__name__)

_STATUS_SECONDS = 2.0
_LOOK_SECONDS = 5.0
_RENEW_SECONDS = 12 * 3_600.0
# Within the 20 s that the supervisor gives us: open requests first, then the last events.
_DRAIN_SECONDS = 10.0
_FLUSH_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`link` gives the way to the control plane, which may keep something in the state. `worker_owner`: user and group
    id of the workers where they are not ours."""

    identity: EdgeIdentity
    link: Callable[[StateThread], Link]
    spool_max_bytes: int
    worker_owner: tuple[int, int] | None = None


class Agent:
    """`run(stop)` until told."""

    def __init__(self, settings: AgentSettings, paths: EdgePaths, workers: Workers, compiler: Compiler) -> None:
        self._settings = settings
        self._paths = paths
        self._state = StateThread(open_state(paths))
        self._link = settings.link(self._state)
        self._fleet = Fleet(workers, paths, self._worker_ended)
        self._maps = TokenMaps(self._fleet)
        self._hot = HotEntries(self._fleet, self._maps)
        self._assertions = Assertions(self._maps, self._hot, self._token_entry, self._is_worker)
        self._reporter = Reporter(self._link.send_report, self._compose_report)
        self._engine = Engine(
            paths=paths,
            fleet=self._fleet,
            maps=self._maps,
            compiler=compiler,
            certificates=Certificates(paths.authority, paths.certificates, paths.own_certificates),
            hot=self._hot,
            in_state=self._state.run,
            cursor=self._cursor,
            on_build=self._worker_serves,
        )
        self._following = Following(
            paths=paths,
            identity=settings.identity,
            state=self._state,
            fetch_secrets=self._link.fetch_secrets,
            engine=self._engine,
            maps=self._maps,
            token_entry=compiler.token_entry,
            on_change=self._reporter.wake,
        )
        self._upkeep = self._link.upkeep()
        self._feed = self._link.feed(self._following)
        self._shipper = Shipper(paths.spool, self._link.post_events, max_bytes=settings.spool_max_bytes)
        self._started_at = time.time()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set (drain) or SIGUSR1 comes (hand over). What fails is raised, and HAProxy left."""
        hand_over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, hand_over.set)
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._begin()
            tasks += [asyncio.create_task(work) for work in (*self._works(), stop.wait(), hand_over.wait())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what a task failed of
            if stop.is_set():
                await self._end(tasks)
        except Expelled:
            log.error("edge_expelled", haproxy="ended")
            await self._end(tasks)
            raise
        except StateDamaged as error:
            put_aside(self._paths, error)
            raise
        finally:
            # A worker that is being started must not be left half-way: nobody would listen.
            await self._engine.settle(_DRAIN_SECONDS)
            await _cancel(tasks)
            await self._close()
            loop.remove_signal_handler(signal.SIGUSR1)
            log.info("agent_ends", haproxy="goes on" if self._fleet.processes() else "ended")

    def _works(self) -> list[Coroutine[Any, Any, object]]:
        return [
            self._engine.run(),
            self._feed.run(),
            self._hot.run(),
            self._shipper.run(),
            self._reporter.run(),
            *([] if self._upkeep is None else [self._upkeep.run()]),
            _every(_STATUS_SECONDS, self._write_status),
            _every(_RENEW_SECONDS, self._engine.renew_certificates, at_once=False),
            _every(_LOOK_SECONDS, self._look_after),
        ]

    async def _begin(self) -> None:
        """Take over what runs, and have what is on the disk served."""
        await self._assertions.start(self._paths.agent_socket, self._settings.worker_owner)
        is_adopted = await self._fleet.adopt()
        await self._following.start()
        if is_adopted and self._engine.secrets is not None:
            log.info("worker_adopted")
            self._worker_serves(await self._engine.accepted_records())

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Drain: requests first, then their events, then the last report."""
        await _cancel(tasks[:2])  # engine and feed
        await self._fleet.stop(_DRAIN_SECONDS)
        await _cancel(tasks)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._shipper.flush()
                await self._reporter.report()
        self._paths.status.unlink(missing_ok=True)
        self._paths.agent_socket.unlink(missing_ok=True)

    async def _close(self) -> None:
        await self._link.close()
        self._fleet.detach()
        self._assertions.close()
        self._shipper.close()
        self._state.close()

    def _is_worker(self, process: int) -> bool:
        """Whether a process is one of the workers, or a child that is just becoming one."""
        return process in self._fleet.processes() or parent_of(process) == os.getpid()

    def _cursor(self) -> int:
        return self._following.cursor()

    def _worker_ended(self, worker: Worker) -> None:
        log.error("worker_ended_unasked", worker=worker.identity.name, pid=worker.identity.pid)
        self._engine.want_worker("the worker ended, or could not be told of changes")

    def _worker_serves(self, records: ConfigRecords) -> None:
        secrets = self._engine.secrets
        if secrets is not None:
            self._assertions.put_in_force(InForce(records, secrets))
        self._reporter.wake()

    async def _token_entry(self, client_id: str) -> str | None:
        return await self._state.run(State.token_entry, client_id)

    async def _look_after(self) -> None:
        """What nobody asks for, but time: folds in quiet moments, a new worker where a spool file is outgrown, and a
        bound for what HAProxy says of requests, as callers decide how much that is."""
        current = self._fleet.current
        if current is not None and self._shipper.status.outgrown == current.identity.name:
            self._engine.want_worker("its spool file is outgrown")
        self._engine.wake()
        await asyncio.to_thread(logfile.bound, self._paths.worker_log)

    async def _compose_report(self) -> dict[str, Any]:
        applied_seq = self._engine.in_force(self._following.cursor())
        # Read after that, so that a change that was refused is never reported as applied without a word.
        notes = await self._state.run(State.notes)
        return {
            "applied_seq": applied_seq,
            "refused": [asdict(note) for note in notes.refused],
            "held": [asdict(note) for note in notes.held],
            "at": time.time(),
            "worker": self._fleet.current.identity.name if self._fleet.current else "",
            "tokens": notes.tokens,
            "spool": asdict(self._shipper.status),
            "problems": self._problems(),
        }

    def _problems(self) -> list[str]:
        feed = self._feed.status.reason
        link = "" if self._upkeep is None else self._upkeep.problem()
        return [
            text for text in (self._engine.error, self._following.problem, link, feed, *self._engine.problems) if text
        ]

    async def _write_status(self) -> None:
        """What `foregate status` shows; for people and for whoever looks after the machine."""
        current = self._fleet.current
        body = {
            **await self._compose_report(),
            "agent_pid": os.getpid(),
            "worker_pid": current.identity.pid if current else None,
            "workers": len(self._fleet.processes()),
            "since": self._started_at,
            "feed": asdict(self._feed.status),
            "report_error": self._reporter.error,
        }
        with suppress(OSError):  # a full disk is told of in the report
            await asyncio.to_thread(_write_beside, self._paths.status, orjson.dumps(body))


def parent_of(process: int) -> int:
    """The parent of a process (proc(5)); 0 where it is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def open_state(paths: EdgePaths) -> State:
    """The state on disk. A damaged one is put aside, and the feed will bring everything again."""
    try:
        return State(paths.state)
    except StateDamaged as error:
        put_aside(paths, error)
        return State(paths.state)


def put_aside(paths: EdgePaths, error: StateDamaged) -> None:
    """Keep a damaged state for whoever wants to know, out of the way."""
    log.error("state_damaged", reason=str(error))
    for suffix in ("", "-wal", "-shm"):
        path = paths.state.with_name(paths.state.name + suffix)
        if path.exists():
            path.replace(path.with_name(f"damaged-{path.name}"))


async def _every(seconds: float, work: Callable[[], Awaitable[None]], *, at_once: bool = True) -> None:
    if at_once:
        await work()
    while True:
        await asyncio.sleep(seconds)
        await work()


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _write_beside(path: Path, content: bytes) -> None:
    """Whole or not at all for whoever reads it; not synced, as nobody needs it after a power cut."""
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(beside, path)
