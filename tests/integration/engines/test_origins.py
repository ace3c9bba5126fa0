"""Every kind of origin, and what is answered where one cannot be reached."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_values import ACCOUNT, OTHER_ACCOUNT, account, app, policy
from foregate.access.haproxy import EdgeRecords
from foregate.edge.wire import IngressRule, IngressValue, OriginSettings
from harness.http1 import Answer, Connection
from harness.origin import Origin, running_origin
from harness.ports import free_ports
from integration.engines.certificates import server_context, write_certificate
from integration.engines.running_worker import RunningWorker, records_of, running_worker

OPEN = policy("00000000-0000-4000-8000-0000000000b1", "bypass")
NAMES = ("plain", "unnamed", "tls", "tls-other", "tls-untrusted", "tls-unverified", "tls-by-host", "unix", "http2",
         "down", "slow", "broken", "fixed", "paths", "foreign")  # fmt: skip


def one(service: str, **settings: object) -> tuple[IngressRule, ...]:
    return (IngressRule("", service, replace(OriginSettings(), **settings)),)


@contextmanager
def running_rude_origin() -> Iterator[int]:
    """Takes requests and says nothing; hangs up at once where the request asks for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                if b"/hang-up" in connection.recv(65536):
                    connection.close()
                held.append(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("w")


@pytest.fixture(scope="module")
def origins(folder: Path) -> Iterator[dict[str, Origin]]:
    write_certificate(folder / "origin.pem", "origin.internal", "tls-by-host.test")
    with (
        running_origin() as plain,
        running_origin(tls=server_context(folder / "origin.pem")) as tls,
        running_origin(unix=folder / "origin.sock") as unix,
    ):
        yield {"plain": plain, "tls": tls, "unix": unix}


@pytest.fixture(scope="module")
def worker(folder: Path, origins: dict[str, Origin]) -> Iterator[RunningWorker]:
    certificate = (folder / "origin.pem").read_text().partition("-----BEGIN PRIVATE KEY-----")[0]
    tls, plain, (nobody,) = origins["tls"].service, origins["plain"].service, free_ports(1)
    known = {"ca_pool": certificate}
    with running_rude_origin() as rude:
        rules = {
            "plain": one(plain, http_host_header="inner.example"),
            "tls": one(tls, origin_server_name="origin.internal", **known),
            "tls-other": one(tls, origin_server_name="other.internal", **known),
            "tls-untrusted": one(tls, origin_server_name="origin.internal"),
            "tls-unverified": one(tls, no_tls_verify=True),
            "tls-by-host": one(tls, match_sni_to_host=True, **known),
            "unix": one(origins["unix"].service),
            "http2": one(plain, http2_origin=True),
            "down": one(f"http://127.0.0.1:{nobody}"),
            "unnamed": one("http://no-such-name.invalid:80"),
            "slow": one(f"http://127.0.0.1:{rude}", response_timeout_seconds=0.3),
            "broken": one(f"http://127.0.0.1:{rude}"),
            "fixed": one("http_status:418"),
            "paths": (
                IngressRule(r"^/api/v\d+/", plain, OriginSettings()),
                IngressRule(r"\.json$", "http_status:204", OriginSettings()),
                IngressRule("^/it's \\(fine\\)", "http_status:205", OriginSettings()),
            ),
        }
        ingresses = {f"{name}.test": IngressValue(ACCOUNT, f"{name}.test", rules[name]) for name in rules}
        ingresses["foreign.test"] = IngressValue(OTHER_ACCOUNT, "foreign.test", one(plain))
        names = [f"{name}.test" for name in (*NAMES, "nowhere")]
        apps = {f"00000000-0000-4000-8000-{n:012x}": app(name, policies=[OPEN]) for n, name in enumerate(names)}
        records = EdgeRecords(apps, ingresses, {ACCOUNT: account(), OTHER_ACCOUNT: account()}, records_of().keys)
        with running_worker(folder, records) as worker:
            yield worker


def get(worker: RunningWorker, name: str, path: str = "/x") -> Answer:
    with Connection(worker.port) as connection:
        return connection.request("GET", path, [("Host", f"{name}.test")])


@pytest.mark.parametrize("name", ["plain", "tls", "tls-unverified", "tls-by-host", "unix"])
def test_an_origin_is_reached(worker: RunningWorker, origins: dict[str, Origin], name: str) -> None:
    answer = get(worker, name, f"/{name}?q")

    kind = name.partition("-")[0]
    assert answer.status == 200
    got = origins[kind].marked(f"/{name}?q")[0]
    assert got.header("host") == ("inner.example" if name == "plain" else f"{name}.test")


@pytest.mark.parametrize(
    ("name", "path", "status", "said", "ends"),
    [
        ("down", "/x", 502, "connection was refused", "SC"),
        ("unnamed", "/x", 502, "host name is not known", "SC"),
        ("tls-other", "/x", 502, "certificate different from the expected one", "SC"),
        ("tls-untrusted", "/x", 502, "SSL handshake failure", "SC"),
        ("http2", "/x", 502, "cannot be reached", "SC"),
        ("broken", "/hang-up", 502, "broke off", "SH"),
        ("slow", "/x", 504, "too long", "sH"),
        ("nowhere", "/x", 502, "No ingress", "LR"),
        ("foreign", "/x", 502, "No ingress", "LR"),
        ("paths", "/x", 502, "No ingress", "LR"),
    ],
)
def test_what_is_wrong_with_an_origin_is_said_and_in_the_event(
    worker: RunningWorker, name: str, path: str, status: int, said: str, ends: str
) -> None:
    answer = get(worker, name, path)

    body = answer.json()
    assert (answer.status, body["status_code"]) == (status, status)
    assert said in body["message"] + body["cause"]
    assert body["ray_id"] == answer.header("cf-ray")
    event = worker.event(answer.header("cf-ray"))
    assert (event["why"], event["st"], event["end"]) == ("bypass", status, ends)


def test_a_refused_connection_is_answered_at_once(worker: RunningWorker) -> None:
    begun = time.monotonic()

    assert get(worker, "down").status == 502
    assert time.monotonic() - begun < 0.9


def test_an_origin_that_was_restarted_is_reached_by_the_next_request(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    apps = {"00000000-0000-4000-8000-0000000000aa": app("restarted.test", policies=[OPEN])}
    known = IngressValue(ACCOUNT, "restarted.test", one(f"http://127.0.0.1:{port}"))
    with running_worker(tmp_path, records_of(apps, known)) as worker:
        for _ in range(3):
            with running_origin(port=port):
                assert [get(worker, "restarted").status for _ in range(5)] == [200] * 5
            assert get(worker, "restarted").status == 502


def test_an_origin_may_answer_503_itself(worker: RunningWorker) -> None:
    with Connection(worker.port) as connection:
        answer = connection.request("GET", "/x", [("Host", "plain.test"), ("X-Origin-Status", "503")])

    assert answer.status == 503
    assert worker.event(answer.header("cf-ray"))["st"] == 503


def test_the_first_path_that_fits_chooses_the_origin(worker: RunningWorker, origins: dict[str, Origin]) -> None:
    assert get(worker, "paths", "/api/v2/a.json").status == 200
    assert origins["plain"].marked("/api/v2/a.json")
    assert get(worker, "paths", "/api/x.json").status == 204
    assert get(worker, "fixed").status == 418


def test_a_long_answers_event_does_not_wait_for_its_end(worker: RunningWorker) -> None:
    with Connection(worker.port) as connection:
        connection.send(b"GET /bytes/20000000 HTTP/1.1\r\nHost: plain.test\r\n\r\n")
        deadline = time.monotonic() + 5
        while not any(event["path"] == "/bytes/20000000" for event in worker.events()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

        assert len(connection.read_answer().body) == 20_000_000
    assert len([event for event in worker.events() if event["path"] == "/bytes/20000000"]) == 1
