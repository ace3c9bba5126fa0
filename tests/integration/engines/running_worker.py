"""A real HAProxy worker on records of the test's choosing, with an agent that signs in the clear. For plain tests.

Everything asynchronous runs on one loop in a thread, so that tests may use blocking clients.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from edge_values import ACCOUNT, PEPPERS, account, token
from edge_values import client_id as client_id_of
from foregate.access.haproxy import EdgeRecords, compile_edge
from foregate.access.haproxy_maps import overlay_line, token_entry
from foregate.edge.wire import AccountValue, AppValue, IngressValue, KeysValue, SigningKey, TokenValue
from foregate.engines.haproxy.binary import find_binary
from foregate.engines.haproxy.config import Bind, Files, Settings
from foregate.engines.haproxy.control import TokenMap
from foregate.engines.haproxy.maps import HotKey, MapLine, file_text, hot_line, overlay_text
from foregate.engines.haproxy.process import Launch, Worker, Workers
from foregate.engines.haproxy.render import render
from harness.ports import free_ports
from harness.waiting import until

T = TypeVar("T")
KEYS = KeysValue((SigningKey("k" * 64, {"kid": "k" * 64, "kty": "RSA"}, "-----BEGIN CERTIFICATE-----", ""),))


@dataclass(slots=True)
class Agent:
    """Answers workers. `is_silent`: breaks off; `delay_seconds`: takes its time; `asked`: what it was asked."""

    entries: dict[str, str]
    is_silent: bool = False
    delay_seconds: float = 0.0
    session_seconds: int = 3600
    asked: list[dict[str, Any]] = field(default_factory=list)
    hot: list[MapLine] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question."""
        asked = json.loads(await reader.readline())
        self.asked.append(asked)
        await asyncio.sleep(self.delay_seconds)
        if not self.is_silent:
            refresh_at = int(time.time()) + self.session_seconds
            text = assertion(asked["app"], asked.get("client_id", asked.get("host")), asked.get("policy", "metadata"))
            self._remember(asked, text, refresh_at)
            writer.write(orjson.dumps({"assertion": text, "refresh_at": refresh_at}) + b"\n")
        writer.close()

    def _remember(self, asked: dict[str, Any], text: str, refresh_at: int) -> None:
        entry = self.entries.get(asked.get("client_id", ""))
        if entry is None:
            return
        key = HotKey(asked["hot"], asked["tag"], asked["client_id"], asked["app"], asked["policy"])
        line = hot_line(key, entry, text, refresh_at)
        if line is not None:
            self.hot.append(line)


def assertion(app_id: str, client_id: str, policy_id: str) -> str:
    """What stands in for a signed assertion: three parts, as a JWT has, that tell whom it is for."""
    return f"{app_id}.{client_id}.{policy_id}"


