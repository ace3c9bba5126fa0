"""A control plane made of the feed's real endpoints, an origin that echoes, and the real edge process with HAProxy."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI

from edge_values import ACCOUNT, PEPPERS, account, app, client_id, ingress, pair, policy, rule, token
from foregate.core.records import seal
from foregate.database.engine import AsyncDatabase
from foregate.database.migrate import upgrade
from foregate.database.sqlite import SqliteDatabase
from foregate.database.telemetry_schema import INGEST
from foregate.edge import wire
from foregate.edge.feed import EventBatch, FeedParts, feed_router
from foregate.edge.feed_gates import KeyGate
from foregate.edge.followers import Followers
from foregate.edge.sealing import seal_signing_key
from foregate.edge.secrets import EdgeSecrets
from foregate.engines.haproxy.control import TokenMap, open_control
from foregate.eventlog.model import EDGE_CONFIG, Entry
from foregate.eventlog.sql import SqlLog
from foregate.services.home import Facts, Home, open_home, write_facts
from harness.ports import free_ports
from harness.processes import kill_all
from harness.sockets import outside_folders

DEADLINE_SECONDS = 15.0
EDGE_KEY = "fgek_" + "k" * 48
EDGE_ID = "00000000-0000-4000-8000-0000000000ed"
AUTH_DOMAIN = "auth.test"
HOST = "app.test"
# Of the usual length: only then may HAProxy remember an assertion (`engines/haproxy/maps.py`).
APP_ID, POLICY_ID = "00000000-0000-4000-8000-0000000000a1", "00000000-0000-4000-8000-0000000000b1"
SECRETS = EdgeSecrets(PEPPERS, os.urandom(32), os.urandom(32))

Value = wire.TokenValue | wire.AppValue | wire.IngressValue | wire.KeysValue | wire.AccountValue | wire.EdgeValue


def free_port() -> int:
    return free_ports(1)[0]


async def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """The condition's value once it holds; AssertionError at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = await asyncio.to_thread(condition)
        if found:
            return found
        assert time.monotonic() < deadline, f"did not come to be: {what or condition}"
        await asyncio.sleep(0.01)


@cache
def signing_key() -> tuple[rsa.RSAPrivateKey, dict[str, str]]:
    key = rsa.generate_private_key(65537, 2048)
    n = key.public_key().public_numbers().n
    encoded = base64.urlsafe_b64encode(n.to_bytes(256, "big")).rstrip(b"=").decode()
    return key, {"kid": "kid-1", "kty": "RSA", "alg": "RS256", "use": "sig", "e": "AQAB", "n": encoded}


def keys_value() -> wire.KeysValue:
    key, jwk = signing_key()
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return wire.KeysValue((wire.SigningKey("kid-1", jwk, "", seal_signing_key(SECRETS.sealing_key, "kid-1", pem)),))


