"""`foregate restart`: everything is started anew under load, and neither a caller nor a client of the API notices."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.product import Foregate, running_foregate

RESTART_SECONDS = 120


@pytest.fixture(scope="module")
def product() -> Iterator[Foregate]:
    with running_foregate() as started:
        yield started


def demo_headers(product: Foregate) -> list[tuple[str, str]]:
    lines = (product.home / "demo" / "token").read_text().splitlines()
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


@contextmanager
def again_and_again(ask: Callable[[], int]) -> Iterator[Counter[str]]:
    """Ask without a pause until the block ends; what came of it, by status or error."""
    outcomes: Counter[str] = Counter()
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            try:
                outcomes[str(ask())] += 1
            except OSError as error:
                outcomes[type(error).__name__] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcomes
    finally:
        is_over.set()
        thread.join()


def pids(product: Foregate) -> dict[str, int]:
    return {name: product.processes(name)[0].pid for name in ("api", "worker", "edge", "echo")}


def test_a_restart_of_everything_is_noticed_by_nobody(product: Foregate) -> None:
    before, headers, api = pids(product), demo_headers(product), product.api()
    with (
        again_and_again(lambda: product.get("echo.localhost", "/", headers).status) as requests,
        again_and_again(lambda: api.call("GET", "/user/tokens/verify").status) as calls,
    ):
        done = product.run("restart", seconds=RESTART_SECONDS)
    after = pids(product)
    assert done.returncode == 0, done.stderr
    assert {name for name in before if before[name] != after[name]} == {"api", "worker", "edge"}
    assert (set(requests), set(calls)) == ({"200"}, {"200"})


def test_one_process_is_restarted_alone(product: Foregate) -> None:
    before = pids(product)
    assert product.run("restart", "worker", seconds=RESTART_SECONDS).returncode == 0
    assert {name for name, pid in pids(product).items() if before[name] != pid} == {"worker"}


def test_a_name_that_does_not_run_changes_nothing(product: Foregate) -> None:
    before = pids(product)
    done = product.run("restart", "worker", "api-7")
    assert (done.returncode, pids(product)) == (2, before)
    assert b"There is no process api-7 to restart here; there are api, worker, edge." in done.stderr
