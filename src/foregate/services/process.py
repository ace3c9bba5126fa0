"""What every process of Foregate has in common: its home, its lock, its log, and when it ends.

The CLI calls `run_process` once. A process is told to end by an event that its coroutine was given, never by force.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError
from foregate.services.holder import Held, Holder, hold
from foregate.services.home import Home, open_home
from foregate.services.instances import kind_of
from foregate.services.settings import Settings, addresses

# The work of one process: it runs until the event is set, then drains and returns.
Runner = Callable[[Settings, asyncio.Event], Awaitable[None]]

_PR_SET_PDEATHSIG = 1  # prctl(2)


def run_process(name: str, runner: Runner, settings: Settings, *, parent: int | None, is_locked: bool = True) -> None:
    """Run `runner` as the process `name` of the home until SIGTERM, SIGINT, or the death of the process `parent`.

    `is_locked` False is for a runner that takes its lock itself. Raises ForegateError(UNAVAILABLE) where another
    process of this name has the home, and whatever the runner raises.
    """
    import uvloop

    home = open_home(settings.home)
    if parent is not None:
        end_with(parent)
    configure_log()
    lock: AbstractContextManager[None] = (
        hold(lock_path(home, name), addresses(settings)) if is_locked else nullcontext()
    )
    try:
        # Before the lock: whoever sees it held may ask this process to end, and must be heard.
        early = _hear_early()
        with lock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
            loop_runner.run(_run(runner, settings, early))
    except Held as held:
        raise ForegateError(ErrorCode.UNAVAILABLE, held_message(name, home, held.holder)) from None


def lock_path(home: Home, name: str) -> Path:
    """The lock of the process `name`: `up`, or an instance as `services/instances.py` calls it (`api`, `api-2`)."""
    return home.run / f"{name}.lock"


def find_locks(home: Home, *kinds: str) -> list[Path]:
    """The lock files of all instances of these kinds; whether anybody holds them is not asked."""
    return [lock for lock in sorted(home.run.glob("*.lock")) if kind_of(lock.stem) in kinds]


def held_message(name: str, home: Home, holder: Holder) -> str:
    """The sentence for a home whose process `name` runs already."""
    return (
        f"foregate {name} runs already for the home {home.root}: process {holder.pid}, since {holder.since}. "
        f"Stop it with: kill {holder.pid}"
    )


def end_with(parent: int) -> None:
    """Have the kernel send this process SIGTERM when its parent dies, or end now if that has happened already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit(0)


def configure_log() -> None:
    """Log events as JSON lines on stderr, which the supervisor sends to the process's file."""
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=open(2, "w", buffering=1, closefd=False)),  # noqa: SIM115 (is stderr)
        cache_logger_on_first_use=True,
    )


def _hear_early() -> list[int]:
    """The signals to end that come before there is a loop to hear them (uvloop drops those)."""
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: heard.append(number))
    return heard


async def _run(runner: Runner, settings: Settings, early: list[int]) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    if early:
        told.set()
    await runner(settings, told)
