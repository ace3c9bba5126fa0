"""Several machines' worth of Foregate on one: many real edges, and a control plane on PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.joined import JoinedEdge, joined
from harness.ports import free_ports
from harness.postgresql import PostgresqlServer, running_postgresql
from harness.product import Foregate

EDGES = 20


@contextmanager
def joined_edges(product: Foregate, url: str, folder: Path, host: str, count: int) -> Iterator[list[int]]:
    """The HTTP ports of `count` further edges, each an agent and an HAProxy, once all of them guard `host`."""
    with ExitStack() as stack:
        edges = []
        for number in range(count):
            edge = JoinedEdge(folder / f"edge-{number}" / "home", *free_ports(2))
            edge.home.parent.mkdir(parents=True)
            edges.append(joined(product, url, edge, f"edge-{number}"))
            stack.callback(edge.stop)
        for edge in edges:
            edge.until_status(host, (), 403)
        yield [edge.http_port for edge in edges]


@contextmanager
def on_postgresql(folder: Path) -> Iterator[tuple[Foregate, Callable[[float], float]]]:
    """A running product of two API processes on a server that syncs every commit, and what measures how many single
    commits a second one connection gets there."""
    with running_postgresql(fsync="on") as server:
        # As `foregate database setup` takes the administrator's.
        os.environ["PGPASSWORD"] = server.password
        name = server.new_name()
        product = Foregate(
            folder / "home", *free_ports(3), settings={"FOREGATE_DATABASE": server.url(name)}, arguments=("--apis", "2")
        )
        done = product.run("database", "setup", server.admin_url(name))
        assert done.returncode == 0, done.stderr.decode()
        product.start()
        try:
            yield product, lambda seconds: _commits_a_second(server, seconds)
        finally:
            product.stop()
            del os.environ["PGPASSWORD"]


def _commits_a_second(server: PostgresqlServer, seconds: float) -> float:
    with server.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench (a BIGINT GENERATED ALWAYS AS IDENTITY, b TEXT)")
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            connection.execute("INSERT INTO bench (b) VALUES ('bench')")
            count += 1
        return count / (time.perf_counter() - begun)
