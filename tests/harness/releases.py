"""An earlier Foregate out of this checkout's history, to run beside the one under test."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def unpack(commit: str, folder: Path) -> Path:
    """The program as of `commit`, ready to stand in PYTHONPATH. Where the history is not there (an archive, a shallow
    clone) the test is skipped and says so; with CI set it fails."""
    archive = folder / "archive.tar"
    command = ["git", "-C", str(ROOT), "archive", f"--output={archive}", commit, "src"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        problem = done.stderr.strip()
    except FileNotFoundError:
        problem = "git is not installed"
    if not archive.exists() or problem:
        message = f"NOT RUN: the Foregate of {commit[:12]} cannot be had ({problem}); fetch the whole history"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "src"
