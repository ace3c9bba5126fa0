"""A worker that drains judges nobody any more: what is still asked on its connections is judged by its successor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_values import ANY_TOKEN, EVERYONE, app, ingress, pair, policy, rule
from foregate.access.haproxy import EdgeRecords
from foregate.engines.haproxy.process import Worker, WorkerFailed
from harness import websocket
from harness.http1 import Answer, Connection, encode
from harness.http2 import Http2Connection
from harness.origin import Origin, running_origin
from integration.engines.certificates import client_context, write_certificate
from integration.engines.running_worker import RunningWorker, records_of, running_worker

HOST = "app.test"
APP = "00000000-0000-4000-8000-0000000000aa"
OPEN = "00000000-0000-4000-8000-0000000000bb"
POLICY = "00000000-0000-4000-8000-0000000000a1"
PROXY_LINE = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n"
OFTEN = 40


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with running_origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("certificate") / "edge.pem"
    return path, write_certificate(path, HOST)


@pytest.fixture
def records(origin: Origin) -> EdgeRecords:
    apps = {
        APP: app(HOST, policies=[policy(POLICY, "non_identity", rule(ANY_TOKEN))]),
        OPEN: app(f"{HOST}/open", policies=[policy(f"{POLICY[:-1]}2", "bypass", rule(EVERYONE))]),
    }
    return records_of(apps, ingress(HOST, service=origin.service))


@pytest.fixture
def worker(tmp_path: Path, records: EdgeRecords, trusting: tuple[Path, str]) -> Iterator[RunningWorker]:
    with running_worker(tmp_path, records, certificates=trusting[0]) as worker:
        yield worker


def replace(worker: RunningWorker, records: EdgeRecords | None = None) -> Worker:
    """A successor serves, and the old worker knows it."""
    old = worker.start(records)
    worker.run(old.control.hand_over(1_000))
    return old


def ask(connection: Connection, path: str = "/", *, number: int | None = 1) -> Answer:
    return connection.request("GET", path, [("Host", HOST), *(pair(number) if number else [])])


def told(worker: RunningWorker, answer: Answer) -> dict[str, object]:
    """The one event of an answer."""
    event = worker.event(answer.header("cf-ray"))
    assert sum(found["ray"] == event["ray"] for found in worker.events()) == 1
    return event


@pytest.mark.parametrize("is_hot", [False, True], ids=["remembered by the connection", "hot"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_nothing_that_is_remembered_outlives_the_rules(
    worker: RunningWorker, records: EdgeRecords, trusting: tuple[Path, str], is_tls: bool, is_hot: bool
) -> None:
    tls = {"tls": client_context(trusting[1]), "server_name": HOST} if is_tls else {}
    with Connection(worker.tls_port if is_tls else worker.port, **tls) as connection:
        assert {ask(connection).status for _ in range(OFTEN)} == {200}
        if is_hot:
            assert worker.heat() > 0
            assert {ask(connection).status for _ in range(OFTEN)} == {200}
        replace(worker, records_of({}, *records.ingresses.values()))
        answer = ask(connection)
        assert (answer.status, answer.header("connection")) == (403, "close")
    assert told(worker, answer)["why"] == "no_application"


def test_what_was_open_to_all_is_so_no_longer(worker: RunningWorker, records: EdgeRecords) -> None:
    with Connection(worker.port) as connection:
        assert ask(connection, "/open", number=None).status == 200
        replace(worker, records_of({APP: records.apps[APP]}, *records.ingresses.values()))
        answer = ask(connection, "/open", number=None)
    assert answer.status == 403
    assert told(worker, answer)["why"] == "no_credentials"


def test_streams_of_an_old_connection_are_judged_by_the_new_rules(
    worker: RunningWorker, records: EdgeRecords, trusting: tuple[Path, str]
) -> None:
    headers = [(name.lower(), value) for name, value in pair(1)]
    with Http2Connection(worker.tls_port, client_context(trusting[1]), HOST) as connection:
        assert {connection.get(HOST, "/", headers).status for _ in range(OFTEN)} == {200}
        replace(worker, records_of({OPEN: records.apps[OPEN]}, *records.ingresses.values()))
        pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", HOST)]
        streams = [connection.open([*pseudo, (":path", path), *headers]) for path in ("/", "/open", "/") * 3]
        answers = [connection.read(stream) for stream in streams]
    assert [answer.status for answer in answers] == [403, 200, 403] * 3
    assert {str(told(worker, answer)["why"]) for answer in answers} == {"no_application", "bypass"}


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    ("method", "target", "more"),
    [
        ("GET", "/plain?q=%2e/..", []),
        ("GET", "/a/../b/./c//%7e?x", []),
        ("GET", "/a%2fb", []),
        ("GET", f"http://{HOST}/absolute/../x?q", []),
        ("OPTIONS", "*", []),
        ("GET", "/cdn-cgi/access/certs", []),
        ("POST", "/body", [("Content-Type", "text/plain")]),
        ("HEAD", "/head", []),
        ("GET", "/secret-twice", pair(1)),
        ("GET", "/connection", [("Connection", "Cf-Access-Jwt-Assertion")]),
        ("GET", "/upgrade", [("Connection", "Upgrade"), ("Upgrade", "h2c")]),
        ("GET", "/forged", [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "gopher"), ("Cf-Ray", "1")]),
        ("GET", "/cookie", [("Cookie", "a=1; CF_Authorization=x; b=2")]),
    ],
)
def test_a_request_that_is_handed_over_stays_what_it_is(
    worker: RunningWorker,
    origin: Origin,
    trusting: tuple[Path, str],
    is_tls: bool,
    method: str,
    target: str,
    more: list[tuple[str, str]],
) -> None:
    tls = {"tls": client_context(trusting[1]), "server_name": HOST} if is_tls else {}
    body = b"a body" if method == "POST" else b""
    request = encode(method, target, [("Host", HOST), *pair(1), *more], body)

    def connect() -> Connection:
        return Connection(worker.tls_port if is_tls else worker.port, **tls)

    def outcome(answer: Answer) -> tuple[object, ...]:
        ray = answer.header("cf-ray")
        event = {name: value for name, value in told(worker, answer).items() if name not in ("n", "c", "t", "ray")}
        got = [(r.method, r.target, r.body, _but_ray(r.headers)) for r in origin.received if r.header("cf-ray") == ray]
        return answer.status, _but_ray(answer.headers), event, got

    with connect() as kept:
        assert ask(kept).status == 200
        replace(worker)
        with connect() as fresh:
            direct = fresh.exchange(request, is_head=method == "HEAD")
        handed = kept.exchange(request, is_head=method == "HEAD")
    assert outcome(handed) == outcome(direct)


def _but_ray(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Sorted, as HAProxy puts what it adds at the end, and without what differs from request to request."""
    return sorted((name, value) for name, value in headers if name not in ("cf-ray", "connection", "date"))


