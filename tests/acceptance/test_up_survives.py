"""What happens to `foregate up` when its processes are killed: children come back, and the edge outlives everybody."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from harness.callers import ask_demo, asking
from harness.leftovers import assert_nothing_left
from harness.processes import kill
from harness.product import Foregate, running_foregate
from harness.waiting import until

HEALED_SECONDS = 5
TAKEN_OVER_SECONDS = 20


@pytest.fixture(scope="module")
def product() -> Iterator[Foregate]:
    with running_foregate() as started:
        yield started


@pytest.mark.parametrize("name", ["api", "worker", "echo", "edge", "haproxy"])
def test_a_process_that_is_killed_comes_back(product: Foregate, name: str) -> None:
    before = until(lambda: product.processes(name), HEALED_SECONDS, f"{name} runs")
    for process in before:
        kill(process)
    old = {process.pid for process in before}

    def has_come_back() -> bool:
        now = {process.pid for process in product.processes(name)}
        return bool(now - old) and ask_demo(product) == 200

    until(has_come_back, HEALED_SECONDS, f"{name} is back")
    assert product.run("status", "--wait", str(HEALED_SECONDS)).returncode == 0


def test_a_killed_agent_costs_no_request(product: Foregate) -> None:
    with asking(lambda: ask_demo(product)) as outcomes:
        (agent,) = product.processes("edge")
        kill(agent)
        until(lambda: product.processes("edge") and product.run("status").returncode == 0, 10, "the agent is back")
        asked = outcomes["200"]
        until(lambda: outcomes["200"] > asked + 20, 10, "requests go on")
    assert set(outcomes) == {"200"}


def test_the_edge_outlives_a_killed_supervisor_and_is_taken_over() -> None:
    with running_foregate() as product:
        assert product.supervisor is not None
        with asking(lambda: ask_demo(product)) as outcomes:
            product.supervisor.kill()
            product.supervisor.wait()
            gone = ("up", "api", "worker")
            until(lambda: not any(map(product.processes, gone)), TAKEN_OVER_SECONDS, "API and worker end")
            answered = outcomes["200"]
            until(lambda: outcomes["200"] > answered + 50, 10, "the edge goes on answering")
            assert product.run("status").returncode == 1
            product.start()
            answered = outcomes["200"]
            until(lambda: outcomes["200"] > answered + 50, 10, "the edge answers")
        assert set(outcomes) == {"200"}
        for name in ("up", "api", "worker", "edge", "echo"):
            assert len(product.processes(name)) == 1, name
        until(lambda: len(product.processes("haproxy")) == 1, 30, "a worker that was replaced has drained")


def test_the_next_up_starts_over_where_everything_was_killed() -> None:
    with running_foregate() as product:
        for name in ("up", "api", "worker", "edge", "echo", "haproxy"):
            for process in product.processes(name):
                kill(process)
        assert product.supervisor is not None
        product.supervisor.wait()
        until(lambda: not product.processes("haproxy"), HEALED_SECONDS, "all are gone")
        product.start()
        assert ask_demo(product) == 200


def test_a_child_that_cannot_live_is_given_up_aloud() -> None:
    with running_foregate() as product:
        key = product.home / "master.key"
        key.chmod(0o644)
        (api,) = product.processes("api")
        kill(api)
        assert product.supervisor is not None
        assert product.supervisor.wait(60) == 1
        said = product.output.read_text()
        assert "api died 10 times within a minute" in said
        assert f"run: chmod 600 {key}" in said
        assert not product.processes("edge") and not product.processes("haproxy")
        key.chmod(0o600)
        product.start()


def test_a_second_ctrl_c_ends_at_once() -> None:
    with running_foregate() as product:
        (agent,) = product.processes("edge")
        os.kill(agent.pid, signal.SIGSTOP)  # an edge that does not drain
        assert product.supervisor is not None
        product.supervisor.send_signal(signal.SIGINT)
        until(lambda: "ending" in product.output.read_text(), 5, "it is ending")
        product.supervisor.send_signal(signal.SIGINT)
        assert product.supervisor.wait(10) == 1
        product.supervisor = None
        assert_nothing_left(product)
