"""The feed at size: one change to 10,000 followers of a real control plane, and a new edge that takes a million
tokens."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.home import Credential
from bench.measure import cpu_seconds, median, memory_bytes
from bench.report import Row
from foregate.core.ids import new_uuid
from foregate.core.masterkey import load
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase
from foregate.edge import sealed_box
from foregate.edge.feed_authority import certify_edge, new_request, pem_of, read_request
from foregate.identity import edges_store
from foregate.identity.joining import ensure_authority
from foregate.identity.model import Edge
from harness.api import Api
from harness.joined import JoinedEdge, join_token
from harness.ports import free_ports
from harness.product import Foregate
from harness.things import unique
from harness.waiting import until

FOLLOWERS = 10_000
# Each shows itself by one of so many certificates: a key of its own for each would cost the simulation its memory.
_IDENTITIES = 50
_CHANGES = 10


@contextmanager
def crowd(product: Foregate, url: str) -> Iterator[subprocess.Popen[str]]:
    """10,000 connected followers in a process of their own, which prints a line for each record that all have got."""
    members = _make_members(product)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"url": url, "followers": FOLLOWERS, **members}, file)
        file.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.follower_crowd", file.name], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["connected"] == FOLLOWERS
            yield process
        finally:
            process.terminate()
            process.wait(60)


def one_change(product: Foregate, url: str) -> list[Row]:
    """From sending a call that changes something to the last follower having it."""
    (api,) = (process.pid for process in product.processes("api"))
    before = memory_bytes(api)
    begun = time.monotonic()
    with crowd(product, url) as process:
        connected = time.monotonic() - begun
        assert process.stdout is not None
        took: list[float] = []
        cpu = cpu_seconds(api)
        for _ in range(_CHANGES):
            sent_at = time.time()
            answer = product.api().account("POST", "/access/service_tokens", {"name": unique("bench")})
            seq = int(dict(answer.headers)["foregate-change"])
            while (line := json.loads(process.stdout.readline()))["seq"] < seq:
                pass
            took.append(line["at"] - sent_at)
        cpu = (cpu_seconds(api) - cpu) / _CHANGES
        listed = _latency(product.api(), calls=20)
        time.sleep(10)
        quiet_from, idle = time.monotonic(), cpu_seconds(api)
        time.sleep(10)
        idle = (cpu_seconds(api) - idle) / (time.monotonic() - quiet_from)
        memory = memory_bytes(api)
    note = (
        f"median {median(took):.2f} s of {_CHANGES}; TLS 1.3 with client certificates, followers in another process on "
        f"the same cores; {cpu:.2f} s of the API's CPU a change, {100 * idle:.0f} % of a core between changes; all "
        f"connected after {connected:.0f} s"
    )
    size = f"API process, PSS; {before / 1e6:.0f} MB without followers"
    return [
        Row("one change to 10,000 feed followers, the last of them", max(took), 2, "s", True, note, took),
        Row("API with 10,000 feed followers", memory / 1e6, 1_000, "MB", True, size),
        Row("a list of the API beside them, the slowest of 20", 1_000 * listed, 250, "ms", True, "between changes"),
    ]


def new_edge(product: Foregate, url: str, folder: Path, host: str, caller: Credential) -> Row:
    """From `foregate edge join` on an empty home to its first request that a token lets through."""
    edge = JoinedEdge(folder / "new" / "home", *free_ports(2))
    edge.home.parent.mkdir(parents=True)
    token = join_token(product)
    headers = [("CF-Access-Client-Id", caller.client_id), ("CF-Access-Client-Secret", caller.secret)]
    begun = time.monotonic()
    done = edge.join(url, token, "--name", "new")
    assert done.returncode == 0, done.stderr
    edge.start()
    try:
        until(lambda: edge.get(host, headers).status == 200, 600, "the new edge serves", every=0.1)
        took = time.monotonic() - begun
        state = (edge.home / "edge" / "state.db").stat().st_size
    finally:
        edge.stop()
    note = f"from `foregate edge join` on, with a state of {state / 1e6:.0f} MB; control plane and edges on one machine"
    return Row("snapshot of 1,000,000 tokens to a new edge, serving", took, 45, "s", True, note)


def _latency(api: Api, *, calls: int) -> float:
    slowest = 0.0
    for _ in range(calls):
        begun = time.monotonic()
        api.result("GET", "/access/apps")
        slowest = max(slowest, time.monotonic() - begun)
    return slowest


def _make_members(product: Foregate) -> dict[str, object]:
    """Edges that have joined, written as rows: ten thousand joins would measure something else."""
    master, now = load(product.home / "master.key"), datetime.now(UTC)
    tls_key, request = new_request()
    database = SqliteDatabase(product.home / "records.db", CONTROL_PLANE)
    certificates = []
    with database.write() as connection:
        authority = ensure_authority(connection, master, now)
        for number in range(_IDENTITIES):
            public_key = sealed_box.public_key_of(sealed_box.new_private_key())
            edge = Edge(new_uuid(), f"crowd-{number}", now, sealing_key=public_key)
            edges_store.insert_edge(connection, edge, None)
            certificate = certify_edge(authority, read_request(request), edge.id, now)
            edges_store.insert_certificate(connection, edge.id, certificate, now)
            certificates.append(pem_of(certificate))
    database.close()
    return {"authority": authority.pem, "tls_key": tls_key.decode(), "certificates": certificates}
