"""Log files that processes append to for as long as they live: bounded, as callers decide how much is said."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 16 << 20


def bound(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Where the file is longer than that, keep it as `<name>.old.log` instead of the one before, and empty it.

    Its writers go on (they append, so they begin at the start); what they say during the copy is lost. On a full disk
    nothing is kept.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size > most_bytes:
            old = path.with_suffix(".old.log")
            try:
                old.touch(0o600)
                shutil.copyfile(path, old)
            except OSError:
                old.unlink(missing_ok=True)
            os.truncate(path, 0)