class ControlPlane:
    """The feed's endpoints over a real log. `lines` are the events it has taken, by worker."""

    def __init__(self, folder: Path) -> None:
        upgrade(folder / "telemetry.db", "telemetry")
        self.telemetry = AsyncDatabase(SqliteDatabase(folder / "telemetry.db", INGEST), readers=1)
        self.port = free_port()
        self.seq = 0
        self.edge_key = EDGE_KEY
        self.secrets = SECRETS
        self.files: dict[str, bytearray] = {}
        self.final: set[str] = set()
        self.reports: list[dict[str, Any]] = []
        self._followers = Followers(self.telemetry, SqlLog, mac_key=SECRETS.record_mac_key)
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        gate = KeyGate(self._authenticate, lambda: self.secrets)
        parts = FeedParts(self._followers, gate, self._ingest, self._take_report)
        api = FastAPI()
        api.include_router(feed_router(parts))
        await self._followers.start()
        config = uvicorn.Config(api, host="127.0.0.1", port=self.port, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Go away, as when the process ends; what it has stays."""
        if self._server is None or self._serving is None:
            return
        self._followers.close()
        self._server.should_exit = self._server.force_exit = True
        await self._serving
        self._server = None
        self._followers = Followers(self.telemetry, SqlLog, mac_key=SECRETS.record_mac_key)

    async def put(self, **values: Value | None) -> int:
        """Publish records; the last seq. Names: `token_1`, `app_x`; others with `publish`."""
        return await self.publish({name.replace("_", "/", 1): value for name, value in values.items()})

    async def publish(self, values: dict[str, Value | None]) -> int:
        entries = []
        for key, value in values.items():
            self.seq += 1
            record = seal(self.secrets.record_mac_key, key, self.seq, None if value is None else value.to_wire())
            entries.append(Entry(key, self.seq, orjson.dumps(record.to_wire()), value is None))
        await self.telemetry.write(lambda c: SqlLog(c).put(EDGE_CONFIG, entries, 0))
        self._followers.publish([(entry.offset, entry.value) for entry in entries])
        return self.seq

    async def publish_wire(self, record: dict[str, Any]) -> None:
        """A record as somebody else has sealed it."""
        self.seq = int(record["seq"])
        entry = Entry(str(record["key"]), self.seq, orjson.dumps(record))
        await self.telemetry.write(lambda c: SqlLog(c).put(EDGE_CONFIG, [entry], 0))
        self._followers.publish([(entry.offset, entry.value)])

    def applied(self) -> int:
        return int(self.reports[-1]["applied_seq"]) if self.reports else -1

    def events(self) -> list[dict[str, Any]]:
        lines = [line for taken in self.files.values() for line in bytes(taken).splitlines()]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    async def _authenticate(self, header: str) -> str | None:
        return EDGE_ID if header == f"Edge {EDGE_ID}:{self.edge_key}" else None

    async def _ingest(self, batch: EventBatch) -> int:
        lines = zlib.decompress(batch.body)
        taken = self.files.setdefault(batch.worker, bytearray())
        assert batch.offset <= len(taken), "bytes were jumped over"
        taken.extend(lines[len(taken) - batch.offset :])
        if batch.is_final:
            self.final.add(batch.worker)
        return len(taken)

    async def _take_report(self, _: str, report: dict[str, Any]) -> None:
        self.reports.append(report)


class Origin:
    """Answers with the request's path and headers as JSON, after `delay_seconds`; `waiting`: how many wait now."""

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self.waiting = 0
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if origin.delay_seconds:
                    origin.waiting += 1
                    time.sleep(origin.delay_seconds)
                    origin.waiting -= 1
                body = json.dumps({"path": self.path, "headers": dict(self.headers)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                return  # HAProxy may reset a connection that it no longer needs

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Edge:
    """`foregate edge` with a home of its own. `start` and `kill` as often as a test likes."""

    def __init__(self, folder: Path, control_plane_port: int) -> None:
        self.home: Home = open_home(folder / "home")
        write_facts(self.home, Facts(ACCOUNT, EDGE_ID))
        self.home.edge_key.write_text(EDGE_KEY + "\n")
        self.home.edge_key.chmod(0o600)
        self.http_port, self.https_port = free_port(), free_port()
        self.log = folder / "edge.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FOREGATE_")},
            "FOREGATE_HOME": str(self.home.root),
            "FOREGATE_API_PORT": str(control_plane_port),
            "FOREGATE_HTTP_PORT": str(self.http_port),
            "FOREGATE_HTTPS_PORT": str(self.https_port),
            "FOREGATE_EDGE_THREADS": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "foregate", "edge"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    async def signal(self, number: signal.Signals) -> int:
        """Send a signal to the agent and wait for its end; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, DEADLINE_SECONDS)

    def status(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.home.edge / "status.json").read_text()))
        except FileNotFoundError:
            return {}

    def worker_pid(self) -> int:
        """The newest HAProxy on the roster."""
        roster = json.loads((self.home.edge / "workers.json").read_text())
        return int(roster[-1]["identity"]["pid"])

    def hot_entries(self) -> int:
        """How many assertions the worker that serves remembers."""
        roster = json.loads((self.home.edge / "workers.json").read_text())

        async def count() -> int:
            control = await open_control(Path(roster[-1]["identity"]["socket"]))
            try:
                return await control.count(TokenMap.HOT)
            finally:
                await control.close()

        return asyncio.run(count())

    def get(self, number: int | None, path: str = "/", host: str = HOST, version: int = 1) -> int:
        """The status of a request with token `number` on a connection of its own; 0 where there is no answer."""
        return self.ask(number, path, host, version)[0]

    def ask(
        self, number: int | None, path: str = "/", host: str = HOST, version: int = 1
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path, headers=headers_for(number, host, version))
            response = connection.getresponse()
            body = response.read()
            is_json = response.status == 200 and body.startswith(b"{")
            return response.status, json.loads(body) if is_json else {}
        except (OSError, http.client.HTTPException):
            return 0, {}
        finally:
            connection.close()

    def end(self) -> None:
        """Leave nothing behind, whatever the test did: not a worker either that was just being started."""
        kill_all(self.home.root)
        if self.process is not None:
            self.process.wait()
        assert outside_folders(self.home.root) == []


def headers_for(number: int | None, host: str = HOST, version: int = 1) -> dict[str, str]:
    return {"Host": host, **(dict(pair(number, version)) if number is not None else {})}


class Clients:
    """Threads that ask without a pause; `answers` counts statuses, 0 for a request without an answer."""

    def __init__(self, edge: Edge, number: int, count: int = 2) -> None:
        self.answers: dict[int, int] = {}
        self._log: list[tuple[float, int]] = []
        self._edge, self._number = edge, number
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def total(self) -> int:
        return sum(self.answers.values())

    def asked_after(self, moment: float) -> list[int]:
        """The statuses of requests that were begun after `moment` (monotonic)."""
        with self._lock:
            return [status for started, status in self._log if started > moment]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._edge.http_port, timeout=10)
        while not self._is_over.is_set():
            started = time.monotonic()
            status = self._once(connection)
            with self._lock:
                self._log.append((started, status))
                self.answers[status] = self.answers.get(status, 0) + 1
        connection.close()

    def _once(self, connection: http.client.HTTPConnection) -> int:
        """One request; on a kept connection that was closed meanwhile, one more try, as every client does."""
        for _ in range(2):
            was_open = connection.sock is not None
            try:
                connection.request("GET", "/", headers=headers_for(self._number))
                response = connection.getresponse()
                response.read()
                if response.will_close:
                    connection.close()
                return response.status
            except (ConnectionError, http.client.RemoteDisconnected):
                connection.close()
                if not was_open:
                    return 0
            except (OSError, http.client.HTTPException):
                connection.close()
                return 0
        return 0


class World:
    """All three, with one application that lets any valid token through."""

    def __init__(self, plane: ControlPlane, edge: Edge, origin: Origin) -> None:
        self.plane, self.edge, self.origin = plane, edge, origin

    async def settled(self, seq: int | None = None) -> None:
        """The edge has reported that everything up to `seq` is in force."""
        wanted = self.plane.seq if seq is None else seq
        await eventually(lambda: self.plane.applied() >= wanted, f"applied {wanted}, not {self.plane.applied()}")

    async def serve(self, *numbers: int) -> None:
        """An application, its origin, and tokens; waits until the edge serves them."""
        rules = [policy(POLICY_ID, "non_identity", rule(wire.AnyTokenSelector()), seconds=3600)]
        await self.plane.publish(
            {
                f"account/{ACCOUNT}": account(auth_domain=AUTH_DOMAIN),
                f"keys/{ACCOUNT}": keys_value(),
                f"app/{APP_ID}": app(HOST, policies=rules),
                f"ingress/{HOST}": ingress(HOST, service=self.origin.url),
                **{f"token/{client_id(number)}": token(number) for number in numbers},
            }
        )
        await self.settled()


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    plane = ControlPlane(folder)
    edge = Edge(folder, plane.port)
    with closing(Origin()) as origin:
        try:
            await plane.start()
            edge.start()
            yield World(plane, edge, origin)
        finally:
            edge.end()
            await plane.stop()
            plane.telemetry.close()


@contextmanager
def closing(origin: Origin) -> Iterator[Origin]:
    try:
        yield origin
    finally:
        origin.close()
