"""The bare HAProxy that a guarded request is held against, and an origin that costs next to nothing.

The bare proxy has the product's own limits, defaults and event line; only the judging is missing.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foregate.engines.haproxy.binary import find_binary
from harness.ports import free_ports
from harness.waiting import until

_ORIGIN = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend origin
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string "ok"
"""

_BARE_FRONTEND = """
frontend bare from base
  bind 127.0.0.1:{port}
  {log}
  option logasap
  {unique_id}
  {log_format}
  http-request set-var(txn.path) path
  default_backend origin
backend origin from base
  server origin 127.0.0.1:{origin_port}
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running HAProxy of the bench."""

    pid: int
    port: int


@contextmanager
def running_origin(folder: Path) -> Iterator[Engine]:
    """An HAProxy that answers `ok` to everything."""
    (port,) = free_ports(1)
    with _running(folder / "origin.cfg", _ORIGIN.format(port=port), port) as engine:
        yield engine


@contextmanager
def running_bare(folder: Path, product_configuration: Path, origin_port: int) -> Iterator[Engine]:
    """The product's own global and defaults sections and event line, in front of the origin without judging."""
    (port,) = free_ports(1)
    text = product_configuration.read_text()
    defaults = text[text.index("\ndefaults base") : text.index("\nfrontend ")]
    # The product's own words about an error come from its Lua program, which a bare proxy has not.
    defaults = re.sub(r"^\s+http-error .*\n", "", defaults, flags=re.MULTILINE)
    frontend = text[text.index("\nfrontend ") :]
    lines = {
        "log": _line(frontend, r"log fd@3 .*"),
        "unique_id": _line(frontend, r"unique-id-format .*"),
        "log_format": _line(frontend, r"log-format .*").replace("%{+Q}[var(txn.words)]", f'"{_words()}"'),
    }
    head = "global\n  log fd@3 len 16384 format raw local0\n  nbthread 1\n  maxconn 4000\n"
    body = head + defaults + _BARE_FRONTEND.format(port=port, origin_port=origin_port, **lines)
    with _running(folder / "bare.cfg", body, port) as engine:
        yield engine


def _words() -> str:
    """As long as what a guarded request writes there."""
    return "%[str(" + "x" * 260 + ")]"


def _line(text: str, form: str) -> str:
    found = re.search(rf"^\s+({form})$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the product's configuration has no line {form}")
    return found[1]


@contextmanager
def _running(path: Path, text: str, port: int) -> Iterator[Engine]:
    path.write_text(text)
    events = os.open(path.with_suffix(".events"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    # Descriptor 3 is the event file, as a worker of the product has it.
    # Memory as the product's workers have it, so that the bare proxy is the same HAProxy. Not `sh`: some of them know
    # descriptors of one digit alone.
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    started = subprocess.Popen(
        ["bash", "-c", f"exec {find_binary()} -db -f {path} 3>&{events}"], pass_fds=(events,), env=environment
    )
    os.close(events)
    try:
        until(lambda: _listens(port), 10, f"the engine of {path.name} listens")
        yield Engine(started.pid, port)
    finally:
        started.terminate()
        started.wait(10)
        path.with_suffix(".events").unlink(missing_ok=True)


def _listens(port: int) -> bool:
    return f":{port:04X} " in Path("/proc/net/tcp").read_text()
