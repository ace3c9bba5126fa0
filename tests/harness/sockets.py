"""Where an edge's sockets lie when its home is too deep or too closed to hold them: a folder named by the home."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path


def outside_folders(home: Path) -> list[Path]:
    """The folders outside the home that hold its sockets; none after a clean end."""
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    return list(Path(tempfile.gettempdir()).glob(f"foregate-*-{digest}"))


def remove_outside_folders(home: Path) -> None:
    """Remove what killed processes, which clear nothing up themselves, have left there. Safe to repeat."""
    for folder in outside_folders(home):
        shutil.rmtree(folder, ignore_errors=True)