def test_a_websocket_may_begin_on_an_old_connection(worker: RunningWorker) -> None:
    with Connection(worker.port) as connection:
        assert ask(connection).status == 200
        replace(worker)
        assert websocket.upgrade(connection, HOST, "/socket", pair(1)) == 101
        assert websocket.say(connection, "still here") == "still here"


def test_a_request_on_its_way_ends_where_it_began(worker: RunningWorker, records: EdgeRecords) -> None:
    """It was let through before; what is asked on the same connection later is judged anew."""
    with Connection(worker.port) as connection:
        connection.send(encode("GET", "/slow/0.5", [("Host", HOST), *pair(1)]))
        replace(worker, records_of({}, *records.ingresses.values()))
        assert connection.read_answer().status == 200


def test_a_connection_that_waited_through_several_workers_meets_the_newest(
    worker: RunningWorker, records: EdgeRecords
) -> None:
    with Connection(worker.port) as oldest, Connection(worker.port) as older:
        assert ask(oldest).status == ask(older).status == 200
        first = replace(worker)
        second = replace(worker, records_of({}, *records.ingresses.values()))
        worker.run(first.control.hand_over(2_000))
        assert ask(oldest).status == 403
        third = replace(worker)
        assert ask(older).status == 200
        for old in (first, second, third):
            worker.run(old.kill())


def test_the_address_of_a_handed_over_client_stays_what_a_trusted_proxy_says(
    tmp_path: Path, records: EdgeRecords
) -> None:
    with running_worker(
        tmp_path, records, trusted_proxies=("127.0.0.1/32",), proxy_protocol_from=("127.0.0.2/32",)
    ) as worker:
        forwarded = [("Host", HOST), ("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-Proto", "https")]
        forged = [*forwarded, *pair(1)]
        with (
            Connection(worker.port, source="127.0.0.1") as proxy,
            Connection(worker.port, source="127.0.0.2") as speaking,
            Connection(worker.port, source="127.0.0.3") as stranger,
        ):
            speaking.send(PROXY_LINE)
            for connection in (proxy, speaking, stranger):
                assert ask(connection, "/open").status == 200
            replace(worker)
            answers = [connection.request("GET", "/open", forged) for connection in (proxy, speaking, stranger)]
        assert [told(worker, answer)["ip"] for answer in answers] == ["198.51.100.7", "198.51.100.7", "127.0.0.3"]
        schemes = [dict(answer.json()["headers"])["x-forwarded-proto"] for answer in answers]
        assert schemes == ["https", "http", "http"]


def test_a_worker_whose_overlay_is_cut_off_never_serves(worker: RunningWorker) -> None:
    """Whoever was writing it was killed: without the rest, revoked tokens are let in and new ones turned away."""
    launch = worker.launch()
    overlay = launch.maps / "overlay.map"
    overlay.write_text(overlay.read_text().rpartition("end -")[0])
    with pytest.raises(WorkerFailed):
        worker.run(worker.workers.start(launch, worker.worker))
    with Connection(worker.port) as connection:
        assert ask(connection, "/open").status == 200
