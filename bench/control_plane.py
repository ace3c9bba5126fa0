"""The control API and the way of a change: creations a second, a page of a long list, how soon the edge knows."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.load import find_wrk
from bench.measure import median, percentile
from bench.report import Row
from harness.http1 import Connection
from harness.product import Foregate

_CREATE = """
local authorization
function init(args)
  for line in io.lines("{file}") do authorization = line end
  wrk.method = "POST"
  wrk.headers["Authorization"] = "Bearer " .. authorization
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = '{{"name":"bench","duration":"8760h"}}'
end
function done(summary)
  io.write(string.format('%d %f %d\\n', summary.requests, summary.duration / 1e6, summary.errors.status))
end
"""


def creations(product: Foregate, folder: Path, *, rounds: int, seconds: float) -> Row:
    """Durable creations a second over 32 connections, as a ratio to single synced commits on the same disk."""
    return creation_ratio(product, folder, partial(_commits_a_second, product.home), rounds=rounds, seconds=seconds)


def creation_ratio(
    product: Foregate,
    folder: Path,
    commits_a_second: Callable[[float], float],
    *,
    rounds: int,
    seconds: float,
    where: str = "",
) -> Row:
    """Durable creations a second over 32 connections, as a ratio to what `commits_a_second(seconds)` measures."""
    file = folder / "admin"
    file.touch(0o600)
    file.write_text(product.admin_token)
    script = folder / "create.lua"
    script.write_text(_CREATE.format(file=file))
    url = f"{product.base_url}/accounts/{product.account_id}/access/service_tokens"
    api, disk = [], []
    for _ in range(rounds):
        disk.append(commits_a_second(seconds))
        command = [find_wrk(), "-t1", "-c32", f"-d{seconds:.0f}s", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
        made, took, failed = done.stdout.strip().splitlines()[-1].split()
        if int(failed):
            raise RuntimeError(f"{failed} creations failed")
        api.append(int(made) / float(took))
    note = f"{median(api):,.0f}/s against {median(disk):,.0f} single synced commits/s, 32 clients, medians of {rounds}"
    return Row(f"token creations / synced commits{where}", median(api) / median(disk), 1.0, "x", False, note, api)


def _commits_a_second(folder: Path, seconds: float) -> float:
    path = folder / "bench-commits.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT)")
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        connection.execute("INSERT INTO t (b) VALUES ('bench')")
        count += 1
    took = time.perf_counter() - begun
    connection.close()
    for name in ("", "-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    return count / took


def listing(product: Foregate, *, calls: int, tokens: int) -> Row:
    """A page of 100 out of all tokens, pages at random depth."""
    api, pages, took = product.api(), tokens // 100, []
    for number in range(calls):
        page = number * 7919 % pages + 1
        begun = time.perf_counter()
        answer = api.account("GET", f"/access/service_tokens?per_page=100&page={page}")
        took.append((time.perf_counter() - begun) * 1000)
        if answer.status != 200 or len(answer.json()["result"]) != 100:
            raise RuntimeError("a page of 100 was not answered")
    note = f"{calls} calls one after the other, {tokens:,} tokens, median {median(took):.1f} ms"
    return Row("list of 100 tokens, p99", percentile(took, 0.99), 50, "ms", True, note, took)


def propagation(
    product: Foregate, host: str, *, changes: int, note: str, target: float, ports: Sequence[int] = ()
) -> list[Row]:
    """From sending the call to the first request that the edge answers accordingly, the last of those at `ports`."""
    api, accepted, refused = product.api(), [], []
    for number in range(changes):
        begun = time.perf_counter()
        made = api.result("POST", "/access/service_tokens", {"name": f"change-{number}"})
        headers = [
            ("Host", host),
            ("CF-Access-Client-Id", made["client_id"]),
            ("CF-Access-Client-Secret", made["client_secret"]),
        ]
        with ExitStack() as stack:
            callers = [stack.enter_context(_Caller(port, headers)) for port in ports or (product.http_port,)]
            accepted.append(max(_until(partial(caller.is_answered, 200), begun) for caller in callers))
            begun = time.perf_counter()
            api.result("DELETE", f"/access/service_tokens/{made['id']}")
            refused.append(max(_until(partial(caller.is_answered, 401), begun) for caller in callers))
    measured = (("create -> accepted", accepted), ("revoke -> refused", refused))
    return [
        Row(f"{name}, p99, {note}", percentile(took, 0.99), target, "ms", True, _spread(took), took)
        for name, took in measured
    ]


class _Caller:
    """A client that keeps its connection and opens another when the edge closes it, as clients do."""

    def __init__(self, port: int, headers: list[tuple[str, str]]) -> None:
        self._port, self._headers = port, headers
        self._connection = Connection(port)

    def __enter__(self) -> _Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def is_answered(self, status: int) -> bool:
        """Whether a request now gets this status."""
        try:
            return self._connection.request("GET", "/", self._headers).status == status
        except (EOFError, ConnectionError):
            self._connection.close()
            self._connection = Connection(self._port)
            return False


def _until(is_so: Callable[[], bool], begun: float, *, deadline: float = 10) -> float:
    while not is_so():
        if time.perf_counter() - begun > deadline:
            raise RuntimeError("the edge did not follow within 10 s")
    return (time.perf_counter() - begun) * 1000


def _spread(values: list[float]) -> str:
    return f"{len(values)} changes, from sending the call; median {median(values):.1f} ms, worst {max(values):.1f} ms"
