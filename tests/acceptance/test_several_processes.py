"""Two control APIs and two workers on one pair of stores: a client cannot tell which of them it speaks to, and any may
be killed or stopped. On each database."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from event_lines import NOON_MICROS, line
from foregate.core.clock import to_micros
from harness.api import Api
from harness.ports import free_ports
from harness.postgresql import ENGINES, PostgresqlServer
from harness.product import Foregate
from harness.waiting import until

# What one process commits is known to the others within moments; this is for a busy machine.
MOMENTS = 3.0
# A holder that is stopped is found out by asking it for some seconds.
TAKE_OVER_SECONDS = 20.0


class Control:
    """One `foregate api`, with a port of its own."""

    def __init__(self, world: World, number: int, port: int) -> None:
        self.world = world
        self.port = port
        self.name = "api" if number == 1 else f"api-{number}"
        environment = {**world.home.environment, "FOREGATE_API_PORT": str(port)}
        self.process = world.spawn(["api", "--number", str(number)], environment, self.name)
        until(self._answers, 30, f"{self.name} answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.world.folder / f"{self.name}.err").read_text()[-2000:]
        try:
            return self.api().call("GET", "/user/tokens/verify").status == 200
        except OSError:
            return False

    def api(self, token: str | None = None) -> Api:
        home = self.world.home
        return Api(self.port, home.account_id, token or home.admin_token, home.issued)

    def send_events(self, worker: str, *lines: bytes, offset: int = 0) -> None:
        """What an edge does with its events."""
        url = f"http://127.0.0.1:{self.port}/edge/v1/events?worker={worker}&offset={offset}"
        sent = httpx.post(url, content=zlib.compress(b"".join(lines)), headers=self.world.edge_headers, timeout=30)
        assert sent.status_code == 200, sent.text

    def follow(self, told: Callable[[str], None]) -> threading.Thread:
        """Follow the feed as an edge does; `told` gets each line."""

        def run() -> None:
            url = f"http://127.0.0.1:{self.port}/edge/v1/feed?after=0"
            try:
                with httpx.stream("GET", url, headers=self.world.edge_headers, timeout=60) as answer:
                    for text in answer.iter_lines():
                        told(text)
            except httpx.HTTPError:
                return

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def is_publisher(self) -> bool:
        """Whether it took the seat last, and has not said that it left it."""
        said = (self.world.folder / f"{self.name}.err").read_text()
        found = re.findall(r'"event": "(seat_taken|seat_left)"', said)
        return found[-1:] == ["seat_taken"]


class World:
    """A home and the processes that a test started on it."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.home = Foregate(folder / "home", *free_ports(3), settings)
        self.processes: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count(1)
        self._workers = itertools.count(1)

    def spawn(self, command: list[str], environment: dict[str, str], name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.err").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "foregate", *command], env=environment, stderr=log, cwd="/"
            )
        self.processes.append(process)
        return process

    def control(self) -> Control:
        return Control(self, next(self._numbers), free_ports(1)[0])

    def worker(self) -> subprocess.Popen[bytes]:
        number = next(self._workers)
        return self.spawn(["worker", "--number", str(number)], self.home.environment, f"worker-{number}")

    @property
    def edge_headers(self) -> dict[str, str]:
        edge_id = json.loads((self.home.home / "home.json").read_text())["edge_id"]
        key = (self.home.home / "edge" / "edge.key").read_text().strip()
        return {"Authorization": f"Edge {edge_id}:{key}"}

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            process.wait(30)


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "sqlite":
        made = World(tmp_path, {})
    else:
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        name = server.new_name()
        made = World(tmp_path, {"FOREGATE_DATABASE": server.url(name)})
        assert made.home.run("database", "setup", server.admin_url(name)).returncode == 0
    yield made
    made.end()


def create_token(control: Control, name: str) -> str:
    """A token's client id."""
    return str(control.api().result("POST", "/access/service_tokens", {"name": name})["client_id"])


def test_client_cannot_tell_which_control_api_it_speaks_to(world: World) -> None:
    controls = [world.control(), world.control()]
    told: list[list[str]] = [[], []]
    for control, lines in zip(controls, told, strict=True):
        control.follow(lines.append)
    for number in range(10):
        client_id = create_token(controls[number % 2], f"number {number}")
        for other in controls:
            names = [one["client_id"] for one in other.api().result("GET", "/access/service_tokens?per_page=50")]
            assert client_id in names
        for lines in told:
            until(lambda: any(client_id in one for one in lines), MOMENTS, "each feed has the new token")  # noqa: B023
    assert [control.is_publisher() for control in controls] == [True, False]


