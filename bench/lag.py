"""How far "last seen" is behind the request at full load: batches come in as from an edge, a worker process folds them.

`python -m bench.lag` prints rows; `measure(...)` gives them to the whole bench. A marked token is used once per batch,
and its row is watched from outside: the time from the use to the row is the lag; the pause of an edge between batches
comes on top. The worker's CPU is read from its own clock.
"""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import tempfile
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

from bench.fold import ACCOUNT, APP, POLICY
from bench.measure import cpu_seconds, percentile
from bench.report import Row, table
from foregate.access.events.batch import parse_batch
from foregate.access.events.consumers import event_jobs
from foregate.access.events.ingest import take_in
from foregate.core.clock import utc_now
from foregate.database.engine import Database
from foregate.database.migrate import upgrade
from foregate.database.telemetry_schema import INGEST
from foregate.eventlog.packing import pack
from foregate.eventlog.runner import run

_MARKED = "f" * 32 + ".access"
_BATCH_EVENTS = 10_000
# What the agent waits between two batches of a worker.
_PAUSE_SECONDS = 0.2


def measure(rate: int = 45_000, tokens: int = 100_000, seconds: float = 20) -> list[Row]:
    """Load at `rate` events a second, each with another of `tokens` tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "telemetry.db"
        upgrade(path, "telemetry")
        context = multiprocessing.get_context("spawn")
        worker = context.Process(target=_work, args=(path,), daemon=True)
        worker.start()
        lags, cpu = _load(path, worker.pid or 0, rate, tokens, seconds)
        worker.terminate()
        worker.join()
    note = f"{rate:,} events/s of {tokens:,} tokens for {seconds:.0f} s; batches every {_PAUSE_SECONDS} s"
    return [
        Row("last seen behind the request, p99", percentile(lags, 0.99), 2.0, "s", at_most=True, note=note),
        Row("worker at that load", cpu, 0.5, "cores", at_most=True, note=note),
    ]


def _work(path: Path) -> None:
    run(event_jobs(path), [], threading.Event(), utc_now)


def _load(path: Path, worker: int, rate: int, tokens: int, seconds: float) -> tuple[list[float], float]:
    database, reader = Database(path, INGEST), sqlite3.connect(path, check_same_thread=False)
    source = random.Random(7)
    ids = [f"{source.getrandbits(128):032x}.access" for _ in range(tokens)]
    watch = _Watch(reader)
    number = start = 0
    began, used = time.monotonic(), cpu_seconds(worker)
    while time.monotonic() - began < seconds:
        due = int((time.monotonic() - began) * rate) - number
        while due > 0:
            at = time.time()
            lines = _lines(source, ids, number, min(due, _BATCH_EVENTS), at)
            due, number = due - _BATCH_EVENTS, number + _BATCH_EVENTS
            batch = parse_batch("edge-1", "w1", start, False, pack(lines))
            with database.write() as connection:
                take_in(connection, batch, datetime.now(UTC))
            watch.used(at)
            start = batch.end
        time.sleep(_PAUSE_SECONDS)
    used = (cpu_seconds(worker) - used) / (time.monotonic() - began)
    return watch.stop(), used


def _lines(source: random.Random, ids: list[str], first: int, count: int, at: float) -> bytes:
    lines = [
        f'{{"n":{n},"t":{at:.3f},"ray":"{source.getrandbits(64):016x}","acct":"{ACCOUNT}","app":"{APP}",'
        f'"id":"{source.choice(ids)}","pol":"{POLICY}","why":"service_auth","host":"echo.localhost","ip":"127.0.0.1",'
        f'"m":"GET","path":"/api/v1/items/{n}","st":200,"c":{n},"end":"--"}}\n'
        for n in range(first, first + count)
    ]
    lines[-1] = lines[-1].replace(lines[-1][lines[-1].index('"id":"') + 6 :][:39], _MARKED)
    return "".join(lines).encode()


class _Watch:
    """Looks at the marked token's row a hundred times a second: a use lags until it, or a later one, is shown."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._uses: deque[float] = deque()
        self._lags: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def used(self, at: float) -> None:
        """The marked token was used."""
        self._uses.append(at)

    def stop(self) -> list[float]:
        """End; the lags in seconds. A use that is not shown yet counts with its age."""
        self._stop.set()
        self._thread.join()
        return self._lags + [time.time() - at for at in self._uses]

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            row = self._reader.execute("SELECT seen_at FROM last_seen WHERE client_id = ?", (_MARKED,)).fetchone()
            now = time.time()
            # Lines carry milliseconds.
            while row is not None and self._uses and self._uses[0] <= row[0] / 1e6 + 0.001:
                self._lags.append(now - self._uses.popleft())


if __name__ == "__main__":
    print(table(measure()))
