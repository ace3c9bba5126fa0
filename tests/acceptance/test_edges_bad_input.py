"""What strangers and broken edges send to the feed port is refused, and nothing of it reaches anybody else."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from foregate.core.secrets import EDGE_JOIN_TOKEN_PREFIX, new_secret
from foregate.edge import sealed_box
from foregate.edge.feed_authority import new_request
from foregate.edge.feed_tls import blind_context
from harness.joined import join_token, running_control_plane
from harness.product import Foregate
from harness.waiting import until


@pytest.fixture(scope="module")
def plane() -> Iterator[tuple[Foregate, str]]:
    with running_control_plane() as started:
        yield started


@pytest.fixture(autouse=True)
def api_goes_on(plane: tuple[Foregate, str]) -> Iterator[None]:
    """Whatever a test sends: the API process is the same afterwards, and the port answers."""
    foregate, url = plane
    before = [process.pid for process in foregate.processes("api")]
    yield
    assert [process.pid for process in foregate.processes("api")] == before
    assert call(url, "GET", "/edge/v1/authority")[0] == 200


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def call(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", port_of(url), context=blind_context(), timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def join_body(**changed: Any) -> dict[str, Any]:
    public_key = sealed_box.public_key_of(sealed_box.new_private_key())
    return {
        "token": new_secret(EDGE_JOIN_TOKEN_PREFIX).reveal(),
        "name": "stranger",
        "request": new_request()[1],
        "sealing_key": base64.b64encode(public_key).decode(),
        **changed,
    }


BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "no JSON": (b"{", 400),
    "a list": (b"[]", 400),
    "no members": (b"{}", 400),
    "a member too many": (json.dumps(join_body(admin=True)).encode(), 400),
    "a token that nobody made": (json.dumps(join_body()).encode(), 401),
    "a service token": (json.dumps(join_body(token=new_secret("cfast_").reveal())).encode(), 400),
    "no request": (json.dumps(join_body(request="-----BEGIN CERTIFICATE REQUEST-----")).encode(), 400),
    "a key of small order": (json.dumps(join_body(sealing_key=base64.b64encode(bytes(32)).decode())).encode(), 400),
    "a short key": (json.dumps(join_body(sealing_key="AAAA")).encode(), 400),
    "numbers": (json.dumps(join_body(name=1)).encode(), 400),
    "too much": (bytes(100_000), 413),
}


@pytest.mark.parametrize("name", BODIES)
def test_join_of_a_stranger_is_refused(plane: tuple[Foregate, str], name: str) -> None:
    body, status = BODIES[name]
    found, content = call(plane[1], "POST", "/edge/v1/join", body)
    assert found == status
    assert json.loads(content)["success"] is False


@pytest.mark.parametrize("name", ["", "a b", "../x", "é", "x" * 65, "-x"])
def test_name_that_is_none_is_refused_and_the_token_stays_good(plane: tuple[Foregate, str], name: str) -> None:
    foregate, url = plane
    token = join_token(foregate).partition(".")[0]
    status, content = call(url, "POST", "/edge/v1/join", json.dumps(join_body(token=token, name=name)).encode())
    assert (status, b"A name has 1 to 64" in content) == (400, True)
    unique = f"named-{os.urandom(4).hex()}"
    assert call(url, "POST", "/edge/v1/join", json.dumps(join_body(token=token, name=unique)).encode())[0] == 200


def test_request_for_another_kind_of_key_is_refused(plane: tuple[Foregate, str]) -> None:
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    body = join_body(request=request.public_bytes(serialization.Encoding.PEM).decode())
    assert call(plane[1], "POST", "/edge/v1/join", json.dumps(body).encode())[0] == 400


@pytest.mark.parametrize("path", ["/edge/v1/secrets", "/edge/v1/feed", "/edge/v1/feed?after=0&version=2"])
def test_without_a_certificate_nothing_is_told(plane: tuple[Foregate, str], path: str) -> None:
    status, content = call(plane[1], "GET", path)
    assert (status, b"foregate edge join" in content) == (401, True)


@pytest.mark.parametrize("path", ["/client/v4/accounts", "/client/v4/user/tokens/verify", "/openapi.json", "/"])
def test_control_api_is_not_on_the_feed_port(plane: tuple[Foregate, str], path: str) -> None:
    foregate, url = plane
    connection = http.client.HTTPSConnection("127.0.0.1", port_of(url), context=blind_context(), timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {foregate.admin_token}"})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status in (200, 404)
    assert answer.status == 404 or json.loads(content)["paths"] == {}


def test_older_tls_is_refused(plane: tuple[Foregate, str]) -> None:
    context = blind_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(("127.0.0.1", port_of(plane[1]))) as raw:
        context.wrap_socket(raw)


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(2_000), bytes(70_000), b"\n"])
def test_what_is_no_tls_is_hung_up_on(plane: tuple[Foregate, str], content: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(plane[1])), timeout=10) as raw:
        raw.sendall(content)
        raw.shutdown(socket.SHUT_WR)
        try:
            while raw.recv(4_096):
                pass
        except ConnectionResetError:
            pass


def test_connections_that_say_nothing_keep_nobody_else_out(plane: tuple[Foregate, str]) -> None:
    silent = [socket.create_connection(("127.0.0.1", port_of(plane[1]))) for _ in range(200)]
    until(lambda: call(plane[1], "GET", "/edge/v1/authority")[0] == 200, 10, "the port answers beside them")
    for one in silent:
        one.close()
