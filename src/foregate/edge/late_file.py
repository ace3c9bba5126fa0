"""A file whose content is made when somebody opens it: a named pipe (fifo(7)) with a writer that waits. asyncio."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_ASKED_EVERY_SECONDS = 0.005


def make(path: Path) -> Path:
    """The pipe, readable by us alone. Whoever opens it waits for `hand_over`."""
    os.mkfifo(path, 0o600)
    return path


async def hand_over(pipe: Path, content: Callable[[], str]) -> None:
    """Wait for a reader, then give it `content()`, which is called on the event loop at that moment. Once; cancel it
    where no reader comes. A reader that goes away early is no error."""
    while (descriptor := _open(pipe)) is None:  # noqa: ASYNC110 (the kernel tells no writer of a reader)
        await asyncio.sleep(_ASKED_EVERY_SECONDS)
    await asyncio.to_thread(_write, descriptor, content().encode())


def _open(pipe: Path) -> int | None:
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody reads yet
            return None
        raise


def _write(descriptor: int, content: bytes) -> None:
    os.set_blocking(descriptor, True)
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as file:
        file.write(content)
