"""A real HAProxy worker with a world's records compiled into it, and the events that it writes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from differential.exchange import start_assertion_agent, start_origin
from edge_values import PEPPERS
from foregate.access.haproxy import EdgeRecords, compile_edge
from foregate.access.haproxy_maps import overlay_line, token_entry
from foregate.access.model import Knowledge
from foregate.edge.wire import IngressValue, KeysValue, SigningKey, TokenValue
from foregate.engines.haproxy.config import Bind, Files, Settings
from foregate.engines.haproxy.maps import MapLine, file_text
from foregate.engines.haproxy.process import Launch, Worker, Workers, find_binary
from foregate.engines.haproxy.render import render
from worlds import PROXY

DEADLINE_SECONDS = 20


class EdgeUnderTest:
    """A worker on one loopback port. `port` is open on 127.0.0.1."""

    def __init__(self, worker: Worker, port: int, spool: Path) -> None:
        self.port = port
        self._worker = worker
        self._spool = spool
        self._generation = 1

    async def tell(self, changed: Mapping[str, TokenValue | None]) -> None:
        """Make token changes known, as the edge's agent does; None deletes."""
        lines = [
            overlay_line(name, None if value is None else token_entry(name, value)) for name, value in changed.items()
        ]
        self._generation += 1
        await self._worker.control.put_overlay(lines)
        await self._worker.control.raise_generation(self._generation)

    async def events(self, count: int) -> list[dict[str, Any]]:
        """All events, once there are `count` of them."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        while True:
            lines = [line for line in self._spool.read_bytes().splitlines() if line.startswith(b"{")]
            if len(lines) >= count or asyncio.get_running_loop().time() > deadline:
                return [json.loads(line) for line in lines]
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_edge(known: Knowledge, folder: Path) -> AsyncIterator[EdgeUnderTest]:
    """An edge that knows `known`, with an origin behind every ingress and an assertion agent, until the block ends."""
    origin = await start_origin(str(folder / "origin"))
    agent = await start_assertion_agent(str(folder / "agent"))
    maps = folder / "maps"
    maps.mkdir()
    entries = (MapLine(name, token_entry(name, value)) for name, value in known.tokens.items())
    (maps / "base.map").write_text("".join(file_text(entries)))
    (maps / "overlay.map").touch()
    (maps / "hot.map").touch()
    port = free_port()
    files = Files(folder / "worker", maps, folder / "certs", folder / "agent")
    settings = Settings(files, (Bind(f"127.0.0.1:{port}"),), tuple(PEPPERS), trusted_proxies=(f"{PROXY}/32",))
    launch = Launch(
        name="worker",
        files=render(compile_edge(_records(known, folder), settings), folder / "control"),
        folder=folder / "worker",
        maps=maps,
        socket=folder / "control",
        spool=folder / "spool",
        log=folder / "log",
        peppers=PEPPERS,
    )
    worker = await Workers(find_binary(os.environ.get("FOREGATE_HAPROXY", ""))).start(launch)
    try:
        yield EdgeUnderTest(worker, port, launch.spool)
    finally:
        await worker.kill()
        for server in (origin, agent):
            server.close()


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _records(known: Knowledge, folder: Path) -> EdgeRecords:
    def behind_origin(ingress: IngressValue) -> IngressValue:
        return replace(ingress, rules=tuple(replace(r, service=f"unix:{folder / 'origin'}") for r in ingress.rules))

    keys = KeysValue((SigningKey("k" * 64, {"kid": "k" * 64}, "certificate", ""),))
    ingresses = {name: behind_origin(value) for name, value in known.ingress.items()}
    return EdgeRecords(known.apps, ingresses, known.accounts, dict.fromkeys(known.accounts, keys))
