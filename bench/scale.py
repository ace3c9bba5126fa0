"""How cost grows: CPU a request with a million tokens against a thousand, with 2,000 applications against one; and
whether every decision is an event while workers are replaced at full load."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import edge
from bench.engines import running_origin
from bench.home import Credential
from bench.load import Caller, Load, run, write_script
from bench.measure import median
from bench.report import Row
from harness.product import Foregate
from harness.waiting import until

_REPLACEMENTS = 10


@dataclass(frozen=True, slots=True)
class Sized:
    """A running product of some size, and one caller that its host lets in."""

    product: Foregate
    host: str
    caller: Credential


def repeating_cpu(sized: Mapping[str, Sized], folder: Path, *, rounds: int, seconds: float) -> dict[str, float]:
    """Microseconds of HAProxy's CPU a request for a caller that repeats on its connection, by size, in interleaved
    rounds: medians."""
    scripts = {
        name: write_script(folder, f"scale-{name}", [Caller(one.host, one.caller.client_id, one.caller.secret)])
        for name, one in sized.items()
    }
    for name, one in sized.items():
        _until_let_in(one.product, one.host, one.caller)
        run(scripts[name], one.product.http_port, seconds=2)
    measured: dict[str, list[float]] = {name: [] for name in sized}
    for _ in range(rounds):
        for name, one in sized.items():
            edge.until_shipped(one.product)
            pid = edge.worker_pid(one.product)
            found = edge.measured_round(pid, one.product.http_port, scripts[name], seconds)
            measured[name].append(found.cpu_us)
    return {name: median(found) for name, found in measured.items()}


def ratio(name: str, many: float, few: float, rounds: int) -> Row:
    """`many` against `few`, which should cost the same."""
    note = f"{many:.1f} us against {few:.1f} us, repeating client, medians of {rounds} interleaved rounds"
    return Row(name, many / few, 1.05, "x", True, note)


def replacements(product: Foregate, folder: Path, host: str, caller: Credential, *, seconds: float) -> list[Row]:
    """Ten new workers, one for each of ten changed applications, under as much load as the machine makes."""
    script = write_script(folder, "replaced", [Caller(host, caller.client_id, caller.secret)])
    _until_let_in(product, host, caller)
    with running_origin(folder) as origin:
        before = _decided(product)
        loads: list[Load] = []
        load = threading.Thread(
            target=lambda: loads.append(run(script, product.http_port, seconds=seconds * _REPLACEMENTS))
        )
        load.start()
        workers = {edge.worker_pid(product)}
        for number in range(_REPLACEMENTS):
            edge.guard(product, origin.port, [f"replaced-{number}.localhost"])
            until(lambda: edge.worker_pid(product) not in workers, 30, "another worker serves", every=0.05)
            workers.add(edge.worker_pid(product))
            time.sleep(seconds / 2)
        load.join()
    (done,) = loads
    until(lambda: _decided(product)[0] - before[0] >= done.requests, 60, "all events have arrived", every=0.5)
    time.sleep(2)
    decided, missing = _decided(product)
    counted = decided - before[0]
    # wrk does not count what was on its way when it stopped: at most one request for each connection.
    note = (
        f"{done.requests:,} answers, {counted:,} events, {len(workers) - 1} replacements, "
        f"{done.rate:,.0f}/s; {done.failed + done.sockets} client errors; {missing - before[1]} counted as missing"
    )
    lost = max(0, done.requests - counted) + (missing - before[1])
    return [
        Row("events lost over ten worker replacements", lost, 0, "events", True, note),
        Row("client errors over ten worker replacements", done.failed + done.sockets, 0, "errors", True, note),
    ]


def _decided(product: Foregate) -> tuple[int, int]:
    """Events taken in so far, and those counted as missing."""
    api = product.api()
    pipeline = api.result("GET", "/foregate/pipeline")
    return sum(int(worker["events"]) for worker in pipeline["workers"]), int(pipeline["missing_events"])


def _until_let_in(product: Foregate, host: str, caller: Credential) -> None:
    headers = [
        ("Host", host),
        ("CF-Access-Client-Id", caller.client_id),
        ("CF-Access-Client-Secret", caller.secret),
    ]

    def is_let_in() -> bool:
        with product.connect() as connection:
            return connection.request("GET", "/", headers).status == 200

    until(is_let_in, 60, "the caller is let in", every=0.1)
