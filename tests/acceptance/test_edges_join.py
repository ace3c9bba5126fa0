"""Edges of other machines: joining, serving, and being expelled, with real processes on one machine."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from foregate.core.masterkey import load
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase
from foregate.edge.feed_authority import SERVER_NAME, certify_edge, new_request, pem_of, read_request
from foregate.edge.feed_tls import blind_context, client_context
from foregate.edge.membership import Membership, read_membership, write_membership
from foregate.identity import edges_store
from foregate.identity.joining import ensure_authority
from harness.joined import JoinedEdge, edge_home, join_token, joined, running_control_plane
from harness.leaks import assert_nothing_leaked
from harness.log import log_records
from harness.origin import Origin
from harness.product import Foregate
from harness.things import App, allow, create_app, create_token, until_status
from harness.waiting import until

MOMENTS = 3.0


@pytest.fixture(scope="module")
def plane() -> Iterator[tuple[Foregate, str]]:
    with running_control_plane() as (foregate, url):
        yield foregate, url
        assert_nothing_leaked(foregate)


@pytest.fixture(scope="module")
def foregate(plane: tuple[Foregate, str]) -> Foregate:
    return plane[0]


@pytest.fixture(scope="module")
def url(plane: tuple[Foregate, str]) -> str:
    return plane[1]


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin) -> App:
    made = create_app(foregate, origin.service, [allow()])
    until_status(foregate, made.host, None, 403)
    return made


@pytest.fixture
def home() -> Iterator[JoinedEdge]:
    with edge_home() as edge:
        yield edge


@pytest.fixture(scope="module")
def paris(foregate: Foregate, url: str) -> Iterator[JoinedEdge]:
    """A joined edge that no test breaks."""
    with edge_home() as edge:
        yield joined(foregate, url, edge, "paris")


def edges(foregate: Foregate) -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(foregate.run("edge", "list", "--json").stdout)
    return {edge["name"]: edge for edge in found}


def membership(edge: JoinedEdge) -> Membership:
    found = read_membership(edge.home / "edge" / "membership.json")
    assert found is not None
    return found


def ask(
    url: str, context: ssl.SSLContext, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, bytes]:
    """One request to the feed port."""
    host, _, port = url.removeprefix("https://").partition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
    context.check_hostname = False  # http.client knows no other name than the address
    try:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(4096) if path != "/edge/v1/feed" else b""
    finally:
        connection.close()


def as_member(found: Membership) -> ssl.SSLContext:
    return client_context(found.authority, found.pem)


def test_joined_edge_lets_in_a_token_of_the_control_plane_until_it_is_revoked(
    foregate: Foregate, app: App, paris: JoinedEdge
) -> None:
    token = create_token(foregate.api())
    paris.until_status(app.host, token.headers, 200)
    foregate.api().result("DELETE", f"/access/service_tokens/{token.id}")
    until(lambda: paris.get(app.host, token.headers).status == 401, MOMENTS, "the joined edge refuses it")


def test_events_of_a_joined_edge_are_told(foregate: Foregate, app: App, paris: JoinedEdge) -> None:
    token = create_token(foregate.api())
    paris.until_status(app.host, token.headers, 200)
    until(lambda: foregate.api().result("GET", f"/access/service_tokens/{token.id}").get("last_seen_at"), 10, "seen")
    assert edges(foregate)["paris"]["is_reporting"]


def test_receipts_name_the_joined_edge(foregate: Foregate, paris: JoinedEdge) -> None:
    until(lambda: edges(foregate)["paris"]["pending"] == 0, 10, "paris has applied all", every=0.1)
    until(lambda: edges(foregate)["local"]["pending"] == 0, 10, "the local edge too", every=0.1)


def test_joined_edge_serves_from_its_own_disk_while_the_control_plane_is_away(
    foregate: Foregate, url: str, app: App, home: JoinedEdge
) -> None:
    token = create_token(foregate.api())
    edge = joined(foregate, url, home, "alone")
    edge.until_status(app.host, token.headers, 200)
    for process in foregate.processes("api"):
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert edge.get(app.host, token.headers).status == 200
            assert edge.stop() == 0
            edge.start()
            edge.until_status(app.host, token.headers, 200)
        finally:
            os.kill(process.pid, signal.SIGCONT)


def test_join_token_is_good_once(foregate: Foregate, url: str, paris: JoinedEdge, home: JoinedEdge) -> None:
    token = join_token(foregate)
    assert home.join(url, token, "--name", "once").returncode == 0
    with edge_home() as other:
        done = other.join(url, token, "--name", "twice")
    assert done.returncode != 0
    assert "has been used already" in done.stderr


def test_join_token_ends(foregate: Foregate, url: str, home: JoinedEdge) -> None:
    made = json.loads(foregate.run("edge", "token", "create", "--valid", "1s", "--json").stdout)
    expires_at = datetime.fromisoformat(made["expires_on"])
    until(lambda: datetime.now(UTC) > expires_at + timedelta(seconds=1), 10, "the token has ended", every=0.1)
    done = home.join(url, made["value"], "--name", "late")
    assert (done.returncode, "This join token ended at" in done.stderr) == (2, True)


def test_join_token_of_another_control_plane_is_not_sent(foregate: Foregate, url: str, home: JoinedEdge) -> None:
    token = join_token(foregate)
    foreign = f"{token.partition('.')[0]}.{base64.urlsafe_b64encode(bytes(32)).rstrip(b'=').decode()}"
    done = home.join(url, foreign, "--name", "stray")
    assert done.returncode != 0
    assert "not one of the control plane at" in done.stderr
    assert home.join(url, token, "--name", "stray").returncode == 0, "it was not used up"


@pytest.mark.parametrize("text", ["", "fgjt_", "no token at all", "fgjt_" + "0" * 48 + ".x"])
def test_what_is_no_join_token_is_said(url: str, home: JoinedEdge, text: str) -> None:
    done = home.join(url, text)
    assert (done.returncode, "not a whole join token" in done.stderr) == (2, True)


def test_token_among_the_arguments_is_refused(url: str, home: JoinedEdge) -> None:
    done = home.join(url, "", "--token", "fgjt_" + "0" * 48)
    assert (done.returncode, "stands in the process list" in done.stderr) == (2, True)


def test_nobody_there_is_said(foregate: Foregate, home: JoinedEdge) -> None:
    done = home.join("https://127.0.0.1:9", join_token(foregate))
    assert (done.returncode, "does not answer" in done.stderr) == (1, True)


def test_port_that_is_no_feed_port_is_said(foregate: Foregate, home: JoinedEdge) -> None:
    done = home.join(f"https://127.0.0.1:{foregate.https_port}", join_token(foregate))
    assert (done.returncode, "not Foregate's feed" in done.stderr) == (1, True)


def test_two_edges_with_one_name_are_refused(foregate: Foregate, url: str, paris: JoinedEdge, home: JoinedEdge) -> None:
    done = home.join(url, join_token(foregate), "--name", "paris")
    assert (done.returncode, "There is an edge paris already" in done.stderr) == (2, True)


def test_group_is_the_tokens_and_can_be_changed(foregate: Foregate, url: str, home: JoinedEdge) -> None:
    assert home.join(url, join_token(foregate, "--group", "eu"), "--name", "rome").returncode == 0
    assert list(json.loads(foregate.run("edge", "list", "--group", "eu", "--json").stdout)[0].values())[1] == "rome"
    assert foregate.run("edge", "move", "rome", "canary").returncode == 0
    assert edges(foregate)["rome"]["group"] == "canary"


def test_edge_that_joins_again_keeps_its_id_and_its_state(
    foregate: Foregate, url: str, app: App, home: JoinedEdge
) -> None:
    token = create_token(foregate.api())
    edge = joined(foregate, url, home, "again")
    edge.until_status(app.host, token.headers, 200)
    before = membership(edge)
    assert edge.stop() == 0
    refused = edge.join(url, join_token(foregate), "--name", "again")
    assert "is the home of the edge again already" in refused.stderr
    assert "is an edge already" in edge.join(url, join_token(foregate), "--rejoin").stderr
    done = edge.join(url, join_token(foregate, "--rejoin", "again"), "--rejoin")
    assert done.returncode == 0, done.stderr
    after = membership(edge)
    assert (after.edge_id, after.certificate != before.certificate) == (before.edge_id, True)
    assert ask(url, as_member(before), "/edge/v1/secrets")[0] == 401, "what was stolen before is good no longer"
    edge.start()
    edge.until_status(app.host, token.headers, 200)


def test_feed_port_admits_a_certificate_of_its_own_ca_and_nothing_else(
    foregate: Foregate, url: str, paris: JoinedEdge
) -> None:
    found = membership(paris)
    edge_key = (foregate.home / "edge" / "edge.key").read_text().strip()
    edge_id = json.loads((foregate.home / "home.json").read_text())["edge_id"]
    with_key = {"Authorization": f"Edge {edge_id}:{edge_key}"}
    for path in ("/edge/v1/secrets", "/edge/v1/feed"):
        assert ask(url, as_member(found), path)[0] == 200
        assert ask(url, client_context(found.authority), path)[0] == 401
        assert ask(url, blind_context(), path, with_key)[0] == 401
    stranger = blind_context()
    own_ca = foregate.home / "edge" / "certs"
    stranger.load_cert_chain(next(own_ca.glob("*.pem")))
    with pytest.raises((ssl.SSLError, OSError)):
        ask(url, stranger, "/edge/v1/secrets")


def test_certificate_of_an_edge_cannot_stand_for_the_control_plane(paris: JoinedEdge) -> None:
    """Both are of one CA; what each is good for stands in it."""
    found = membership(paris)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = paris.home.with_suffix(".pem")
    pem.write_bytes(found.pem)
    server.load_cert_chain(pem)
    pem.unlink()
    ours, theirs, sent, got = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    del sent, got
    client = client_context(found.authority).wrap_bio(ours, theirs, server_hostname=SERVER_NAME)
    host = server.wrap_bio(theirs, ours, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        for _ in range(4):
            for side in (client, host):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue


def test_expelled_edge_is_cut_off_at_once_and_stops_serving(
    foregate: Foregate, url: str, app: App, home: JoinedEdge, tmp_path: Path
) -> None:
    token = create_token(foregate.api())
    edge = joined(foregate, url, home, "thief")
    edge.until_status(app.host, token.headers, 200)
    stolen = membership(edge)
    shutil.copytree(edge.home, tmp_path / "home", ignore=shutil.ignore_patterns("*.sock"))
    assert foregate.run("edge", "expel", "thief", "--yes").returncode == 0
    for path, body in (("/edge/v1/secrets", None), ("/edge/v1/feed", None), ("/edge/v1/reports", b"{}")):
        assert ask(url, as_member(stolen), path, body=body)[0] == 410
    assert ask(url, as_member(stolen), "/edge/v1/events?worker=w&offset=0", body=b"")[0] == 410
    assert edge.ended() == 1
    with pytest.raises(OSError):
        edge.get(app.host, token.headers)
    edge.start()
    assert edge.ended() == 1
    assert "has expelled thief" in edge.log.read_text()
    assert not (edge.home / "edge" / "secrets.sealed").exists()
    assert "thief" not in edges(foregate)
    # The copy is of no more use: it learns of it, and stops too.
    copy = JoinedEdge(tmp_path / "home", home.http_port, home.https_port)
    (copy.home / "edge" / "workers.json").unlink(missing_ok=True)
    copy.start()
    assert copy.ended() == 1
    assert foregate.get(app.host, headers=token.headers).status == 200, "the others go on"


def test_signing_keys_are_replaced_for_an_expelled_edge(foregate: Foregate, url: str, home: JoinedEdge) -> None:
    assert home.join(url, join_token(foregate), "--name", "keeper").returncode == 0
    before = foregate.api().result("GET", "/access/keys")["last_key_rotation_at"]
    made = json.loads(foregate.run("edge", "expel", "keeper", "--yes", "--json").stdout)
    assert made["accounts_with_new_keys"] == [foregate.account_id]
    assert foregate.api().result("GET", "/access/keys")["last_key_rotation_at"] >= before


def test_edge_of_the_home_itself_is_not_expelled(foregate: Foregate) -> None:
    done = foregate.run("edge", "expel", "local", "--yes")
    assert (done.returncode, b"never joined" in done.stderr) == (1, True)


def test_nothing_of_an_edges_secrets_lies_about_in_the_clear(foregate: Foregate, paris: JoinedEdge) -> None:
    master = load(foregate.home / "master.key")
    keys = [*master.peppers().values(), master.record_mac_key(), master.edge_sealing_key()]
    forms = [form for key in keys for form in (key, base64.b64encode(key), key.hex().encode())]
    for path in (path for path in paris.home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [form for form in forms if form in content], path.name


def test_new_pepper_reaches_a_joined_edge_and_its_record(
    foregate: Foregate, url: str, app: App, paris: JoinedEdge
) -> None:
    before = create_token(foregate.api())
    paris.until_status(app.host, before.headers, 200)

    def own_records() -> list[int]:
        key = f'"edge/{membership(paris).edge_id}"'.encode()
        return [offset for offset, topic, value in log_records(foregate) if topic == "edge-config" and key in value]

    known = own_records()
    assert foregate.run("keys", "add-pepper").returncode == 0
    (api,) = foregate.processes("api")
    os.kill(api.pid, signal.SIGTERM)
    until(lambda: [one.pid for one in foregate.processes("api")] not in ([], [api.pid]), 30, "the API is back")
    until(lambda: foregate.api().account("GET", "/access/apps").status == 200, 30, "it answers", every=0.1)
    after = create_token(foregate.api())
    paris.until_status(app.host, after.headers, 200)
    paris.until_status(app.host, before.headers, 200)
    until(lambda: own_records() > known, 10, "the record of the edge holds the new pepper, sealed", every=0.2)


def test_home_of_a_joined_edge_is_no_control_planes(home: JoinedEdge, foregate: Foregate, url: str) -> None:
    assert home.join(url, join_token(foregate), "--name", "single").returncode == 0
    for command in ("up", "api"):
        done = home.run(command)
        assert (done.returncode, "home of an edge of another control plane" in done.stderr) == (1, True), command
    assert not (home.home / "master.key").exists()
    found = json.loads(home.run("doctor", "--json").stdout)
    assert next(one for one in found if one["check"] == "membership")["good"]


def give_certificate(foregate: Foregate, edge: JoinedEdge, *, issued_at: datetime) -> Membership:
    """Have the edge be one that got its certificate then: by the CA of the control plane, and known there."""
    found, master = membership(edge), load(foregate.home / "master.key")
    database = SqliteDatabase(foregate.home / "records.db", CONTROL_PLANE)
    tls_key, request = new_request()
    with database.write() as connection:
        authority = ensure_authority(connection, master, issued_at)
        certificate = certify_edge(authority, read_request(request), found.edge_id, issued_at)
        edges_store.drop_certificates(connection, found.edge_id)
        edges_store.insert_certificate(connection, found.edge_id, certificate, issued_at)
    database.close()
    given = replace(found, certificate=pem_of(certificate), tls_key=tls_key.decode())
    write_membership(edge.home / "edge" / "membership.json", given)
    return given


def problems(edge: JoinedEdge) -> str:
    return " ".join(json.loads((edge.home / "edge" / "status.json").read_text())["problems"])


def test_certificate_renews_itself_with_a_third_of_its_life_left(
    foregate: Foregate, url: str, app: App, home: JoinedEdge
) -> None:
    token = create_token(foregate.api())
    assert home.join(url, join_token(foregate), "--name", "weekly").returncode == 0
    before = give_certificate(foregate, home, issued_at=datetime.now(UTC) - timedelta(days=5))
    assert ask(url, as_member(before), "/edge/v1/secrets")[0] == 200
    home.start()
    until(lambda: membership(home).certificate != before.certificate, 20, "it has another certificate", every=0.1)
    assert membership(home).expires_at > datetime.now(UTC) + timedelta(days=6)
    until(lambda: ask(url, as_member(before), "/edge/v1/secrets")[0] == 401, 20, "the old one has ended", every=0.1)
    home.until_status(app.host, token.headers, 200)
    until(lambda: edges(foregate)["weekly"]["is_reporting"], 20, "it reports under the new one", every=0.2)
    assert "certificate" not in problems(home)


def test_edge_whose_certificate_has_lapsed_serves_on_and_says_what_to_do(
    foregate: Foregate, url: str, app: App, home: JoinedEdge
) -> None:
    token = create_token(foregate.api())
    edge = joined(foregate, url, home, "asleep")
    edge.until_status(app.host, token.headers, 200)
    assert edge.stop() == 0
    give_certificate(foregate, edge, issued_at=datetime.now(UTC) - timedelta(days=8))
    edge.start()
    edge.until_status(app.host, token.headers, 200)
    until(lambda: "foregate edge token create --rejoin asleep" in problems(edge), 20, "it says what to do")


def test_second_machine_with_the_same_files_is_found_out_when_one_renews(
    foregate: Foregate, url: str, app: App, home: JoinedEdge
) -> None:
    edge = joined(foregate, url, home, "double")
    stolen = membership(edge)
    client = client_of(stolen)
    tls_key, request = new_request()
    answer = client.post("/edge/v1/certificate", json={"request": request})
    newer = replace(stolen, certificate=answer.json()["certificate"], tls_key=tls_key.decode())
    assert client_of(newer).get("/edge/v1/secrets").status_code == 200
    until(lambda: "is not the edge's newest" in problems(edge), 30, "the true edge says so", every=0.2)
    assert foregate.run("edge", "expel", "double", "--yes").returncode == 0
    assert client_of(newer).get("/edge/v1/secrets").status_code == 410


def client_of(found: Membership) -> httpx.Client:
    """A client that shows itself as that member."""

    class Named(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.extensions = {**request.extensions, "sni_hostname": SERVER_NAME}
            return super().handle_request(request)

    return httpx.Client(base_url=found.control_plane, transport=Named(verify=as_member(found)))
