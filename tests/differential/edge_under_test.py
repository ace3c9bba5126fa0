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

from differential.exchange import FAR_FUTURE, start_assertion_agent, start_origin
from edge_values import PEPPERS
from foregate.access.haproxy import EdgeRecords, compile_edge
from foregate.access.haproxy_maps import overlay_line, token_entry
from foregate.access.model import Knowledge
from foregate.edge.wire import IngressValue, KeysValue, SigningKey, TokenValue
from foregate.engines.haproxy.binary import find_binary
from foregate.engines.haproxy.config import Bind, Files, Settings
from foregate.engines.haproxy.control import TokenMap
from foregate.engines.haproxy.maps import HotKey, MapLine, file_text, hot_line, overlay_text
from foregate.engines.haproxy.process import Launch, Worker, Workers
from foregate.engines.haproxy.render import render
from worlds import PROXY

DEADLINE_SECONDS = 20


class EdgeUnderTest:
    """A worker on one loopback port. `port` is open on 127.0.0.1."""

    def __init__(self, worker: Worker, port: int, spool: Path, tokens: Mapping[str, TokenValue]) -> None:
        self.port = port
        self._worker = worker
        self._spool = spool
        self._generation = 1
        self._entries = {name: token_entry(name, value) for name, value in tokens.items()}
        self._hot: set[str] = set()
        self._waiting: list[tuple[dict[str, Any], str]] = []

    def notice(self, asked: dict[str, Any], assertion: str) -> None:
        """An assertion was made: `settle` makes the worker remember it."""
        if "hot" in asked:
            self._waiting.append((asked, assertion))

    async def settle(self) -> None:
        """Add hot entries for what was asked, as the edge's agent does a little later than here."""
        waiting, self._waiting = self._waiting, []
        for asked, assertion in waiting:
            name = asked["client_id"]
            key = HotKey(asked["hot"], asked["tag"], name, asked["app"], asked["policy"])
            line = hot_line(key, self._entries[name], assertion, FAR_FUTURE) if name in self._entries else None
            if line is not None and key.key not in self._hot:
                self._hot.add(key.key)
                await self._worker.control.add_hot([line])

    async def tell(self, changed: Mapping[str, TokenValue | None]) -> None:
        """Make token changes known, as the edge's agent does; None deletes."""
        entries = {name: None if value is None else token_entry(name, value) for name, value in changed.items()}
        merged = self._entries | entries
        self._entries = {name: entry for name, entry in merged.items() if entry is not None}
        self._generation += 1
        await self._worker.control.put_overlay([overlay_line(name, entry) for name, entry in entries.items()])
        await self._worker.control.raise_generation(self._generation)

    async def fold(self) -> None:
        """Put what changed into the base map, in the order that `Control.replace` asks for."""
        self._hot.clear()
        await self._worker.control.replace(TokenMap.HOT, [])
        lines = [MapLine(name, entry) for name, entry in self._entries.items()]
        await self._worker.control.replace(TokenMap.BASE, lines)
        await self._worker.control.replace(TokenMap.OVERLAY, [])

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
    maps = folder / "maps"
    maps.mkdir()
    entries = (MapLine(name, token_entry(name, value)) for name, value in known.tokens.items())
    (maps / "base.map").write_text("".join(file_text(entries)))
    (maps / "overlay.map").write_text(overlay_text(()))
    (maps / "hot.map").touch()
    port = free_port()
    sockets = (folder / "agent", folder / "serving", folder / "serving-tls")
    files = Files(folder / "worker", maps, folder / "certs", *sockets)
    settings = Settings(files, (Bind(f"127.0.0.1:{port}"),), tuple(PEPPERS), trusted_proxies=(f"{PROXY}/32",))
    launch = Launch(
        name="worker",
        files=_always_remembering(render(compile_edge(_records(known, folder), settings), folder / "control")),
        folder=folder / "worker",
        maps=maps,
        socket=folder / "control",
        spool=folder / "spool",
        log=folder / "log",
        peppers=PEPPERS,
    )
    worker = await Workers(find_binary(os.environ.get("FOREGATE_HAPROXY", ""))).start(launch)
    edge = EdgeUnderTest(worker, port, launch.spool, known.tokens)
    agent = await start_assertion_agent(str(folder / "agent"), edge.notice)
    try:
        yield edge
    finally:
        await worker.kill()
        for server in (origin, agent):
            server.close()


def _always_remembering(files: Mapping[str, str]) -> Mapping[str, str]:
    """A connection remembers one in sixteen of the requests that it could; here every one."""
    chance = "acl is_lucky rand(16) eq 0"
    assert files["haproxy.cfg"].count(chance) == 1
    return {**files, "haproxy.cfg": files["haproxy.cfg"].replace(chance, "acl is_lucky always_true")}


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
