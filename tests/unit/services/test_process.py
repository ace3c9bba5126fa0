"""A process of Foregate ends when told, ends with its parent, and leaves no lock."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from foregate.core.errors import ForegateError
from foregate.services.holder import hold
from foregate.services.home import open_home
from foregate.services.listening import listen
from foregate.services.process import lock_path

SECONDS = 15
START_A_CHILD_AND_DIE = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "foregate", "echo", "--parent", str(os.getpid())])
while not os.path.exists(sys.argv[1]):
    pass
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "FOREGATE_HOME": str(home)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_it_ends_well_and_leaves_no_lock(tmp_path: Path, number: signal.Signals) -> None:
    home = open_home(tmp_path / "home")
    with subprocess.Popen([sys.executable, "-m", "foregate", "worker"], env=environment(home.root)) as process:
        while not lock_path(home, "worker").exists():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
    assert list(home.run.iterdir()) == []


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    lock = lock_path(home, "echo")
    command = [sys.executable, "-c", START_A_CHILD_AND_DIE, str(lock)]
    done = subprocess.run(command, env=environment(home.root), capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == -signal.SIGKILL
    # The output of both is one pipe, so `run` has returned once the child had ended too.
    assert int(done.stdout) > 0
    assert not lock.exists()


def test_a_parent_that_is_gone_already_is_noticed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "foregate", "echo", "--parent", "1"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0


def test_a_second_one_says_who_has_the_home(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    with hold(lock_path(home, "worker")):
        command = [sys.executable, "-m", "foregate", "worker"]
        done = subprocess.run(command, env=environment(home.root), capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert f"process {os.getpid()}, since 2".encode() in done.stderr


def test_a_port_that_cannot_be_had_is_named_by_its_setting() -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with pytest.raises(ForegateError, match="set FOREGATE_API_PORT to another port"):
            listen("127.0.0.1", stranger.getsockname()[1], "FOREGATE_API_PORT")
