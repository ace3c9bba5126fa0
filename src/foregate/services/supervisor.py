"""`foregate up`: starts API, worker, echo and edge, says when a guarded request goes through, keeps all alive, and
ends them in order. It opens no database, and holds a secret no longer than a call to the API takes.

Start: take over what an earlier supervisor left; all children at once; the demo once the API answers; ready once the
demo's request was answered by its origin. End: the edge first (it drains and ships its last events), then the echo
service, the worker, the API.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from foregate.core.errors import ErrorCode, ForegateError
from foregate.services.board import Board
from foregate.services.children import Child, ChildSpec, GaveUp
from foregate.services.curl import curl_lines
from foregate.services.engines import clear_sockets, end_workers, find_workers
from foregate.services.holder import Held, find_holder, hold
from foregate.services.home import Home, open_home
from foregate.services.instances import KINDS, Counts, Instance, instances
from foregate.services.listening import listen
from foregate.services.local_edges import LocalEdge, found_edges, local_edges, with_feed_port
from foregate.services.process import find_locks, held_message, lock_path
from foregate.services.program import program_for
from foregate.services.readiness import Readiness
from foregate.services.settings import PREFIX, Settings, addresses, to_environment
from foregate.services.status import ProcessStatus, status_path, write_status
from foregate.services.takeover import require_ports, take_over
from foregate.services.wholeness import require_whole

# Until ready, and while a child that died is coming back; more slowly once it takes long.
_PROBED_EVERY_SECONDS = 0.05
_PROBED_SLOWLY_EVERY_SECONDS = 1.0
# A start should take five seconds; after twice that a person wants to know what it is waiting for.
_PATIENCE_SECONDS = 10.0
# How long each kind may take to end, in the order of the end. In the edge's is HAProxy's drain of long requests, in the
# API's and the worker's a call of ten seconds that Kafka does not answer.
_DRAIN_SECONDS = {"edge": 20, "echo": 6, "worker": 15, "api": 15}
_OUTLIVING = frozenset({"edge", "echo"})
_HINT = 'For SDKs, Terraform and the CLI: eval "$({program} env)". Ctrl-C ends all.'


async def run(settings: Settings, board: Board, counts: Counts) -> bool:
    """Run everything until SIGINT, SIGTERM or SIGHUP. False where a child was given up or had to be killed at the end.

    Raises ForegateError(UNAVAILABLE) where another supervisor has the home, a port is taken, or a file is damaged.
    """
    home = open_home(settings.home)
    try:
        with hold(lock_path(home, "up"), addresses(settings)):
            return await _Supervisor(settings, home, board, instances(counts)).run()
    except Held as held:
        raise ForegateError(ErrorCode.UNAVAILABLE, held_message("up", home, held.holder)) from None


class _Supervisor:
    """One run of `foregate up`."""

    def __init__(self, settings: Settings, home: Home, board: Board, wanted: Sequence[Instance]) -> None:
        self._settings = with_feed_port(settings, wanted)
        self._home = home
        self._board = board
        self._told = asyncio.Event()
        self._hurried = asyncio.Event()
        self._changed = asyncio.Event()
        self._wanted = wanted
        self._edges = local_edges(self._settings, home, wanted)
        self._children: list[Child] = []
        self._readiness = Readiness(self._settings, home, {}, ())
        self._is_announced = False

    async def run(self) -> bool:
        """From the first signal handler to the last child."""
        self._catch_signals()
        self._started = time.monotonic()
        self._board.say(f"foregate: home {self._home.root}, process {os.getpid()}")
        try:
            # Before the edge of an earlier run is touched: it goes on while a person mends what is damaged.
            await asyncio.to_thread(require_whole, self._settings)
            wanted = {edge.name for edge in self._edges}
            await take_over(self._home, found_edges(self._settings, self._home), wanted, self._board.say)
            require_ports(self._settings, self._edges)
            with _listeners(self._settings) as listeners:
                specs = _specs(self._settings, self._home, self._wanted, self._edges, listeners)
                self._children = [Child(spec, self._changed.set, self._board.warn) for spec in specs]
                children = {child.spec.name: child for child in self._children}
                self._readiness = Readiness(self._settings, self._home, children, self._edges)
                return await self._run_children()
        finally:
            self._board.close()
            _clear_away(self._home, found_edges(self._settings, self._home))

    async def _run_children(self) -> bool:
        keeping = [asyncio.create_task(child.run()) for child in self._children]
        watching = asyncio.create_task(self._watch())
        told = asyncio.create_task(self._told.wait())
        done, _ = await asyncio.wait({told, watching, *keeping}, return_when=asyncio.FIRST_COMPLETED)
        failures = [error for task in done if (error := task.exception()) is not None]
        for failure in failures:
            self._board.warn(f"foregate: {failure}")
        watching.cancel()
        told.cancel()
        self._board.say("foregate: ending; a second Ctrl-C ends at once")
        ended = await self._end()
        await asyncio.gather(watching, told, *keeping, return_exceptions=True)
        for failure in failures:
            if not isinstance(failure, GaveUp):
                raise failure
        self._board.say("foregate: ended")
        return ended and not failures

    async def _watch(self) -> None:
        """Probe while something is not ready; otherwise wait for a child to die. A probe through the edge is a request
        like any other and leaves an event, so none is made without need."""
        waiting_since, told, was_ready = time.monotonic(), "", False
        while True:
            self._changed.clear()
            await self._readiness.probe()
            self._publish()
            if self._readiness.is_ready:
                if not was_ready:
                    self._announce()
                was_ready = True
                await self._changed.wait()
                waiting_since = time.monotonic()
                continue
            was_ready = False
            is_slow = time.monotonic() - waiting_since > _PATIENCE_SECONDS
            if is_slow and self._readiness.problem != told:
                told = self._readiness.problem
                self._board.warn(f"foregate: not ready: {told}")
            await asyncio.sleep(_PROBED_SLOWLY_EVERY_SECONDS if is_slow else _PROBED_EVERY_SECONDS)

    def _announce(self) -> None:
        if self._is_announced:
            self._board.say("foregate: ready again")
            return
        self._is_announced = True
        seconds = time.monotonic() - self._started
        lines = "\n".join(f"  {line}" for line in curl_lines(self._settings, self._home))
        hint = _HINT.format(program=program_for(self._settings))
        # In one piece, for whoever waits for the first line of it.
        self._board.say(f"foregate: ready after {seconds:.1f} s. Try:\n\n{lines}\n\n{hint}")

    def _publish(self) -> None:
        statuses = {
            child.spec.name: ProcessStatus(child.spec.name, child.state.value, child.pid, child.restarts)
            for child in self._children
        }
        ordered = tuple(statuses[instance.name] for instance in self._wanted)
        write_status(self._home, self._readiness.is_ready, self._readiness.problem, ordered)
        self._board.show(ordered)

    async def _end(self) -> bool:
        ended = True
        for child in self._children:
            ending = asyncio.create_task(child.end())
            hurried = asyncio.create_task(self._hurried.wait())
            await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            if not ending.done():
                ending.cancel()
                ended &= await child.hurry()
            else:
                ended &= ending.result()
            self._publish()
        # An agent that was killed, or told to end before it could hear it, leaves its HAProxy.
        for edge in self._edges:
            end_workers(edge.settings, edge.home)
        return ended

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup has it ignored, and that is to stay so.
            if signal.getsignal(number) is not signal.SIG_IGN or number is not signal.SIGHUP:
                loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self._hurried if self._told.is_set() else self._told).set()


@contextmanager
def _listeners(settings: Settings) -> Iterator[Mapping[str, int]]:
    """The API's sockets, by the option that hands them to it. They are ours, and shared by all API processes: when one
    ends, what it has not accepted waits for another."""
    wanted = {"--listener": (settings.api_host, settings.api_port, f"{PREFIX}API_PORT")}
    if settings.feed_bind:
        wanted["--feed-listener"] = (settings.feed_bind, settings.feed_port, f"{PREFIX}FEED_PORT")
    with ExitStack() as stack:
        yield {option: stack.enter_context(listen(*where)).fileno() for option, where in wanted.items()}


def _specs(
    settings: Settings,
    home: Home,
    wanted: Sequence[Instance],
    edges: Sequence[LocalEdge],
    listeners: Mapping[str, int],
) -> list[ChildSpec]:
    """The children in the order of the end. On the first start edge and worker wait for what the API makes: the
    edge's key, and databases of the newest schema."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    of_edges = {edge.name: edge for edge in edges}

    def spec(instance: Instance) -> ChildSpec:
        edge = of_edges.get(instance.name)
        sockets = listeners if instance.kind == "api" else {}
        return ChildSpec(
            name=instance.name,
            command=(instance.kind, *_number(instance), *(f"{option}={fd}" for option, fd in sockets.items())),
            outlives_us=instance.kind in _OUTLIVING,
            drain_seconds=_DRAIN_SECONDS[instance.kind],
            log=home.logs / f"{instance.name}.log",
            environment=inherited | to_environment(edge.settings if edge else settings),
            may_start=partial(_may_start, instance, home, edge),
            descriptors=tuple(sockets.values()),
        )

    # A stable sort: of one kind, the first begins.
    order = list(_DRAIN_SECONDS)
    return [spec(instance) for instance in sorted(wanted, key=lambda instance: order.index(instance.kind))]


def _number(instance: Instance) -> tuple[str, ...]:
    """Which of several in the home it is; a further edge has a home of its own, in which it is the first."""
    return (f"--number={instance.number}",) if instance.number > 1 and instance.kind != "edge" else ()


def _may_start(instance: Instance, home: Home, edge: LocalEdge | None) -> bool:
    """One API process makes what the first start makes; what an edge shows itself with, that makes, or joining does."""
    match instance.kind:
        case "edge":
            return edge is not None and edge.has_identity
        case "api" if instance.number == 1:
            return True
        case "api" | "worker":
            return home.facts.exists() and home.admin_token.exists()
        case _:
            return True


def _clear_away(home: Home, edges: Sequence[LocalEdge]) -> None:
    """Remove the report, and the locks and sockets of children that were killed and could not do it themselves."""
    status_path(home).unlink(missing_ok=True)
    for lock in find_locks(home, *KINDS):
        if find_holder(lock) is None:
            lock.unlink(missing_ok=True)
            home.troubles(lock.stem).unlink(missing_ok=True)
    for edge in edges:
        if find_holder(edge.lock) is None and not find_workers(edge.settings, edge.home):
            edge.lock.unlink(missing_ok=True)
            clear_sockets(edge.settings, edge.home)
