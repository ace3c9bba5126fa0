"""What a connection, or a worker, remembers of earlier requests must never serve another caller, nor outlive a change.

A remembered request is one in sixteen at random, so the tests repeat far more often than that.
"""

from __future__ import annotations

import itertools
import random
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_values import ANY_TOKEN, EVERYONE, app, client_id, ingress, pair, policy, rule, secret_version, token
from edge_values import secret_of as secret_of_token
from foregate.edge.wire import IpSelector
from harness.http1 import Connection
from harness.http2 import Http2Connection
from harness.origin import Origin, running_origin
from harness.waiting import until
from integration.engines.certificates import client_context, write_certificate
from integration.engines.running_worker import RunningWorker, assertion, records_of, running_worker

APP = "00000000-0000-4000-8000-0000000000aa"
PUBLIC = "00000000-0000-4000-8000-0000000000bb"
BY_ADDRESS = "00000000-0000-4000-8000-0000000000cc"
TWO_PATHS = "00000000-0000-4000-8000-0000000000dd"
POLICY = "00000000-0000-4000-8000-0000000000a1"
OFTEN = 100
TOKENS = 40
HOSTS = ("app.test", "address.test", "paths.test")


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with running_origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    path = tmp_path_factory.mktemp("certificate") / "edge.pem"
    return path, client_context(write_certificate(path, *HOSTS))


@pytest.fixture
def worker(tmp_path: Path, origin: Origin, trusting: tuple[Path, ssl.SSLContext]) -> Iterator[RunningWorker]:
    tokens = policy(POLICY, "non_identity", rule(ANY_TOKEN))
    apps = {
        APP: app("app.test", policies=[tokens]),
        BY_ADDRESS: app(
            "address.test",
            policies=[policy(POLICY, "non_identity", rule(ANY_TOKEN, exclude=[IpSelector("127.0.0.3")]))],
        ),
        TWO_PATHS: app("paths.test", policies=[tokens]),
        PUBLIC: app("paths.test/public", policies=[policy(POLICY[:-1] + "2", "bypass", rule(EVERYONE))]),
    }
    known = records_of(apps, *(ingress(host, service=origin.service) for host in HOSTS))
    with running_worker(tmp_path, known, tokens=TOKENS, certificates=trusting[0]) as worker:
        yield worker


def ask(connection: Connection, number: int, path: str = "/", host: str = "app.test", *more: tuple[str, str]) -> int:
    return connection.request("GET", path, [("Host", host), *pair(number), *more]).status


@pytest.mark.parametrize("host", ["app.test", "paths.test"])
def test_a_connection_remembers_its_caller(worker: RunningWorker, host: str) -> None:
    with Connection(worker.port) as connection:
        assert {ask(connection, 1, host=host) for _ in range(OFTEN)} == {200}

    assert len(worker.agent.asked) < OFTEN


def test_hot_entries_spare_the_agent(worker: RunningWorker) -> None:
    with Connection(worker.port) as connection:
        assert {ask(connection, number) for number in range(1, TOKENS + 1)} == {200}
        asked = len(worker.agent.asked)
        assert worker.heat() == TOKENS

        assert {ask(connection, number) for number in range(1, TOKENS + 1)} == {200}
    assert len(worker.agent.asked) == asked


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("is_hot", [False, True], ids=["remembered by the connection", "hot"])
def test_a_disabled_token_is_refused_at_once(worker: RunningWorker, host: str, is_hot: bool) -> None:
    with Connection(worker.port) as connection, Connection(worker.port) as other:
        assert {ask(connection, 1, host=host) for _ in range(OFTEN)} == {200}
        if is_hot:
            worker.heat()
            assert {ask(connection, 1, host=host) for _ in range(OFTEN)} == {200}
        worker.put(1, token(1, is_enabled=False))

        assert {ask(connection, 1, host=host) for _ in range(OFTEN)} == {401}
        assert ask(other, 1, host=host) == 401
        assert ask(other, 2, host=host) == 200


