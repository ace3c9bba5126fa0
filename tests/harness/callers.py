"""Callers that go on while a test does something to Foregate, and what they were answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.http1 import Connection
from harness.product import Foregate


def demo_headers(foregate: Foregate) -> list[tuple[str, str]]:
    """The two headers of the demo's token."""
    lines = (foregate.home / "demo" / "token").read_text().splitlines()
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def ask_demo(foregate: Foregate, *, port: int | None = None) -> int:
    """The status of a request with the demo's token, at this edge or another port's."""
    with Connection(port or foregate.http_port) as connection:
        return connection.request("GET", "/", [("Host", "echo.localhost"), *demo_headers(foregate)]).status


@contextmanager
def asking(*asks: Callable[[], int], pause_seconds: float = 0.005) -> Iterator[Counter[str]]:
    """Ask each of them again and again until the block ends; how often which status or error came of it."""
    outcomes: Counter[str] = Counter()
    is_over = threading.Event()

    def run(ask: Callable[[], int]) -> None:
        while not is_over.wait(pause_seconds):
            try:
                outcome = str(ask())
            except OSError as error:
                outcome = type(error).__name__
            with lock:
                outcomes[outcome] += 1

    lock = threading.Lock()
    threads = [threading.Thread(target=run, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
