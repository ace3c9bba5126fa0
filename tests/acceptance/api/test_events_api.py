"""Events, from what an edge sends to what the API and the official SDK show of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from acceptance.api.events_plane import EventsPlane, run_events_plane
from event_lines import APP, NOON_MICROS, NOTICE, client, line
from foregate.core.clock import to_micros
from foregate.database.stores import Stores
from harness.postgresql import ENGINES, PostgresqlDatabase
from harness.stores import sqlite_stores

ROUTES = ["/access/logs/access_requests", "/access/logs/access-requests"]


@pytest.fixture(scope="module", params=ENGINES)
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventsPlane]:
    """One on each database: its answers must be the same."""
    folder = tmp_path_factory.mktemp("home")
    if request.param == "postgresql":
        stores = PostgresqlDatabase(request.getfixturevalue("postgresql"), folder / "database").stores
    else:
        stores = sqlite_stores(folder)
    with run_events_plane(folder, stores) as running:
        yield running


class Edge:
    """Sends lines of a worker of its own, so that tests do not see each other's."""

    made = 0

    def __init__(self, plane: EventsPlane) -> None:
        Edge.made += 1
        self.plane = plane
        self.worker = f"w{Edge.made}"
        self.app = f"{Edge.made:08x}-0000-4000-8000-000000000000"
        self.offset = 0
        self.sent = 0

    def line(self, **parts: Any) -> bytes:
        """A line of now, on this edge's application."""
        self.sent += 1
        second = (to_micros(datetime.now(UTC)) - NOON_MICROS) / 1e6
        known = {"second": second, "account": self.plane.account_id, "app": self.app}
        return line(Edge.made * 1000 + self.sent, **{**known, **parts})

    def send(self, *lines: bytes, is_final: bool = False) -> None:
        """Send a batch."""
        self.offset = self.plane.send(self.worker, b"".join(lines), offset=self.offset, is_final=is_final)

    def events(self, **query: Any) -> list[dict[str, Any]]:
        """The events of this edge's application."""
        return list(self.plane.get("/foregate/events", app=self.app, **query)["result"])


@pytest.fixture
def edge(plane: EventsPlane) -> Edge:
    return Edge(plane)


def new_token(plane: EventsPlane, name: str = "ci") -> Any:
    return plane.sdk().zero_trust.access.service_tokens.create(account_id=plane.account_id, name=name)


def test_event_is_shown_with_everything_an_edge_said(edge: Edge) -> None:
    edge.send(edge.line(client_id=client(5), path='/a"b', reason="secret_mismatch", status=401))
    (event,) = edge.events()
    assert event.pop("id") and event.pop("ray_id")
    at = datetime.fromisoformat(event.pop("at"))
    assert abs(at - datetime.now(UTC)) < timedelta(seconds=5)
    assert event == {
        "outcome": "refused",
        "reason": "secret_mismatch",
        "status": 401,
        "app_id": edge.app,
        "policy_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "client_id": client(5),
        "host": "echo.localhost",
        "ip": "192.0.2.7",
        "method": "GET",
        "path": '/a"b',
        "end": "--",
    }


def test_batch_sent_twice_is_shown_once(edge: Edge) -> None:
    lines = edge.line() + edge.line()
    for _ in range(2):
        edge.plane.send(edge.worker, lines)
    assert len(edge.events()) == 2


def test_newest_events_are_shown_oldest_first_and_pages_go_back(edge: Edge) -> None:
    for number in range(7):
        edge.send(edge.line(path=f"/{number}"))
    shown = edge.plane.get("/foregate/events", app=edge.app, limit=3)
    assert [event["path"] for event in shown["result"]] == ["/4", "/5", "/6"]
    seen = []
    while shown["result"]:
        seen = [event["path"] for event in shown["result"]] + seen
        before = shown["result_info"]["older"]
        shown = edge.plane.get("/foregate/events", app=edge.app, limit=3, before=before)
    assert seen == [f"/{number}" for number in range(7)]


def test_following_by_cursor_shows_every_event_once(edge: Edge) -> None:
    edge.send(edge.line(path="/first"))
    shown = edge.plane.get("/foregate/events", app=edge.app)
    seen = [event["path"] for event in shown["result"]]
    for number in range(3):
        edge.send(edge.line(path=f"/{number}"), edge.line(app=APP))
        shown = edge.plane.get("/foregate/events", app=edge.app, after=shown["result_info"]["cursor"])
        seen += [event["path"] for event in shown["result"]]
    assert seen == ["/first", "/0", "/1", "/2"]


