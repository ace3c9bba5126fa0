"""What `make bench` measures, by name. Each scenario takes a scratch folder and gives rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import control_plane, edge, fleet, fold, followers, home
from bench.engines import running_origin
from bench.measure import memory_bytes
from bench.report import Row
from bench.scale import Sized, ratio, repeating_cpu, replacements
from harness.ports import free_ports
from harness.product import Foregate
from harness.waiting import until

_HOST = "bench.localhost"


@contextmanager
def product_with(folder: Path, tokens: int, **settings: str) -> Iterator[tuple[Foregate, list[home.Credential]]]:
    """A running product whose edge holds `tokens` more tokens than the demo's."""
    folder.mkdir(parents=True, exist_ok=True)
    product = Foregate(folder / "home", *free_ports(3), settings={"FOREGATE_EDGE_THREADS": "1", **settings})
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


def scale(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Cost against size: a thousand and a million tokens, one application and 2,000; a million's memory and start."""
    last = "app-1999.localhost"
    with (
        running_origin(folder) as origin,
        product_with(folder / "few", 1_000) as (few, few_known),
        product_with(folder / "apps", 1_000) as (apps, apps_known),
        product_with(folder / "many", 1_000_000) as (many, many_known),
    ):
        edge.guard(few, origin.port, [_HOST])
        edge.guard(apps, origin.port, [f"app-{number}.localhost" for number in range(2_000)])
        edge.guard(many, origin.port, [_HOST])
        _wait_for_changes(apps)
        sized = {
            "few": Sized(few, _HOST, few_known[0]),
            "apps": Sized(apps, last, apps_known[0]),
            "many": Sized(many, _HOST, many_known[0]),
        }
        cpu = repeating_cpu(sized, folder, rounds=rounds, seconds=seconds)
        pids = [*(process.pid for process in many.processes("edge")), edge.worker_pid(many)]
        memory = sum(memory_bytes(pid) for pid in pids) / 1e6
        many.stop()
        begun = time.perf_counter()
        many.start(ready_seconds=600)
        took = time.perf_counter() - begun
    note = "1,000,000 tokens, agent and HAProxy, PSS"
    return [
        ratio("1,000,000 tokens / 1,000: CPU a request", cpu["many"], cpu["few"], rounds),
        ratio("2,000 applications / 1: CPU a request", cpu["apps"], cpu["few"], rounds),
        Row("edge with 1,000,000 tokens, memory", memory, 700, "MB", True, note),
        Row("edge with 1,000,000 tokens, serving after a cold start", took, 20, "s", True, "from `foregate up`"),
    ]


def events(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Every decision is an event, also while workers are replaced; how fast events are folded."""
    with running_origin(folder) as origin, product_with(folder, 1_000) as (product, known):
        edge.guard(product, origin.port, [_HOST])
        kept = replacements(product, folder, _HOST, known[0], seconds=seconds)
    return [*kept, *fold.measure()]


def feed(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """The feed of joined edges: many followers, and a large snapshot."""
    (port,) = free_ports(1)
    url, settings = f"https://127.0.0.1:{port}", {"FOREGATE_FEED_BIND": "127.0.0.1", "FOREGATE_FEED_PORT": str(port)}
    with product_with(folder / "crowd", 0, **settings) as (product, _):
        rows = followers.one_change(product, url)
    with running_origin(folder) as origin, product_with(folder / "many", 1_000_000, **settings) as (product, known):
        edge.guard(product, origin.port, [_HOST])
        return [*rows, followers.new_edge(product, url, folder, _HOST, known[0])]


def many_edges(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """A change on its way to the last of 20 real edges."""
    (port,) = free_ports(1)
    url, settings = f"https://127.0.0.1:{port}", {"FOREGATE_FEED_BIND": "127.0.0.1", "FOREGATE_FEED_PORT": str(port)}
    with running_origin(folder) as origin, product_with(folder / "plane", 0, **settings) as (product, _):
        edge.guard(product, origin.port, [_HOST])
        with fleet.joined_edges(product, url, folder, _HOST, fleet.EDGES - 1) as ports:
            note = f"the last of {fleet.EDGES} edges over the feed"
            return control_plane.propagation(
                product, _HOST, changes=100, note=note, target=250, ports=[product.http_port, *ports]
            )


def postgresql(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """The control API on PostgreSQL, in two processes."""
    with fleet.on_postgresql(folder) as (product, commits_a_second):
        where = ", PostgreSQL, two API processes"
        return [
            control_plane.creation_ratio(product, folder, commits_a_second, rounds=rounds, seconds=seconds, where=where)
        ]


def _wait_for_changes(product: Foregate) -> None:
    """Until the edge has applied every change made so far."""
    state = product.home / "edge" / "status.json"

    def is_level() -> bool:
        said = json.loads(state.read_text())
        return bool(said["applied_seq"] >= said["feed"]["control_plane_seq"] > 0)

    time.sleep(6)  # a heartbeat tells the edge how far the control plane is
    until(is_level, 300, "the edge is level", every=0.5)


def _wait_for(product: Foregate, tokens: int) -> None:
    """Until the edge says it holds that many tokens."""

    def holds() -> bool:
        return int(json.loads((product.home / "edge" / "status.json").read_text())["tokens"]) >= tokens

    until(holds, 600, f"the edge holds {tokens} tokens", every=0.5)


ALL: dict[str, Callable[..., list[Row]]] = {
    "idle": idle,
    "control": control,
    "guarded": guarded,
    "events": events,
    "scale": scale,
    "feed": feed,
    "edges": many_edges,
    "postgresql": postgresql,
}