def test_a_change_holds_after_it_was_folded_into_the_base(worker: RunningWorker) -> None:
    with Connection(worker.port) as connection:
        for number in (1, 2, 3):
            assert {ask(connection, number) for _ in range(OFTEN)} == {200}
        worker.heat()
        worker.put(1, None)
        worker.put(2, token(2, is_enabled=False))
        worker.put(50, token(50))
        worker.fold()

        assert [ask(connection, number) for number in (1, 2, 3, 50)] == [401, 401, 200, 200]


def test_a_rotated_secret_is_refused_and_the_new_one_accepted(worker: RunningWorker) -> None:
    old, new = secret_version(1, 1), secret_version(1, 2)
    overlap = (new, secret_version(1, 1, ends=int(time.time()) + 3600))
    gone = (new, secret_version(1, 1, ends=int(time.time()) - 1))
    assert old.digest != new.digest

    def tries(connection: Connection) -> list[int]:
        def once(version: int) -> int:
            return connection.request("GET", "/", [("Host", "app.test"), *pair(1, version)]).status

        return [next(iter({once(version) for _ in range(30)})) for version in (1, 2)]

    with Connection(worker.port) as connection:
        assert tries(connection) == [200, 401]
        worker.put(1, token(1, secrets=overlap))
        assert tries(connection) == [200, 200]
        worker.heat()
        worker.put(1, token(1, secrets=gone))
        assert tries(connection) == [401, 200]


def test_what_is_remembered_ends_with_the_token(worker: RunningWorker) -> None:
    ends = int(time.time()) + 3
    for number in (1, 2):
        worker.put(number, token(number, ends=ends))
    worker.fold()
    with Connection(worker.port) as connection, Connection(worker.port) as hot:
        assert {ask(connection, 1) for _ in range(OFTEN)} == {200}
        ask(hot, 2)
        worker.heat()

        def is_refused() -> bool:
            return ask(connection, 1) == 401 and ask(hot, 2) == 401

        assert ask(hot, 2) == 200
        until(is_refused, 6, "both are refused")
        assert ends <= time.time() < ends + 1.5


def test_an_assertion_is_made_anew_before_it_ends(worker: RunningWorker) -> None:
    worker.agent.session_seconds = 2
    with Connection(worker.port) as connection:
        assert {ask(connection, 1) for _ in range(OFTEN)} == {200}
        worker.heat()
        assert {ask(connection, 1) for _ in range(OFTEN)} == {200}
        asked = len(worker.agent.asked)

        until(lambda: ask(connection, 1) == 200 and len(worker.agent.asked) > asked, 5, "the agent is asked again")


@pytest.mark.parametrize(
    "changed",
    [
        [("CF-Access-Client-Secret", "x")],
        [("CF-Access-Client-Id", client_id(1))],
        [("CF_Access_Jwt_Assertion", "forged")],
        [("Cf-Access-Jwt-Assertion", "forged")],
        [("X-Forwarded-For", "forged")],
        [("Cookie", "CF_Authorization=forged")],
    ],
    ids=["secret twice", "id twice", "underscores", "assertion", "forwarded", "cookie"],
)
def test_a_connection_that_is_remembered_is_not_trusted_in_anything_else(
    worker: RunningWorker, origin: Origin, changed: list[tuple[str, str]]
) -> None:
    mark = f"/{random.randrange(10**9)}"
    with Connection(worker.port) as connection:
        for number, path in itertools.product((1, 2), (mark, "/x")):
            for _ in range(OFTEN):
                ask(connection, number, path)
                status = ask(connection, number, mark, "app.test", *changed)
                assert status == (401 if changed[0][0].startswith("CF-Access-Client") else 200)

    assert "forged" not in repr(origin.marked(mark))


def test_another_id_with_the_remembered_secret_is_refused(worker: RunningWorker) -> None:
    headers = [("Host", "app.test"), ("CF-Access-Client-Id", client_id(2)), pair(1)[1]]
    with Connection(worker.port) as connection:
        for _ in range(OFTEN):
            assert ask(connection, 1) == 200
            assert connection.request("GET", "/", headers).status == 401