def test_long_poll_answers_as_soon_as_an_event_comes(edge: Edge) -> None:
    cursor = edge.plane.get("/foregate/events", app=edge.app)["result_info"]["cursor"]
    answers: list[dict[str, Any]] = []
    poll = threading.Thread(target=lambda: answers.extend(edge.events(after=cursor, wait=20)))
    started = time.monotonic()
    poll.start()
    edge.send(edge.line(app=APP))
    edge.send(edge.line(path="/awaited"))
    poll.join(20)
    assert [event["path"] for event in answers] == ["/awaited"]
    assert time.monotonic() - started < 10


def test_long_poll_without_events_ends_in_time_with_a_cursor(edge: Edge) -> None:
    cursor = edge.plane.get("/foregate/events", app=edge.app)["result_info"]["cursor"]
    started = time.monotonic()
    shown = edge.plane.get("/foregate/events", app=edge.app, after=cursor, wait=0.2)
    assert shown["result"] == []
    assert 0.15 < time.monotonic() - started < 5
    edge.send(edge.line())
    assert len(edge.events(after=shown["result_info"]["cursor"])) == 1


def test_filters(edge: Edge) -> None:
    token = new_token(edge.plane, "a token with a name of its own")
    edge.send(
        edge.line(client_id=token.client_id, path="/0"),
        edge.line(client_id=token.client_id, path="/1", reason="token_disabled"),
        edge.line(client_id=client(7), path="/2", reason="token_unknown"),
        edge.line(client_id="", path="/3", reason="edge_answer"),
    )

    def paths(**query: Any) -> list[str]:
        return [event["path"] for event in edge.events(**query)]

    assert paths(outcome="allowed") == ["/0"]
    assert paths(outcome="refused") == ["/1", "/2"]
    assert paths(outcome="answered") == ["/3"]
    assert paths(reason="token_disabled") == ["/1"]
    for name in (token.id, token.client_id, token.name):
        assert paths(token=name) == ["/0", "/1"]
    assert paths(token=client(7)) == ["/2"]
    assert paths(ray_id=edge.events()[2]["ray_id"]) == ["/2"]
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert (paths(since=soon), len(paths(until=soon))) == ([], 4)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "many"},
        {"outcome": "maybe"},
        {"reason": "because"},
        {"since": "yesterday"},
        {"after": "not a cursor"},
        {"before": "1.2", "after": "1.2"},
        {"wait": 5},
        {"wait": 31, "after": "1.2"},
        {"ray_id": "xyz"},
        {"colour": "red"},
        {"token": "x" * 256},
    ],
)
def test_bad_query_is_refused(plane: EventsPlane, query: dict[str, Any]) -> None:
    assert plane.get("/foregate/events", status=400, **query)["errors"]


@pytest.mark.parametrize("query", [{"token": "nobody's"}, {"app": "nothing"}])
def test_unknown_name_is_not_found(plane: EventsPlane, query: dict[str, Any]) -> None:
    assert not plane.get("/foregate/events", status=404, **query)["success"]


def test_events_of_another_account_are_not_shown(edge: Edge) -> None:
    edge.send(edge.line(account=edge.plane.other_account_id), edge.line(path="/own"))
    assert [event["path"] for event in edge.events()] == ["/own"]


def test_events_of_no_account_are_shown_to_those_who_see_every_account(edge: Edge) -> None:
    edge.send(edge.line(account="", app="", reason="no_application", host="nobody.localhost"))
    seen = [
        [
            event["host"]
            for event in edge.plane.get("/foregate/events", bearer=bearer, reason="no_application")["result"]
        ]
        for bearer in (edge.plane.admin, edge.plane.account_token)
    ]
    assert "nobody.localhost" in seen[0]
    assert seen[1] == []


