"""Whether what runs is of use: the API answers, the demo is made, and a request with its token reaches its origin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from foregate.core.errors import ForegateError
from foregate.services.children import Child, ChildState
from foregate.services.control_client import ControlClient, Refused, Unreachable
from foregate.services.demo import ensure_demo
from foregate.services.echo import read_port
from foregate.services.holder import find_holder
from foregate.services.home import Home
from foregate.services.instances import kind_of
from foregate.services.local_edges import LocalEdge
from foregate.services.probes import api_problem, edge_problem, open_client
from foregate.services.process import lock_path
from foregate.services.settings import Settings, reachable, url_host


class Readiness:
    """Asks only about children that are not known to be ready. `problem` is in words, empty once all are ready."""

    def __init__(
        self, settings: Settings, home: Home, children: Mapping[str, Child], edges: Sequence[LocalEdge]
    ) -> None:
        self._settings = settings
        self._home = home
        self._children = children
        self._edges = edges
        self._demo_port: int | None = None
        self.problem = "starting"

    @property
    def is_ready(self) -> bool:
        """Whether every child was found to work and has not died since."""
        return all(child.state is ChildState.READY for child in self._children.values())

    async def probe(self) -> None:
        """Look once."""
        self.problem = await self._look()

    async def _look(self) -> str:
        for name in self._of_kind("worker", "echo"):
            if self._holds_lock(name):
                self._children[name].found_ready()
        if not self._are_known("api"):
            # They share one socket, so which of them answers is not known: that each has opened the databases is.
            if problem := await asyncio.to_thread(api_problem, self._settings, self._home):
                return problem
            for name in self._of_kind("api"):
                if self._holds_lock(name):
                    self._children[name].found_ready()
        if problem := await self._make_demo():
            return problem
        for edge in self._edges:
            if problem := await self._look_at_edge(edge):
                return problem
        waiting = [name for name, child in self._children.items() if child.state is not ChildState.READY]
        return f"{' and '.join(waiting)} not ready" if waiting else ""

    async def _look_at_edge(self, edge: LocalEdge) -> str:
        if self._children[edge.name].state is ChildState.READY:
            return ""
        if not edge.has_identity and (
            problem := await self._call(f"{edge.name} cannot join", lambda client: self._join(client, edge))
        ):
            return problem
        # HAProxy may still answer for an agent that died.
        if find_holder(edge.lock) is None:
            return f"the agent of {edge.name} is starting"
        if problem := await asyncio.to_thread(edge_problem, edge.settings, edge.home, self._home):
            return problem
        self._children[edge.name].found_ready()
        return ""

    def _join(self, client: ControlClient, edge: LocalEdge) -> None:
        # Not at import: only where there are further edges does the supervisor need what joining takes.
        from foregate.services.joining import join_from_here

        join_from_here(client, edge.name, "", edge.home.root, host=url_host(reachable(self._settings.feed_bind)))

    async def _make_demo(self) -> str:
        """The demo is looked after once a run, and again when the echo service had to take another port."""
        port = read_port(self._home)
        if port is None:
            return "the echo service has no port yet"
        if port == self._demo_port:
            return ""
        if problem := await self._call("the demo cannot be made", lambda client: ensure_demo(client, self._home, port)):
            return problem
        self._demo_port = port
        return ""

    async def _call(self, what: str, work: Callable[[ControlClient], None]) -> str:
        """Have `work` done with a client of the API, on a thread; why it could not be, or empty."""
        try:
            client = open_client(self._settings, self._home)
            if client is None:
                return "the API has not made the home yet"
            await asyncio.to_thread(work, client)
        except (Unreachable, ForegateError) as error:
            return str(error)
        except Refused as error:
            return f"{what}: {error.message}"
        return ""

    def _holds_lock(self, name: str) -> bool:
        return find_holder(lock_path(self._home, name)) is not None

    def _of_kind(self, *kinds: str) -> list[str]:
        return [name for name in self._children if kind_of(name) in kinds]

    def _are_known(self, kind: str) -> bool:
        return all(self._children[name].state is ChildState.READY for name in self._of_kind(kind))
