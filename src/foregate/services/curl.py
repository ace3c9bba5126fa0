"""The `curl` lines that `foregate up` prints. They work as they stand, and hold no secret: curl reads the two headers
from a file of mode 0600 (`-H @file`, curl 7.55 and later), so none shows in a process list or a shell's history."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess

from foregate.services.demo import HOST, token_path
from foregate.services.home import Home
from foregate.services.settings import Settings, reachable, url_host

# From this version on curl itself takes every name below `localhost` for this machine (RFC 6761).
_KNOWS_LOCALHOST = (7, 78)
_LOOPBACK = ("127.0.0.1", "::1")


def curl_lines(settings: Settings, home: Home) -> list[str]:
    """One line for plain HTTP, where that is served, and one for HTTPS."""
    headers = f"-H {shlex.quote(f'@{token_path(home)}')}"
    lines = []
    if settings.is_loopback or settings.allow_plain_http:
        resolve = _resolve(settings, settings.http_port)
        lines.append(f"curl {resolve}{headers} http://{HOST}:{settings.http_port}/")
    resolve = _resolve(settings, settings.https_port)
    ca = f"--cacert {shlex.quote(str(home.edge_ca))}"
    lines.append(f"curl {resolve}{ca} {headers} https://{HOST}:{settings.https_port}/")
    return lines


def _resolve(settings: Settings, port: int) -> str:
    """What tells curl the address, where it would not find it by itself."""
    address = reachable(settings.bind)
    if address in _LOOPBACK and (_curl_version() >= _KNOWS_LOCALHOST or _resolves(address)):
        return ""
    return f"--resolve {HOST}:{port}:{url_host(address)} "


def _curl_version() -> tuple[int, int]:
    try:
        said = subprocess.run(["curl", "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    found = re.match(r"curl ([0-9]+)\.([0-9]+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _resolves(address: str) -> bool:
    try:
        return any(found[4][0] == address for found in socket.getaddrinfo(HOST, None))
    except OSError:
        return False
