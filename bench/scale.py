"""How cost grows: CPU a request with a million tokens against a thousand, with 2,000 applications against one; and
whether every decision is an event while workers are replaced at full load."""

from __future__ import annotations

import threading
import time
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


def repeating_cpu(
    product: Foregate, folder: Path, host: str, caller: Credential, *, rounds: int, seconds: float
) -> float:
    """Microseconds of HAProxy's CPU a request for a caller that repeats on its connection to a guarded host."""
    script = write_script(folder, "scale", [Caller(host, caller.client_id, caller.secret)])
    _until_let_in(product, host, caller)
    run(script, product.http_port, seconds=2)
    pid = edge.worker_pid(product)
    return median([edge.measured_round(pid, product.http_port, script, seconds).cpu_us for _ in range(rounds)])


def ratio(name: str, many: float, few: float, rounds: int) -> Row:
    """`many` against `few`, which should cost the same."""
    note = f"{many:.1f} us against {few:.1f} us, repeating client, medians of {rounds}, two homes one after the other"
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
