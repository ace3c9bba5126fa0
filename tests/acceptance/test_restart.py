"""`foregate restart`: everything is started anew under load, and neither a caller nor a client of the API notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.callers import ask_demo, asking
from harness.product import Foregate, running_foregate

RESTART_SECONDS = 120


@pytest.fixture(scope="module")
def product() -> Iterator[Foregate]:
    with running_foregate() as started:
        yield started


def pids(product: Foregate) -> dict[str, int]:
    return {name: product.processes(name)[0].pid for name in ("api", "worker", "edge", "echo")}


def test_a_restart_of_everything_is_noticed_by_nobody(product: Foregate) -> None:
    before, api = pids(product), product.api()
    with asking(lambda: ask_demo(product), lambda: api.call("GET", "/user/tokens/verify").status) as outcomes:
        done = product.run("restart", seconds=RESTART_SECONDS)
    after = pids(product)
    assert done.returncode == 0, done.stderr
    assert {name for name in before if before[name] != after[name]} == {"api", "worker", "edge"}
    assert set(outcomes) == {"200"}


def test_one_process_is_restarted_alone(product: Foregate) -> None:
    before = pids(product)
    assert product.run("restart", "worker", seconds=RESTART_SECONDS).returncode == 0
    assert {name for name, pid in pids(product).items() if before[name] != pid} == {"worker"}


def test_a_name_that_does_not_run_changes_nothing(product: Foregate) -> None:
    before = pids(product)
    done = product.run("restart", "worker", "api-7")
    assert (done.returncode, pids(product)) == (2, before)
    assert b"There is no process api-7 to restart here; there are api, worker, edge." in done.stderr