class RunningWorker:
    """A worker. `port` speaks HTTP, `tls_port` HTTPS; `spools` are its spool file and those of its predecessors."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop, settings: Settings, records: EdgeRecords) -> None:
        self.folder = folder
        self.settings = settings
        self.records = records
        self.port, self.tls_port = (int(bind.address.rpartition(":")[2]) for bind in settings.binds[:2])
        self.entries: dict[str, str] = {}
        self.agent = Agent(self.entries)
        self.spools: list[Path] = []
        self.workers = Workers(find_binary())
        self.worker: Worker
        self._loop = loop
        self._numbers = itertools.count(1)
        self._generation = 1

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do it, and wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def launch(self, records: EdgeRecords | None = None) -> Launch:
        """A launch of the next worker. Its base map has all tokens, its overlay is empty."""
        name = f"w{next(self._numbers)}"
        maps = self.folder / f"maps-{name}"
        maps.mkdir()
        (maps / "base.map").write_text("".join(file_text(MapLine(key, entry) for key, entry in self.entries.items())))
        (maps / "overlay.map").write_text(overlay_text(()))
        (maps / "hot.map").touch()
        socket = self.folder / f"{name}.sock"
        files = render(compile_edge(records or self.records, self.settings), socket)
        paths = (self.folder / name, maps, socket, self.folder / f"{name}.spool", self.folder / "log")
        return Launch(name, files, *paths, PEPPERS, self._generation)

    def start(self, records: EdgeRecords | None = None) -> Worker:
        """Start a worker, in place of the one that runs. Returns the old one, or the new one if there was none."""
        launch = self.launch(records)
        old = getattr(self, "worker", None)
        self.worker = self.run(self.workers.start(launch, old))
        self.spools.append(launch.spool)
        return old or self.worker

    def put(self, number: int, value: TokenValue | None, *, worker: Worker | None = None) -> None:
        """Make a token's change known, as the edge's agent does."""
        name = client_id_of(number)
        entry = None if value is None else token_entry(name, value)
        if entry is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = entry
        control = (worker or self.worker).control
        self._generation += 1
        self.run(control.put_overlay([overlay_line(name, entry)]))
        self.run(control.raise_generation(self._generation))

    def heat(self) -> int:
        """Put what the agent has signed into hot.map. Returns how many entries."""
        lines, self.agent.hot = {line.key: line for line in self.agent.hot}, []
        self.run(self.worker.control.add_hot(lines.values()))
        return len(lines)

    def fold(self) -> None:
        """Move the overlay into the base."""
        control = self.worker.control
        self.run(control.replace(TokenMap.HOT, []))
        self.run(control.replace(TokenMap.BASE, [MapLine(key, entry) for key, entry in self.entries.items()]))
        self.run(control.replace(TokenMap.OVERLAY, []))

    def events(self) -> list[dict[str, Any]]:
        """All events so far, in the order in which they were written."""
        lines = (line for spool in self.spools for line in spool.read_bytes().split(b"\n"))
        return [orjson.loads(line) for line in lines if line.startswith(b"{")]

    def event(self, ray: str | None) -> dict[str, Any]:
        """The event of an answer."""
        assert ray
        return until(lambda: next((e for e in self.events() if e["ray"] == ray), None), 5, f"the event of {ray}")


def records_of(
    apps: Mapping[str, AppValue] | None = None,
    *ingresses: IngressValue,
    accounts: Mapping[str, AccountValue] | None = None,
) -> EdgeRecords:
    """Records with one account, unless others are given."""
    known = accounts or {ACCOUNT: account()}
    return EdgeRecords(apps or {}, {value.hostname: value for value in ingresses}, known, dict.fromkeys(known, KEYS))


@contextmanager
def running_worker(
    folder: Path,
    records: EdgeRecords,
    *,
    tokens: int = 9,
    certificates: Path | None = None,
    pepper_versions: tuple[int, ...] = (1, 2),
    trusted_proxies: tuple[str, ...] = (),
    proxy_protocol_from: tuple[str, ...] = (),
) -> Iterator[RunningWorker]:
    """A worker that knows tokens 1 to `tokens`, and its agent, until the block ends."""
    port, tls_port = free_ports(2)
    binds = [Bind(f"127.0.0.1:{port}")]
    binds.append(Bind(f"127.0.0.1:{tls_port}", is_tls=certificates is not None))
    agent_socket = folder / "agent.sock"
    sockets = (agent_socket, folder / "serving.sock", folder / "serving-tls.sock")
    files = Files(folder, folder / "maps", certificates or folder, *sockets)
    settings = Settings(
        files,
        tuple(binds),
        pepper_versions,
        trusted_proxies=trusted_proxies,
        proxy_protocol_from=proxy_protocol_from,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="worker", daemon=True)
    thread.start()
    running = RunningWorker(folder, loop, settings, records)
    running.entries.update({client_id_of(n): token_entry(client_id_of(n), token(n)) for n in range(1, tokens + 1)})

    async def listen() -> asyncio.Server:
        return await asyncio.start_unix_server(running.agent.serve, str(agent_socket))

    server = running.run(listen())
    try:
        running.start()
        yield running
    finally:
        if hasattr(running, "worker"):
            running.run(running.worker.kill())
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
