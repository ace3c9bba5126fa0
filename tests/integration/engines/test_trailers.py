"""Trailers are judged by nobody, so none reaches an origin: not announced, not unannounced, by no version of HTTP."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_values import ANY_TOKEN, EVERYONE, app, ingress, pair, policy, rule
from harness.http1 import Connection
from harness.http2 import Http2Connection, StreamReset
from harness.origin import Origin, running_origin
from integration.engines.certificates import client_context, write_certificate
from integration.engines.running_worker import RunningWorker, records_of, running_worker

HOST = "app.test"
POLICY = "00000000-0000-4000-8000-0000000000a1"
TRAILERS = (("cf-access-jwt-assertion", "evil"), ("x-other", "evil"))
HEAD = f"POST /%s HTTP/1.1\r\nHost: {HOST}\r\n%sTransfer-Encoding: chunked\r\n\r\n"
BODY, END = b"2\r\nhi\r\n", b"0\r\n\r\n"
EVIL = b"0\r\nCf-Access-Jwt-Assertion: evil\r\nX-Other: evil\r\n\r\n"
CREDENTIALS = "".join(f"{name}: {value}\r\n" for name, value in pair(1))
# Often enough that a connection, and the worker, would remember the caller.
OFTEN = 40


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with running_origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificate") / "edge.pem"


@pytest.fixture(scope="module")
def trusting(certificate: Path) -> ssl.SSLContext:
    return client_context(write_certificate(certificate, HOST))


@pytest.fixture(scope="module")
def worker(
    tmp_path_factory: pytest.TempPathFactory, origin: Origin, certificate: Path, trusting: ssl.SSLContext
) -> Iterator[RunningWorker]:
    folder = tmp_path_factory.mktemp("w")
    tokens = policy(POLICY, "non_identity", rule(ANY_TOKEN))
    everyone = policy(f"{POLICY[:-1]}2", "bypass", rule(EVERYONE))
    apps = {
        "00000000-0000-4000-8000-0000000000aa": app(HOST, policies=[tokens]),
        "00000000-0000-4000-8000-0000000000bb": app(f"{HOST}/open", policies=[everyone]),
    }
    known = records_of(apps, ingress(HOST, service=origin.service))
    with running_worker(folder, known, certificates=certificate) as worker:
        yield worker


def head(path: str, *, announced: bool = False) -> bytes:
    more = "" if path.startswith("open") else CREDENTIALS
    return (HEAD % (path, more + ("Trailer: X-Other\r\n" if announced else ""))).encode()


@pytest.mark.parametrize("announced", [False, True], ids=["unannounced", "announced"])
@pytest.mark.parametrize("path", ["open/joined", "joined"])
def test_a_request_with_trailers_is_refused(worker: RunningWorker, origin: Origin, path: str, announced: bool) -> None:
    path = f"{path}-{announced}"
    with Connection(worker.port) as connection:
        answer = connection.exchange(head(path, announced=announced) + BODY + EVIL)

    assert answer.status == 400
    assert answer.json()["ray_id"] == answer.header("cf-ray")
    event = worker.event(answer.header("cf-ray"))
    assert (event["why"], event["st"], event["path"], event["host"]) == ("request_malformed", 400, f"/{path}", HOST)
    assert origin.marked(f"/{path}") == []


@pytest.mark.parametrize("path", ["open/later", "later"])
def test_trailers_that_come_later_are_not_passed_on(worker: RunningWorker, origin: Origin, path: str) -> None:
    """The origin has the body by then, but never learns that it has ended."""
    with Connection(worker.port) as connection:
        connection.send(head(path) + BODY)
        asked = [event for event in worker.events() if event["path"] == f"/{path}"]
        assert connection.exchange(EVIL).status == 400

    assert asked == [] and origin.marked(f"/{path}") == []


def test_a_body_of_chunks_is_judged_and_reaches_the_origin(worker: RunningWorker, origin: Origin) -> None:
    with Connection(worker.port) as connection:
        for number in range(OFTEN):
            answer = connection.exchange(head(f"chunks-{number}") + BODY + END)
            assert answer.status == 200
            (got,) = origin.marked(f"/chunks-{number}")
            assert got.body == b"hi"
            assert got.header("cf-ray") == answer.header("cf-ray")
            assert worker.event(answer.header("cf-ray"))["ip"] == "127.0.0.1"
        worker.heat()
        refused = connection.exchange(head("chunks-evil") + BODY + EVIL)

    assert refused.status == 400 and origin.marked("/chunks-evil") == []


def test_a_long_body_of_chunks_arrives_whole(worker: RunningWorker, origin: Origin) -> None:
    part = b"0123456789abcdef" * 4096
    with Connection(worker.port) as connection:
        connection.send(head("long"))
        for _ in range(40):
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        assert connection.exchange(END).status == 200

    (got,) = origin.marked("/long")
    assert got.body == part * 40


def test_a_body_of_chunks_without_credentials_is_refused(worker: RunningWorker) -> None:
    with Connection(worker.port) as connection:
        request = f"POST /none HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        assert connection.exchange(request + BODY + END).status == 403


@pytest.mark.parametrize("path", ["open/faulty", "faulty"])
def test_chunks_of_http_1_0_are_refused(worker: RunningWorker, origin: Origin, path: str) -> None:
    """An origin that takes the version at its word would take the body for more requests (RFC 9112 6.1)."""
    with Connection(worker.port) as connection:
        answer = connection.exchange(head(path).replace(b"HTTP/1.1", b"HTTP/1.0") + BODY + END)

    assert answer.status == 400
    assert worker.event(answer.header("cf-ray"))["why"] == "request_malformed"
    assert origin.marked(f"/{path}") == []


@pytest.mark.parametrize("authority", [":authority", "host"])
@pytest.mark.parametrize("length", [None, "2"], ids=["length unknown", "length known"])
@pytest.mark.parametrize("body", [b"", b"hi"], ids=["without a body", "with a body"])
@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE", "OPTIONS", "WEIRD"])
def test_no_trailers_of_http2_reach_the_origin(
    worker: RunningWorker,
    origin: Origin,
    trusting: ssl.SSLContext,
    method: str,
    body: bytes,
    length: str | None,
    authority: str,
) -> None:
    path = f"/h2/{method}/{body.decode()}/{length}/{authority}"
    pseudo = [(":method", method), (":scheme", "https"), (":path", path), (authority, HOST)]
    headers = [*pseudo, *[(name.lower(), value) for name, value in pair(1)]]
    if length:
        headers.append(("content-length", str(len(body))))
    for _ in range(OFTEN if method == "GET" else 3):
        # An answer may be a refusal, the origin's, or none.
        with Http2Connection(worker.tls_port, trusting, HOST) as connection, contextlib.suppress(StreamReset):
            connection.read(connection.open(headers, body, TRAILERS))

    for got in origin.marked(path):
        assert "evil" not in repr(got)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_http2_without_a_length_reaches_the_origin(
    worker: RunningWorker, origin: Origin, trusting: ssl.SSLContext, method: str
) -> None:
    body = b"" if method == "GET" else b"hi" * 5_000
    pseudo = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", f"/length/{method}")]
    with Http2Connection(worker.tls_port, trusting, HOST) as connection:
        for _ in range(OFTEN):
            headers = [*pseudo, *[(name.lower(), value) for name, value in pair(1)]]
            assert connection.read(connection.open(headers, body)).status == 200

    assert {got.body for got in origin.marked(f"/length/{method}")} == {body}
    assert len(origin.marked(f"/length/{method}")) == OFTEN
