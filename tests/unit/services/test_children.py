"""A child is kept alive until it is told to end. The child here is the echo service, the lightest of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from foregate.services.children import Child, ChildSpec, ChildState, GaveUp, describe_exit
from foregate.services.holder import find_holder
from foregate.services.home import Home, open_home
from foregate.services.process import lock_path
from foregate.services.settings import load, to_environment

DEADLINE_SECONDS = 15


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def spec(home: Home, *, name: str = "echo", may_start: Callable[[], bool] = lambda: True) -> ChildSpec:
    environment = {**os.environ, **to_environment(load({"FOREGATE_HOME": str(home.root)}))}
    return ChildSpec(name, (name,), False, 5, home.logs / f"{name}.log", environment, may_start)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 (another process's doing)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(child: Child) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(child.run())
    try:
        yield task
    finally:
        await child.end()
        await asyncio.gather(task, return_exceptions=True)


def serves(home: Home) -> bool:
    return find_holder(lock_path(home, "echo")) is not None


async def test_it_starts_and_ends_when_told(home: Home) -> None:
    states: list[ChildState] = []
    child = Child(spec(home), lambda: states.append(child.state), lambda _: None)
    async with running(child):
        await until(lambda: serves(home))
        child.found_ready()
        assert await child.end()
    assert list(dict.fromkeys(states)) == [ChildState.STARTING, ChildState.READY, ChildState.ENDED]
    assert (child.pid, child.restarts) == (None, 0)
    assert not serves(home)


async def test_it_is_started_again_when_it_dies_and_that_is_told(home: Home) -> None:
    told: list[str] = []
    child = Child(spec(home), lambda: None, told.append)
    async with running(child):
        await until(lambda: serves(home))
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: serves(home) and child.pid not in (first, None))
    assert told == ["foregate: echo ended unasked (killed by SIGKILL); starting it again"]
    assert child.restarts == 1


async def test_it_waits_for_what_it_needs(home: Home) -> None:
    child = Child(spec(home, may_start=(home.root / "needed").exists), lambda: None, lambda _: None)
    async with running(child):
        assert child.state is ChildState.WAITING
        (home.root / "needed").touch()
        await until(lambda: serves(home))


async def test_it_ends_though_it_never_started(home: Home) -> None:
    child = Child(spec(home, may_start=lambda: False), lambda: None, lambda _: None)
    async with running(child) as task:
        await asyncio.sleep(0)
        assert await child.end()
        await task
    assert child.state is ChildState.ENDED


async def test_one_that_cannot_live_is_given_up_with_its_last_words(home: Home) -> None:
    child = Child(spec(home, name="no-such-command"), lambda: None, lambda _: None)
    with pytest.raises(GaveUp, match=r"no-such-command died 10 times within a minute \(last: exit code 2\)") as caught:
        async with asyncio.timeout(60):
            await child.run()
    assert "No such command" in str(caught.value)


async def test_one_that_does_not_listen_is_killed(home: Home) -> None:
    child = Child(spec(home), lambda: None, lambda _: None)
    async with running(child):
        await until(lambda: serves(home))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGSTOP)
        assert not await child.hurry()
    assert child.pid is None


async def test_a_log_that_grew_large_is_put_aside(home: Home) -> None:
    log = home.logs / "echo.log"
    with log.open("wb") as file:
        file.truncate((16 << 20) + 1)
    child = Child(spec(home), lambda: None, lambda _: None)
    async with running(child):
        await until(lambda: serves(home))
    assert log.stat().st_size < 1 << 20
    assert (home.logs / "echo.old.log").stat().st_size > 16 << 20


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_exits_in_words(code: int, text: str) -> None:
    assert describe_exit(code) == text
