"""Foregate outside the checkout and without its supervisor: from a wheel, in a terminal, process by process."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.product import Foregate, running_foregate
from harness.waiting import until

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 300
READY_SECONDS = 30


def demo_status(product: Foregate) -> int:
    """The status of a request with the demo's token."""
    lines = (product.home / "demo" / "token").read_text().splitlines()
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return product.get("echo.localhost", "/", headers).status


def test_the_wheel_in_an_empty_environment_runs_up(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=BUILD_SECONDS)
    (wheel,) = tmp_path.glob("foregate-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=BUILD_SECONDS)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    requirements = str(ROOT / "requirements" / "run.txt")
    subprocess.run([*install, "--require-hashes", "-r", requirements], check=True, timeout=BUILD_SECONDS)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, timeout=BUILD_SECONDS)
    with running_foregate() as product:
        product.stop()
        output = tmp_path / "up.out"
        with output.open("wb") as stream:
            command = [str(tmp_path / "venv" / "bin" / "foregate"), "up"]
            process = subprocess.Popen(command, env=product.environment, stdout=stream, stderr=stream, cwd="/")
        try:
            until(lambda: "ready after" in output.read_text(), READY_SECONDS, "the installed program is ready")
            assert demo_status(product) == 200
            process.terminate()
            assert process.wait(READY_SECONDS) == 0
        finally:
            process.kill()
        product.start()


def test_in_a_terminal_it_shows_its_processes_and_ends_on_ctrl_c() -> None:
    with running_foregate() as product:
        product.stop()
        with terminal(product) as (process, screen):
            until(lambda: "ready after" in screen(), READY_SECONDS, "it is ready")
            until(lambda: screen().count("ready") >= 5, READY_SECONDS, "it shows four ready processes")
            assert demo_status(product) == 200
            screen.type("\x03")
            assert process.wait(READY_SECONDS) == 0
            assert "foregate: ended" in screen()
            assert "[/]" not in screen()
        product.start()


def test_each_process_runs_alone() -> None:
    with running_foregate() as product:
        product.stop()
        with ExitStack() as stack:
            for name in ("api", "worker", "edge", "echo"):
                stack.enter_context(alone(product, name))
            until(lambda: demo_status(product) == 200, READY_SECONDS, "a request goes through")
            # The edge needs none of the others to answer, so they may still be starting.
            until(lambda: product.run("status").stdout.count(b"alone") == 4, READY_SECONDS, "all four are there")
            assert product.run("status").returncode == 1
            until(lambda: product.run("token", "list").returncode == 0, READY_SECONDS, "the API answers")
            second = product.run("worker")
            assert second.returncode == 1
            assert b"runs already" in second.stderr
        assert not any(product.processes(name) for name in ("api", "worker", "edge", "echo", "haproxy"))
        product.start()


@contextmanager
def alone(product: Foregate, name: str) -> Iterator[None]:
    """`foregate <name>`, which must end well when asked to."""
    command = [sys.executable, "-m", "foregate", name]
    process = subprocess.Popen(command, env=product.environment, stderr=subprocess.DEVNULL, cwd="/")
    try:
        yield
        process.terminate()
        assert process.wait(READY_SECONDS) == 0, name
    finally:
        process.kill()
        process.wait()


class Screen:
    """What a terminal was sent, and its keyboard."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = b""

    def __call__(self) -> str:
        os.set_blocking(self._descriptor, False)
        try:
            while chunk := os.read(self._descriptor, 65536):
                self._seen += chunk
        except OSError:  # nothing more now, or the other end is closed
            pass
        return self._seen.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())


@contextmanager
def terminal(product: Foregate) -> Iterator[tuple[subprocess.Popen[bytes], Screen]]:
    """`foregate up` in a terminal of its own, which it controls."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_TERMINAL, *[sys.executable, "-m", "foregate", "up"]],
        env={**product.environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd="/",
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, Screen(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


# Makes the terminal the controlling one of the new session, so that Ctrl-C in it becomes a SIGINT.
_IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