def test_access_requests_show_known_tokens_only(edge: Edge) -> None:
    token = new_token(edge.plane)
    edge.send(
        edge.line(client_id=token.client_id),
        edge.line(client_id=token.client_id, reason="secret_mismatch", status=401),
        edge.line(client_id=client(8), reason="token_unknown"),
        edge.line(client_id="", reason="no_credentials"),
        edge.line(client_id=token.client_id, reason="unprotected_host"),
    )
    items = [
        item
        for item in edge.plane.sdk().zero_trust.access.logs.access_requests.list(
            account_id=edge.plane.account_id, extra_query={"app_uid": edge.app}
        )
        or []
    ]
    assert [item.allowed for item in items] == [False, True]
    newest = items[0]
    assert (newest.action, newest.connection, newest.user_email) == ("login", "service_token", "")
    assert (newest.app_uid, newest.app_domain, newest.ip_address) == (edge.app, "echo.localhost", "192.0.2.7")
    assert newest.created_at and newest.rayid
    assert newest.service_token_id == token.id  # type: ignore[attr-defined]


@pytest.mark.parametrize("route", ROUTES)
def test_access_requests_take_all_of_cloudflares_filters(plane: EventsPlane, route: str) -> None:
    edge = Edge(plane)
    token = new_token(plane)
    edge.send(
        edge.line(client_id=token.client_id),
        edge.line(client_id=token.client_id, reason="token_expired"),
    )
    elsewhere = Edge(plane)
    elsewhere.send(elsewhere.line(client_id=token.client_id))

    def outcome(**query: Any) -> list[bool]:
        return [item["allowed"] for item in plane.get(route, **{"app_uid": edge.app, **query})["result"]]

    both = [False, True]
    assert outcome() == both
    assert outcome(direction="asc") == both[::-1]
    assert outcome(allowed="true") == [True]
    assert outcome(allowed="true", allowedOp="neq") == [False]
    assert outcome(non_identity="true") == both
    assert outcome(non_identity="false") == []
    assert outcome(email="a@example.com") == []
    assert outcome(email="a@example.com", emailOp="neq") == both
    assert outcome(country_code="SE") == outcome(idp="x") == outcome(app_type="ssh") == []
    assert outcome(app_type="self_hosted", user_id="x", email_exact="true") == both
    of_other_apps = plane.get(route, app_uid=edge.app, app_uidOp="neq")["result"]
    assert elsewhere.app in {item["app_uid"] for item in of_other_apps}
    assert edge.app not in {item["app_uid"] for item in of_other_apps}
    assert outcome(limit=1) == outcome(per_page=1) == [False]
    assert outcome(per_page=1, page=2) == [True]
    assert outcome(per_page=1, page=3) == []
    ray = plane.get(route, app_uid=edge.app)["result"][0]["ray_id"]
    assert outcome(ray_id=ray) == [False]
    assert outcome(ray_id=ray, ray_idOp="neq") == [True]
    assert outcome(until="2020-01-01T00:00:00Z") == []
    assert outcome(since="2020-01-01T00:00:00Z") == both


def test_access_requests_give_only_the_fields_asked_for(edge: Edge) -> None:
    token = new_token(edge.plane)
    edge.send(edge.line(client_id=token.client_id))
    (item,) = edge.plane.get(ROUTES[0], app_uid=edge.app, fields="allowed,ray_id")["result"]
    assert set(item) == {"allowed", "ray_id"}


@pytest.mark.parametrize(
    "query",
    [
        {"fields": "secret"},
        {"direction": "up"},
        {"page": 0},
        {"per_page": 0},
        {"allowedOp": "contains"},
        {"allowed": "perhaps"},
        {"since": "x"},
        {"unknown": "1"},
    ],
)
def test_bad_query_of_access_requests_is_refused(plane: EventsPlane, query: dict[str, Any]) -> None:
    assert plane.get(ROUTES[0], status=400, **query)["errors"]


def test_token_shows_when_it_was_last_seen_and_how_sure_that_is(edge: Edge) -> None:
    token = new_token(edge.plane)
    used_at = datetime.now(UTC)
    edge.plane.report()
    edge.send(edge.line(client_id=token.client_id))
    edge.plane.until_consumed()
    found = edge.plane.get(f"/access/service_tokens/{token.id}")["result"]
    assert abs(datetime.fromisoformat(found["last_seen_at"]) - used_at) < timedelta(seconds=2)
    quality = found["foregate"]["last_seen"]
    assert (quality["edge"], quality["coverage"]) == (edge.plane.edge_id, 1.0)
    assert 1.0 <= quality["accuracy_seconds"] < 10


