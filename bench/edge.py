"""A guarded request against the same HAProxy as a bare proxy: interleaved rounds, medians, CPU a request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.engines import running_bare, running_origin
from bench.home import Credential
from bench.load import Caller, Load, find_wrk, run, write_script
from bench.measure import cpu_seconds, median, memory_bytes, percentile
from bench.report import Row
from harness.api import Api
from harness.product import Foregate
from harness.things import unique
from harness.waiting import until

# Enough connections that neither side waits for the other; few enough that each repeats often.
_CONNECTIONS = 32
# Agent, API and worker together, with nothing to do.
_QUIET_CORES = 0.04
# The API takes up to 1,000 ingress rules for one tunnel.
_HOSTS_A_TUNNEL = 900


@dataclass(frozen=True, slots=True)
class Round:
    """One run: requests a second, and microseconds of the proxy's CPU a request."""

    rate: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The rounds of the bare proxy, and of each kind of caller with HAProxy alone and with the whole product."""

    bare: list[Round]
    alone: dict[str, list[Round]]
    whole: dict[str, list[Round]]


def guard(product: Foregate, origin_port: int, hosts: list[str]) -> None:
    """One application for each host that lets every valid token in, and where the origin is."""
    api = product.api()
    for host in hosts:
        api.result(
            "POST",
            "/access/apps",
            {
                "type": "self_hosted",
                "name": host,
                "domain": host,
                "policies": [
                    {
                        "name": "bench",
                        "decision": "non_identity",
                        "include": [{"any_valid_service_token": {}}],
                        "precedence": 1,
                    }
                ],
            },
        )
    for start in range(0, len(hosts), _HOSTS_A_TUNNEL):
        tunnel = api.result("POST", "/cfd_tunnel", {"name": unique("bench"), "config_src": "cloudflare"})
        some = hosts[start : start + _HOSTS_A_TUNNEL]
        rules = [{"hostname": host, "service": f"http://127.0.0.1:{origin_port}"} for host in some]
        config = {"config": {"ingress": [*rules, {"service": "http_status:404"}]}}
        api.result("PUT", f"/cfd_tunnel/{tunnel['id']}/configurations", config)


def guarded_requests(
    product: Foregate, folder: Path, host: str, known: list[Credential], *, rounds: int, seconds: float
) -> list[Row]:
    """Bare proxy, one repeating caller a connection, and each request another token, in turn.

    Each guarded round runs twice: with API and worker paused, so that HAProxy is held against HAProxy (nobody takes in
    the bare proxy's event lines either), and with everything on the same cores, as it is.
    """
    repeat = write_script(folder, "repeat", [Caller(host, known[0].client_id, known[0].secret)])
    others = write_script(folder, "others", [Caller(host, c.client_id, c.secret) for c in known])
    plain = write_script(folder, "plain", [Caller(host)])
    with running_origin(folder) as origin:
        guard(product, origin.port, [host])
        configuration = _worker_configuration(product)
        with running_bare(folder, configuration, origin.port) as bare:
            _warm(product, others, len(known))
            measured = Measured([], {"repeat": [], "others": []}, {"repeat": [], "others": []})
            for _ in range(rounds):
                until_shipped(product)
                measured.bare.append(measured_round(bare.pid, bare.port, plain, seconds))
                for kind, script in (("repeat", repeat), ("others", others)):
                    until_shipped(product)
                    with paused(product):
                        alone = measured_round(worker_pid(product), product.http_port, script, seconds)
                    until_shipped(product)
                    whole = measured_round(worker_pid(product), product.http_port, script, seconds)
                    measured.alone[kind].append(alone)
                    measured.whole[kind].append(whole)
    return _rows(measured, len(known), rounds, seconds)


@contextmanager
def paused(product: Foregate) -> Iterator[None]:
    """API and worker stand still for the block, so the agent cannot ship events; it still answers HAProxy."""
    pids = [process.pid for name in ("worker", "api") for process in product.processes(name)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def until_shipped(product: Foregate) -> None:
    """Until agent, API and worker have caught up: they use next to no CPU."""
    pids = [process.pid for name in ("worker", "edge", "api") for process in product.processes(name)]

    def is_quiet() -> bool:
        before = sum(cpu_seconds(pid) for pid in pids)
        time.sleep(1)
        return sum(cpu_seconds(pid) for pid in pids) - before < _QUIET_CORES

    until(is_quiet, 60, "the events have been shipped and folded")


def worker_pid(product: Foregate) -> int:
    """The HAProxy of the home that takes new connections."""
    return int(json.loads((product.home / "edge" / "status.json").read_text())["worker_pid"])


def idle(product: Foregate, *, seconds: float) -> list[Row]:
    """Memory and CPU of everything with nothing to do."""
    names = ("up", "api", "worker", "edge", "echo")
    pids = [process.pid for name in names for process in product.processes(name)] + [worker_pid(product)]
    before = {pid: cpu_seconds(pid) for pid in pids}
    time.sleep(seconds)
    used = sum(cpu_seconds(pid) - before[pid] for pid in pids)
    memory = sum(memory_bytes(pid) for pid in pids) / 1e6
    note = f"{len(pids)} processes, demo included"
    return [
        Row("everything idle, memory", memory, 350, "MB", True, f"{note}, PSS"),
        Row("everything idle, CPU", used / seconds * 100, 2, "% of a core", True, f"{note}, over {seconds:.0f} s"),
    ]


@contextmanager
def full_load(product: Foregate, folder: Path, host: str) -> Iterator[None]:
    """As many requests of the demo's token to `host` as the machine can make, for as long as the block lasts."""
    lines = (product.home / "demo" / "token").read_text().splitlines()
    client_id, secret = (line.partition(": ")[2] for line in lines[:2])
    script = write_script(folder, "load", [Caller(host, client_id, secret)])
    command = [find_wrk(), "-t1", f"-c{_CONNECTIONS}", "-d600s", "-s", str(script)]
    wrk = subprocess.Popen(
        [*command, f"http://127.0.0.1:{product.http_port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        wrk.terminate()
        wrk.wait(10)


def last_seen_lag(product: Foregate, host: str, *, uses: int) -> Row:
    """From a request's answer to the moment that the API shows its second as last seen. Under full load."""
    api, lags = product.api(), []
    for number in range(uses):
        made = api.result("POST", "/access/service_tokens", {"name": f"seen-{number}"})
        headers = [
            ("Host", host),
            ("CF-Access-Client-Id", made["client_id"]),
            ("CF-Access-Client-Secret", made["client_secret"]),
        ]
        until(partial(_is_let_in, product, headers), 10, "the token is let in", every=0.005)
        begun = time.perf_counter()
        until(partial(_is_seen, api, made["id"]), 30, "the token is seen", every=0.01)
        lags.append(time.perf_counter() - begun)
    note = f"{uses} tokens used once each, full load, median {median(lags):.2f} s"
    return Row("last seen behind the request, p99, full load", percentile(lags, 0.99), 2, "s", True, note, lags)


def _is_let_in(product: Foregate, headers: list[tuple[str, str]]) -> bool:
    with product.connect() as connection:
        return connection.request("GET", "/", headers).status == 200


def _is_seen(api: Api, token_id: str) -> bool:
    return bool(api.result("GET", f"/access/service_tokens/{token_id}")["last_seen_at"])


def measured_round(pid: int, port: int, script: Path, seconds: float) -> Round:
    """One run of the load against the proxy `pid`. RuntimeError where an answer failed."""
    before = cpu_seconds(pid)
    load = run(script, port, seconds=seconds, connections=_CONNECTIONS)
    used = cpu_seconds(pid) - before
    _refuse_failures(load)
    return Round(load.rate, used / load.requests * 1e6)


def _refuse_failures(load: Load) -> None:
    if load.failed or load.sockets:
        raise RuntimeError(f"{load.failed} answers failed and {load.sockets} connections broke; the figures are void")


def _warm(product: Foregate, script: Path, tokens: int) -> None:
    """Run until every token has its assertion: a round's rate no longer grows and none fails."""
    deadline, last = time.monotonic() + 60 + tokens / 200, 0.0
    while time.monotonic() < deadline:
        command = [find_wrk(), "-t1", f"-c{_CONNECTIONS}", "-d5s", "-s", str(script)]
        subprocess.run([*command, f"http://127.0.0.1:{product.http_port}"], capture_output=True, check=True, timeout=60)
        pid = worker_pid(product)
        before = cpu_seconds(pid)
        load = run(script, product.http_port, seconds=3, connections=_CONNECTIONS)
        if not load.failed and load.rate < last * 1.05 and cpu_seconds(pid) - before > 1.5:
            return
        last = max(last, load.rate)


def _worker_configuration(product: Foregate) -> Path:
    found = sorted((product.home / "edge").rglob("haproxy.cfg"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RuntimeError("the home has no haproxy.cfg")
    return found[-1]


def _rows(measured: Measured, tokens: int, rounds: int, seconds: float) -> list[Row]:
    bare_cpu, bare_rate = _medians(measured.bare)
    conditions = f"{tokens:,} tokens known to the load, {rounds} rounds of {seconds:.0f} s, {_CONNECTIONS} connections"
    rows = []
    for kind, name, rate_target, cpu_target in (
        ("repeat", "same client repeating", 0.85, 1.20),
        ("others", "each request another token", 0.62, 1.62),
    ):
        cpu, rate = _medians(measured.alone[kind])
        note = f"{cpu:.1f} us against {bare_cpu:.1f} us bare; {rate:,.0f}/s against {bare_rate:,.0f}/s; {conditions}"
        rows.append(Row(f"{name}: CPU a request / bare", cpu / bare_cpu, cpu_target, "x", True, note))
        rows.append(Row(f"{name}: throughput / bare", rate / bare_rate, rate_target, "x", False, note))
        cpu, rate = _medians(measured.whole[kind])
        note = f"{cpu:.1f} us; {rate:,.0f}/s; agent, API and worker take in the events on the same cores"
        rows.append(Row(f"{name}: throughput / bare, cores shared", rate / bare_rate, rate_target, "x", False, note))
    return rows


def _medians(found: list[Round]) -> tuple[float, float]:
    """CPU a request and rate."""
    return median([one.cpu_us for one in found]), median([one.rate for one in found])