def test_api_token_that_one_revokes_is_refused_by_the_other_within_a_second(world: World) -> None:
    first, second = world.control(), world.control()
    made = (
        first.api().call("POST", "/foregate/api_tokens", {"name": "narrow", "permissions": ["read"]}).json()["result"]
    )
    narrow = second.api(made["value"])
    path = "/access/service_tokens"
    assert narrow.account("GET", path).status == 200
    assert first.api().call("DELETE", f"/foregate/api_tokens/{made['id']}").status == 200
    until(lambda: narrow.account("GET", path).status == 401, 1.0, "the other refuses it")


def test_event_that_one_takes_in_wakes_those_who_wait_at_the_other(world: World) -> None:
    first, second = world.control(), world.control()
    cursor = second.api().account("GET", "/foregate/events?limit=1").json()["result_info"]["cursor"]
    found: list[Any] = []
    query = f"/foregate/events?after={cursor}&wait=20"
    waiting = threading.Thread(target=lambda: found.extend(second.api().result("GET", query)))
    waiting.start()
    first.send_events("w1", _line_of_now(world, 1))
    waiting.join(MOMENTS)
    assert [event["ray_id"] for event in found] == [f"{1:016x}"]


def test_answer_is_kept_for_a_retry_that_comes_to_the_other(world: World) -> None:
    first, second = world.control(), world.control()
    key = {"Idempotency-Key": "once"}
    body = {"name": "made once"}
    answers = [
        control.api().account("POST", "/access/service_tokens", body, headers=key).json()["result"]["client_secret"]
        for control in (first, second)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda number: number.name)
def test_another_publishes_when_the_publisher_is_gone(world: World, number: signal.Signals) -> None:
    first, second = world.control(), world.control()
    lines: list[str] = []
    second.follow(lines.append)
    before = create_token(second, "before")
    until(lambda: any(before in one for one in lines), MOMENTS, "it is published")
    assert first.is_publisher()
    os.kill(first.process.pid, number)
    after = create_token(second, "after")
    until(lambda: any(after in one for one in lines), TAKE_OVER_SECONDS, "the other publishes it")
    if number is signal.SIGSTOP:
        os.kill(first.process.pid, signal.SIGCONT)
        late = create_token(first, "late")
        until(lambda: any(late in one for one in lines), TAKE_OVER_SECONDS, "what it commits when it wakes")
        until(lambda: first.is_publisher() != second.is_publisher(), TAKE_OVER_SECONDS, "one of them holds the seat")
    seqs = [json.loads(one)["seq"] for one in lines if '"mac"' in one]
    assert seqs == sorted(set(seqs)), "each record once, in order"


@pytest.mark.parametrize("number", [None, signal.SIGKILL, signal.SIGSTOP], ids=str)
def test_two_workers_count_every_event_once(world: World, number: signal.Signals | None) -> None:
    control = world.control()
    workers = [world.worker(), world.worker()]
    batches, size = 30, 20
    for batch in range(batches):
        lines = [_line_of_now(world, batch * size + n) for n in range(size)]
        control.send_events(f"w{batch}", *lines)
        if number is not None and batch == batches // 2:
            os.kill(workers[0].pid, number)

    def counted() -> int:
        return sum(int(one["events"]) for one in control.api().result("GET", "/foregate/rollups?limit=1000"))

    until(lambda: counted() >= batches * size, 60, "all are counted", every=0.1)
    if number is signal.SIGSTOP:
        os.kill(workers[0].pid, signal.SIGCONT)
    control.send_events("last", _line_of_now(world, 10_000))
    until(lambda: counted() == batches * size + 1, 60, "each is counted once", every=0.1)
    states = control.api().result("GET", "/foregate/pipeline")["consumers"]
    assert {state["set_aside"] for state in states} == {0}


def _line_of_now(world: World, number: int) -> bytes:
    second = (to_micros(datetime.now(UTC)) - NOON_MICROS) / 1e6
    return line(number, second=second, account=world.home.account_id)