def test_rollups_count_decisions(edge: Edge) -> None:
    edge.send(*(edge.line() for _ in range(3)), edge.line(reason="token_expired"))
    edge.plane.until_consumed()
    rows = [row for row in edge.plane.get("/foregate/rollups")["result"] if row["app_id"] == edge.app]
    counted: dict[str, int] = {}
    for row in rows:
        counted[row["reason"]] = counted.get(row["reason"], 0) + row["events"]
        assert row["minute"].endswith(":00.000Z")
    assert counted == {"service_auth": 3, "token_expired": 1}
    assert edge.plane.get("/foregate/rollups", until="2020-01-01T00:00:00Z")["result"] == []


def test_edges_tell_how_far_they_are(plane: EventsPlane) -> None:
    refused = {"key": "token/x", "seq": 2, "reason": "the MAC does not fit"}
    plane.report(applied_seq=3, refused=[refused])
    (found,) = plane.get("/foregate/edges")["result"]
    assert (found["id"], found["name"], found["applied_seq"]) == (plane.edge_id, "first", 3)
    assert found["is_reporting"] is True
    assert (found["refused"], found["held"]) == ([refused], [])
    assert found["spool"]["backlog_bytes"] == 0


def test_pipeline_tells_gaps_and_losses(edge: Edge) -> None:
    lines = line(0) + NOTICE + line(5) + b"{broken\n"
    edge.send(lines)
    edge.offset += 100
    edge.send(line(6), is_final=True)
    edge.plane.until_consumed()
    found = edge.plane.get("/foregate/pipeline")["result"]
    (worker,) = [worker for worker in found["workers"] if worker["worker"] == edge.worker]
    assert (worker["events"], worker["failures"], worker["notices"], worker["malformed"]) == (3, 0, 1, 1)
    # Seven lines were written, four are here.
    assert (worker["is_ended"], worker["missing"], worker["lost_bytes"]) == (True, 3, 100)
    assert found["missing_events"] >= 3
    assert {state["name"] for state in found["consumers"]} == {"last-seen", "rollups", "event-blocks"}
    assert found["log"]["size_bytes"] > 0


def make_token(plane: EventsPlane, account_id: str) -> tuple[int, str]:
    """A new service token: the seq of its change, and its record key."""
    answer = httpx.post(
        f"http://127.0.0.1:{plane.port}/client/v4/accounts/{account_id}/access/service_tokens",
        headers={"Authorization": f"Bearer {plane.admin.reveal()}"},
        json={"name": "made"},
    )
    return int(answer.headers["foregate-change"]), f"token/{answer.json()['result']['client_id']}"


def test_token_bound_to_an_account_sees_the_receipts_of_that_account_alone(plane: EventsPlane) -> None:
    own, own_key = make_token(plane, plane.account_id)
    foreign, foreign_key = make_token(plane, plane.other_account_id)
    found = plane.get(f"/foregate/changes/{own}", bearer=plane.account_token)["result"]
    assert found["record_key"] == own_key
    refused = plane.get(f"/foregate/changes/{foreign}", bearer=plane.account_token, status=404)
    assert foreign_key not in str(refused)
    assert plane.get(f"/foregate/changes/{foreign}")["result"]["record_key"] == foreign_key


def test_token_bound_to_an_account_is_told_nothing_of_other_accounts_by_edges(plane: EventsPlane) -> None:
    (own, own_key), (foreign, foreign_key) = (
        make_token(plane, account_id) for account_id in (plane.account_id, plane.other_account_id)
    )
    account_keys = [f"account/{plane.account_id}", f"keys/{plane.other_account_id}", "app/of-nobody"]
    refused = [{"key": key, "seq": 1, "reason": "damaged"} for key in (own_key, foreign_key, *account_keys)]
    held = [{"key": foreign_key, "seq": foreign, "reason": "pepper"}, {"key": own_key, "seq": own, "reason": "pepper"}]
    plane.report(refused=refused, held=held)
    (edge,) = plane.get("/foregate/edges", bearer=plane.account_token)["result"]
    assert [note["key"] for note in edge["refused"]] == [own_key, f"account/{plane.account_id}"]
    assert [note["key"] for note in edge["held"]] == [own_key]
    (edge,) = plane.get("/foregate/edges")["result"]
    assert len(edge["refused"]) == 5


@pytest.mark.parametrize(("off", "shown"), [(3600, 3600), (-3600, -3600), (0, 0)])
def test_edge_whose_clock_is_off_is_told(plane: EventsPlane, off: int, shown: int) -> None:
    plane.report(at=time.time() + off)
    (edge,) = plane.get("/foregate/edges")["result"]
    assert abs(edge["clock_ahead_seconds"] - shown) < 5


