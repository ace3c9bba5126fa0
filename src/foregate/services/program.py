"""How to call this program again, from any folder: what printed hints begin with."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from foregate.services.settings import PREFIX, Settings

_NAME = "foregate"


def program() -> str:
    """`foregate` where that finds this program; else the path by which it was started."""
    started = Path(sys.argv[0]).absolute()
    if started.name == "__main__.py":  # python -m foregate
        beside = Path(sys.executable).with_name(_NAME)
        if not beside.exists():
            return f"{shlex.quote(sys.executable)} -m {_NAME}"
        started = beside
    found = shutil.which(_NAME)
    if found is not None and Path(found).resolve() == started.resolve():
        return _NAME
    return shlex.quote(str(started))


def program_for(settings: Settings) -> str:
    """`program()` with the home before it, where another terminal would not come upon that by itself."""
    is_default = settings.home == Path.home() / ".foregate" and not Path(".foregate").is_dir()
    return program() if is_default else f"{PREFIX}HOME={shlex.quote(str(settings.home))} {program()}"
