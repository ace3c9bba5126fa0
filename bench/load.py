"""Load from a second process: wrk, with credentials from a file, never from its command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Each connection walks over the credentials by a prime step from a start of its own, so that neighbours never share.
_SCRIPT = """
local requests, position, step = {{}}, 0, {step}
local started = 0
function setup(thread) thread:set("number", started); started = started + 1 end
function init(args)
  for line in io.lines("{credentials}") do
    local host, id, secret = line:match("^(%S+) (%S+) (%S+)$")
    local headers = {{ ["Host"] = host }}
    if id ~= "-" then headers["CF-Access-Client-Id"] = id; headers["CF-Access-Client-Secret"] = secret end
    requests[#requests + 1] = wrk.format("GET", "{path}", headers)
  end
end
function request()
  position = (position + step) % #requests
  return requests[position + 1]
end
function done(summary, latency, requests)
  io.write(string.format('\\n{{"requests": %d, "seconds": %f, "failed": %d, "sockets": %d, "p50": %f, "p99": %f}}\\n',
    summary.requests, summary.duration / 1e6, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw. Latencies in milliseconds. `failed`: answers of status 400 and above."""

    requests: int
    seconds: float
    failed: int
    sockets: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request carries: host, and credentials or `-`."""

    host: str
    client_id: str = "-"
    secret: str = "-"


def find_wrk() -> str:
    """The path of wrk; SystemExit with what to install if it is missing."""
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("make bench needs wrk for its load; install it (Debian: apt-get install wrk)")
    return found


def write_script(folder: Path, name: str, callers: list[Caller], *, path: str = "/") -> Path:
    """A wrk script (0600) that sends the callers' requests in turn; with one caller, always the same request."""
    credentials = folder / f"{name}.credentials"
    credentials.touch(0o600)
    credentials.write_text("".join(f"{c.host} {c.client_id} {c.secret}\n" for c in callers))
    script = folder / f"{name}.lua"
    step = 7919 if len(callers) > 1 else 0
    script.write_text(_SCRIPT.format(credentials=credentials, path=path, step=step))
    return script


def run(script: Path, port: int, *, seconds: float, connections: int = 32) -> Load:
    """Run wrk with one thread for `seconds` against 127.0.0.1:`port`."""
    command = [
        find_wrk(),
        "-t1",
        f"-c{connections}",
        f"-d{seconds:.0f}s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    found = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk printed no summary: {done.stdout[-500:]}")
    return Load(**json.loads(found[0]))