def test_another_id_with_a_hot_secret_is_refused(worker: RunningWorker) -> None:
    """The secret finds the entry; whose it is stands in it."""
    with Connection(worker.port) as connection:
        assert {ask(connection, number) for number in (1, 2)} == {200}
    worker.heat()

    for _ in range(OFTEN):
        with Connection(worker.port) as connection:
            headers = [("Host", "app.test"), pair(2)[0], pair(1)[1]]
            answer = connection.request("GET", "/", headers)
            assert answer.status == 401
    assert worker.event(answer.header("cf-ray"))["why"] == "secret_mismatch"


def test_other_hosts_and_paths_are_judged_by_their_own_application(worker: RunningWorker) -> None:
    with Connection(worker.port) as connection:
        for _ in range(OFTEN):
            assert ask(connection, 1, "/x", "paths.test") == 200
            assert ask(connection, 1, "/public/x", "paths.test") == 200
            assert ask(connection, 1, "/cdn-cgi/access/x", "paths.test") == 404
            assert ask(connection, 1, "/", "other.test") == 403
    seen = {(event["host"], event["path"], event["why"], event["app"]) for event in worker.events()}

    assert seen == {
        ("paths.test", "/x", "service_auth", TWO_PATHS),
        ("paths.test", "/public/x", "bypass", PUBLIC),
        ("paths.test", "/cdn-cgi/access/x", "edge_answer", ""),
        ("other.test", "/", "no_application", ""),
    }


def test_where_the_address_counts_it_is_looked_at_every_time(worker: RunningWorker) -> None:
    with Connection(worker.port) as near, Connection(worker.port, source="127.0.0.3") as far:
        assert {ask(near, 1, host="address.test") for _ in range(OFTEN)} == {200}
        worker.heat()

        assert {ask(far, 1, host="address.test") for _ in range(OFTEN)} == {403}
        assert {ask(near, 1, host="address.test") for _ in range(OFTEN)} == {200}


@pytest.mark.parametrize("is_hot", [False, True], ids=["agent asked", "hot"])
def test_streams_of_one_connection_keep_their_own_callers(
    worker: RunningWorker, origin: Origin, trusting: tuple[Path, ssl.SSLContext], is_hot: bool
) -> None:
    """README of the measured prototypes: streams share what a connection remembers."""
    worker.agent.delay_seconds = 0.02
    seed = random.randrange(10**9)
    drawn = random.Random(seed)
    with Http2Connection(worker.tls_port, trusting[1], "app.test") as connection:
        for round_number in range(12):
            if is_hot and round_number == 4:
                assert worker.heat() > 0
            streams = {}
            for place in range(60):
                number = drawn.choice((1, 2, 3, drawn.randint(1, TOKENS)))
                is_wrong = drawn.random() < 0.2
                path = f"/{seed}/{number}/{'wrong' if is_wrong else 'right'}/{round_number}-{place}"
                secret = "wrong" if is_wrong else secret_of_token(number)
                streams[path] = connection.open(
                    [
                        (":method", "GET"),
                        (":scheme", "https"),
                        (":authority", "app.test"),
                        (":path", path),
                        ("cf-access-client-id", client_id(number)),
                        ("cf-access-client-secret", secret),
                    ]
                )
            for path, stream in streams.items():
                assert connection.read(stream).status == (401 if "/wrong/" in path else 200), f"seed {seed}"

    for got in origin.marked(f"/{seed}/"):
        number = int(got.target.split("/")[2])
        assert "/right/" in got.target
        assert got.header("cf-access-jwt-assertion") == assertion(APP, client_id(number), POLICY), f"seed {seed}"
    events = [event for event in worker.events() if event["path"].startswith(f"/{seed}/")]
    assert len(events) == 12 * 60
    for event in events:
        _, _, number, kind, _ = event["path"].split("/")
        assert event["id"] == client_id(int(number))
        assert event["why"] == ("service_auth" if kind == "right" else "secret_mismatch"), f"seed {seed}"
