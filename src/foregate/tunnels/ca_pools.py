"""Reading the files that `caPool` names, as cloudflared's configuration does: a path on this machine.

The edge gets the certificates, not the path, so it needs no such file. Blocking; called on a thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from foregate.core.errors import invalid

# Mozilla's whole bundle is under this.
_MAX_BYTES = 512 * 1024
_MARK = "-----BEGIN CERTIFICATE-----"


def read_ca_pools(paths: Iterable[str]) -> dict[str, str]:
    """The text of each file, by path as given.

    Raises ForegateError(INVALID_INPUT) in the same words whatever is wrong with a file: nobody learns here which
    files exist.
    """
    return {path: _read(Path(path)) for path in paths}


def _read(path: Path) -> str:
    try:
        if not path.is_absolute() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise _unusable()
        text = path.read_text("ascii")
    except (OSError, ValueError):
        raise _unusable() from None
    if _MARK not in text:
        raise _unusable()
    return text


def _unusable() -> Exception:
    return invalid(
        "Give caPool as PEM text, or as the absolute path of a PEM file that the control plane can read.",
        pointer="/config/ingress",
    )
