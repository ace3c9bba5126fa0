"""What `make bench` measures, by name. Each scenario takes a scratch folder and gives rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import control_plane, edge, home
from bench.engines import running_origin
from bench.measure import memory_bytes
from bench.report import Row
from harness.ports import free_ports
from harness.product import Foregate
from harness.waiting import until

_HOST = "bench.localhost"


@contextmanager
def product_with(folder: Path, tokens: int) -> Iterator[tuple[Foregate, list[home.Credential]]]:
    """A running product whose edge holds `tokens` more tokens than the demo's."""
    product = Foregate(folder / "home", *free_ports(3), settings={"FOREGATE_EDGE_THREADS": "1"})
    product.start()
    product.stop()
    known = home.add_tokens(product.home, product.account_id, tokens) if tokens else []
    if known:  # an edge that has never seen them takes one snapshot instead of following a million changes
        for part in (product.home / "edge").glob("state.db*"):
            part.unlink()
    try:
        product.start(ready_seconds=600)
        if known:
            _wait_for(product, tokens)
        yield product, known
    finally:
        if product.supervisor is not None:
            product.stop()


def idle(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Everything with nothing to do."""
    with product_with(folder, 0) as (product, _):
        time.sleep(5)
        return edge.idle(product, seconds=20)


def control(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """The control API, and the way of a change on an idle machine."""
    with product_with(folder, 100_000) as (product, _):
        listed = control_plane.listing(product, calls=300, tokens=100_000)
        with running_origin(folder) as origin:
            edge.guard(product, origin.port, [_HOST])
            changes = control_plane.propagation(product, _HOST, changes=200, note="idle", target=100)
            with edge.full_load(product, folder, _HOST):
                loaded = control_plane.propagation(product, _HOST, changes=100, note="full load", target=250)
                behind = edge.last_seen_lag(product, _HOST, uses=40)
        made = control_plane.creations(product, folder, rounds=rounds, seconds=seconds)
        return [made, listed, *changes, *loaded, behind]


def guarded(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """A guarded request with 100,000 tokens."""
    with product_with(folder, 100_000) as (product, known):
        return edge.guarded_requests(product, folder, _HOST, known, rounds=rounds, seconds=seconds)


def million(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """An edge with 1,000,000 tokens: memory, and how soon it serves again from its own disk."""
    with product_with(folder, 1_000_000) as (product, _):
        pids = [*(process.pid for process in product.processes("edge")), edge.worker_pid(product)]
        memory = sum(memory_bytes(pid) for pid in pids) / 1e6
        product.stop()
        begun = time.perf_counter()
        product.start(ready_seconds=600)
        _wait_for(product, 1_000_000)
        took = time.perf_counter() - begun
        note = "1,000,000 tokens, agent and HAProxy, PSS"
        return [
            Row("edge with 1,000,000 tokens, memory", memory, 700, "MB", True, note),
            Row("edge with 1,000,000 tokens, serving after a cold start", took, 20, "s", True, "from `foregate up`"),
        ]


def _wait_for(product: Foregate, tokens: int) -> None:
    """Until the edge says it holds that many tokens."""

    def holds() -> bool:
        return int(json.loads((product.home / "edge" / "status.json").read_text())["tokens"]) >= tokens

    until(holds, 600, f"the edge holds {tokens} tokens", every=0.5)


ALL: dict[str, Callable[..., list[Row]]] = {"idle": idle, "control": control, "guarded": guarded, "million": million}
