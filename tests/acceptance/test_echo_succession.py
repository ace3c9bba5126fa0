"""The demo's echo service is replaced while it is asked, as `foregate up` does when it takes over an earlier run."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from harness.processes import kill_all
from harness.waiting import until

SECONDS = 30
SUCCESSIONS = 6


def start(home: Path) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOREGATE_", "CLOUDFLARE_"))}
    command = [sys.executable, "-m", "foregate", "echo"]
    return subprocess.Popen(command, env={**kept, "FOREGATE_HOME": str(home)}, stderr=subprocess.DEVNULL, cwd="/")


def outcome(port: int) -> str:
    """The status of a request on a connection of its own, or the error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/")
        return str(connection.getresponse().status)
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


def test_no_connection_is_reset_when_a_successor_takes_over(tmp_path: Path) -> None:
    home = tmp_path / "home"
    running = start(home)
    outcomes: Counter[str] = Counter()
    is_over = threading.Event()
    try:
        port = int(until((home / "demo" / "port").read_text, SECONDS, "it has a port"))
        until(lambda: outcome(port) == "200", SECONDS, "it answers")

        def ask() -> None:
            while not is_over.wait(0.002):
                outcomes[outcome(port)] += 1

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(SUCCESSIONS):
            successor = start(home)
            assert running.wait(SECONDS) == 0
            running = successor
        is_over.set()
        for thread in threads:
            thread.join()
        assert set(outcomes) == {"200"}, outcomes
    finally:
        is_over.set()
        kill_all(home)
        running.wait()