@pytest.mark.parametrize("said", [None, "now", True, -1, 1e300, {}])
def test_clock_that_an_edge_makes_up_is_not_told(plane: EventsPlane, said: object) -> None:
    plane.report(at=said)
    assert plane.get("/foregate/edges")["result"][0]["clock_ahead_seconds"] is None


def test_pipeline_of_all_accounts_is_for_no_token_of_one(plane: EventsPlane) -> None:
    assert not plane.get("/foregate/pipeline", bearer=plane.account_token, status=403)["success"]


@pytest.fixture
def own_plane(tmp_path: Path, stores: Stores) -> Iterator[EventsPlane]:
    """One whose edge has not reported yet: what it once applied, it has applied for good."""
    with run_events_plane(tmp_path, stores) as running:
        yield running


def test_receipt_of_a_change_follows_it_to_the_edge(own_plane: EventsPlane) -> None:
    plane = own_plane
    answer = httpx.post(
        f"http://127.0.0.1:{plane.port}/client/v4/accounts/{plane.account_id}/access/service_tokens",
        headers={"Authorization": f"Bearer {plane.admin.reveal()}"},
        json={"name": "followed"},
    )
    seq = int(answer.headers["foregate-change"])
    found = plane.get(f"/foregate/changes/{seq}")["result"]
    assert found["record_key"] == f"token/{answer.json()['result']['client_id']}"
    assert found["edges"] == [
        {"id": plane.edge_id, "name": "first", "state": "pending", "at": None, "reason": "not published yet"}
    ]
    publish(plane, seq, found["record_key"])
    (receipt,) = plane.get(f"/foregate/changes/{seq}")["result"]["edges"]
    assert (receipt["state"], receipt["reason"]) == ("pending", "the edge has never reported")
    plane.report(applied_seq=seq - 1)
    (receipt,) = plane.get(f"/foregate/changes/{seq}")["result"]["edges"]
    assert (receipt["state"], receipt["reason"]) == ("pending", "")
    plane.report(applied_seq=seq + 1)
    (receipt,) = plane.get(f"/foregate/changes/{seq}")["result"]["edges"]
    assert (receipt["state"], receipt["reason"]) == ("applied", "")
    assert abs(datetime.fromisoformat(receipt["at"]) - datetime.now(UTC)) < timedelta(seconds=5)


def publish(plane: EventsPlane, seq: int, key: str) -> None:
    """What the publisher does with a change."""
    from foregate.eventlog.model import EDGE_CONFIG, Entry
    from foregate.eventlog.sql import SqlLog

    now = to_micros(datetime.now(UTC))
    with plane.telemetry.write() as connection:
        SqlLog(connection).put(EDGE_CONFIG, [Entry(key, seq, b"{}")], now)
    with plane.records.write() as connection:
        connection.execute(text("UPDATE outbox SET published_at = :now WHERE seq = :seq"), {"now": now, "seq": seq})


@pytest.mark.parametrize(("seq", "status"), [("999999999", 404), ("0", 404), ("x", 400), ("-1", 400), ("9" * 19, 400)])
def test_receipt_of_what_is_no_change(plane: EventsPlane, seq: str, status: int) -> None:
    assert not plane.get(f"/foregate/changes/{seq}", status=status)["success"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/edge/v1/events?worker=w&offset=0", b"not zlib", 400),
        ("/edge/v1/events?worker=..%2fw&offset=0", b"", 400),
        ("/edge/v1/events?worker=w&offset=-1", b"", 400),
        ("/edge/v1/events?worker=w&offset=0", b"x" * 4_194_305, 413),
        ("/edge/v1/reports", b"[]", 400),
        ("/edge/v1/reports", b'{"applied_seq":"x"}', 400),
    ],
)
def test_what_no_edge_sends_is_refused(plane: EventsPlane, path: str, body: bytes, status: int) -> None:
    assert plane.post(path, body).status_code == status


def test_events_are_for_edges_to_send(plane: EventsPlane) -> None:
    for authorization in ("", f"Bearer {plane.admin.reveal()}", f"Edge {plane.edge_id}:wrong"):
        answer = httpx.post(
            f"http://127.0.0.1:{plane.port}/edge/v1/events?worker=w&offset=0", headers={"Authorization": authorization}
        )
        assert answer.status_code == 401
