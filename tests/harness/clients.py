"""Programs that use the official SDKs: built by the languages' ordinary clients, then run step by step.

They are built once into `build/clients/`, in folders named by their sources, and found there by later runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "acceptance" / "clients"
BUILDS = ROOT / "build" / "clients"

# A cold build of the large Go SDK takes about a minute on two cores; a busy machine needs several.
_BUILD_SECONDS = 900
_STEP_SECONDS = 60


class Program:
    """A running program. It stops after each step until the next is asked for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._has_stepped = False

    def step(self, name: str) -> Any:
        """Let it go on to its next step, which must have that name, and take what it shows."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._has_stepped:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"ended before {name!r}: {self._errors()}"
        self._has_stepped = True
        shown = json.loads(line)
        assert shown["step"] == name
        return shown["value"]

    def end(self) -> None:
        """Let it end; it must do so by itself and well."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.close()
        assert self._process.wait(_STEP_SECONDS) == 0, self._errors()

    def _errors(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        return self._process.stderr.read()[-3000:]


@contextmanager
def running_program(command: list[str], environment: Mapping[str, str]) -> Iterator[Program]:
    """Start a program, killed at the end if it is still there."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def python_program() -> list[str]:
    """The command of the Python program; the SDK stands in requirements/dev.txt."""
    return [sys.executable, str(SOURCES / "python" / "lifecycle.py")]


def typescript_program() -> list[str]:
    """The command of the TypeScript program, compiled against the SDK's own types."""
    _require("npm", "Node.js 20 or newer with npm (Debian: apt-get install nodejs npm)")

    def build(folder: Path) -> None:
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
        _run(install, folder)
        _run(["node", "node_modules/typescript/bin/tsc", "--project", "."], folder)

    return ["node", str(_built("typescript", build) / "out" / "lifecycle.js")]


def go_program(version: str) -> list[str]:
    """The command of the Go program for the SDK `v7` or `v0`."""
    _require("go", "Go 1.24 or newer (Debian: apt-get install golang)")

    def build(folder: Path) -> None:
        # Unoptimised, and with a lazy garbage collector: the SDK's eight megabytes of types compile in half the time.
        _run(["go", "build", "-mod=readonly", "-gcflags=all=-N -l", "-o", "program", "."], folder)

    return [str(_built(f"go/{version}", build) / "program")]


def _require(program: str, what: str) -> None:
    if shutil.which(program) is None:
        message = f"{program} is not here; this test needs {what}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def _built(name: str, build: Callable[[Path], None]) -> Path:
    """The folder with the sources of `name` and what `build` makes of them. A build that was cut off starts again."""
    sources = {path.name: path.read_bytes() for path in sorted((SOURCES / name).iterdir()) if path.is_file()}
    digest = hashlib.sha256(json.dumps({key: text.hex() for key, text in sources.items()}).encode()).hexdigest()
    folder = BUILDS / f"{name.replace('/', '-')}-{digest[:16]}"
    if not (folder / ".built").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file_name, text in sources.items():
            (folder / file_name).write_bytes(text)
        build(folder)
        (folder / ".built").touch()
    return folder


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "GOGC": "400", "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
