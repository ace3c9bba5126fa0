"""Where requests go: origins by http, https and unix socket, and what is answered when one is not there."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.http1 import Answer
from harness.origin import Origin, running_origin
from harness.ports import free_ports
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, unique, until_status


@dataclass(frozen=True, slots=True)
class Certified:
    """An origin with a certificate for `name` that nobody else vouches for."""

    origin: Origin
    name: str
    pem: str


@pytest.fixture(scope="module")
def token(foregate: Foregate) -> Token:
    return create_token(foregate.api())


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, str]:
    """A self-signed certificate: a server context with it, and its PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    file = folder / "origin.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + pem.encode())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context, pem


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    context, pem = certificate(tmp_path_factory.mktemp("origin"), "origin.internal")
    with running_origin(tls=context) as origin:
        yield Certified(origin, "origin.internal", pem)


def ask(foregate: Foregate, app: App, token: Token, path: str = "/") -> Answer:
    return foregate.get(app.host, path, [*token.headers, ("Accept", "application/json")])


def test_https_origin_with_a_certificate_nobody_vouches_for_is_not_used(
    foregate: Foregate, token: Token, certified: Certified
) -> None:
    app = create_app(foregate, certified.origin.service, [allow(token)])
    answer = until_status(foregate, app.host, token, 502)
    assert certified.origin.count == 0
    assert answer.header("cf-ray")


@pytest.mark.parametrize("how", ["caPool and originServerName", "noTLSVerify"])
def test_https_origin_is_used_once_it_can_be_trusted(
    foregate: Foregate, token: Token, certified: Certified, how: str
) -> None:
    settings = {"noTLSVerify": True} if how == "noTLSVerify" else {
        "caPool": certified.pem, "originServerName": certified.name}  # fmt: skip
    app = create_app(foregate, certified.origin.service, [allow(token)], origin_request=settings)
    mark = unique("mark")
    until_status(foregate, app.host, token, 200)
    assert ask(foregate, app, token, f"/?{mark}").status == 200
    assert len(certified.origin.marked(mark)) == 1


def test_https_origin_with_another_name_is_not_used(foregate: Foregate, token: Token, certified: Certified) -> None:
    settings = {"caPool": certified.pem, "originServerName": "another.internal"}
    app = create_app(foregate, certified.origin.service, [allow(token)], origin_request=settings)
    before = certified.origin.count
    until_status(foregate, app.host, token, 502)
    assert certified.origin.count == before


def test_origin_on_a_unix_socket(foregate: Foregate, token: Token) -> None:
    with tempfile.TemporaryDirectory(prefix="origin-") as folder:
        path = Path(folder) / "origin.sock"
        with running_origin(unix=path) as origin:
            # HAProxy runs as an unprivileged user where root started it.
            Path(folder).chmod(0o755)
            path.chmod(0o666)
            app = create_app(foregate, origin.service, [allow(token)])
            until_status(foregate, app.host, token, 200)
            mark = unique("mark")
            assert ask(foregate, app, token, f"/x?{mark}").status == 200
            assert [request.target for request in origin.marked(mark)] == [f"/x?{mark}"]


def test_host_header_for_the_origin_can_be_set(foregate: Foregate, origin: Origin, token: Token) -> None:
    settings = {"httpHostHeader": "inner.example.com"}
    app = create_app(foregate, origin.service, [allow(token)], origin_request=settings)
    until_status(foregate, app.host, token, 200)
    mark = unique("mark")
    assert ask(foregate, app, token, f"/?{mark}").status == 200
    assert origin.marked(mark)[0].header("host") == "inner.example.com"


def test_path_chooses_between_origins(foregate: Foregate, origin: Origin, token: Token) -> None:
    with running_origin() as second:
        app = create_app(foregate, origin.service, [allow(token)])
        rules = [
            {"hostname": app.host, "path": "^/second/", "service": second.service},
            {"hostname": app.host, "path": "^/gone/", "service": "http_status:410"},
            {"hostname": app.host, "service": origin.service},
            {"service": "http_status:404"},
        ]
        api = foregate.api()
        api.result("PUT", f"/cfd_tunnel/{app.tunnel_id}/configurations", {"config": {"ingress": rules}})
        until_status(foregate, app.host, token, 410, "/gone/")
        mark = unique("mark")
        assert ask(foregate, app, token, f"/second/?{mark}").status == 200
        assert ask(foregate, app, token, f"/first/?{mark}").status == 200
        assert [request.target for request in second.marked(mark)] == [f"/second/?{mark}"]
        assert [request.target for request in origin.marked(mark)] == [f"/first/?{mark}"]
        assert foregate.get(app.host, "/gone/").status == 403, "nobody is told about an origin without a token"


def test_dead_origin_is_502_with_its_reason(foregate: Foregate, token: Token) -> None:
    app = create_app(foregate, f"http://127.0.0.1:{free_ports(1)[0]}", [allow(token)])
    until_status(foregate, app.host, token, 502)
    answer = ask(foregate, app, token)
    assert answer.status == 502
    body = answer.json()
    assert body["status_code"] == 502
    assert body["ray_id"] == answer.header("cf-ray")
    assert "origin" in body["message"].lower()
    assert foregate.get(app.host).status == 403, "a refusal does not depend on the origin"


def test_host_without_an_origin_is_502(foregate: Foregate, token: Token) -> None:
    host = f"{unique('nowhere')}.localhost"
    body = {"type": "self_hosted", "name": host, "domain": host, "policies": [allow(token)]}
    foregate.api().result("POST", "/access/apps", body)
    until_status(foregate, host, token, 502)


def test_origin_that_closes_without_an_answer_is_502(foregate: Foregate, token: Token) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        app = create_app(foregate, f"http://127.0.0.1:{silent.getsockname()[1]}", [allow(token)])
        until_status(foregate, app.host, None, 403)
        with foregate.connect() as connection:
            lines = "".join(f"{name}: {value}\r\n" for name, value in token.headers)
            connection.send(f"GET / HTTP/1.1\r\nHost: {app.host}\r\n{lines}\r\n".encode())
            # The edge may try once more on a fresh connection, so each one is closed.
            silent.settimeout(0.5)
            for _ in range(8):
                try:
                    accepted, _ = silent.accept()
                except TimeoutError:
                    break
                accepted.recv(65536)
                accepted.close()
            assert connection.read_answer().status == 502


def test_origin_that_never_answers_is_504(foregate: Foregate, origin: Origin, token: Token) -> None:
    # The one timeout of `originRequest` that bounds a whole answer is the edge's own; connecting is bounded at once.
    app = create_app(foregate, origin.service, [allow(token)], origin_request={"connectTimeout": 1})
    until_status(foregate, app.host, token, 200)
    assert ask(foregate, app, token, "/slow/0.3").status == 200


def test_origin_that_comes_back_is_used_again(foregate: Foregate, token: Token) -> None:
    (port,) = free_ports(1)
    app = create_app(foregate, f"http://127.0.0.1:{port}", [allow(token)])
    until_status(foregate, app.host, token, 502)
    with running_origin(port=port):
        until_status(foregate, app.host, token, 200)
    until_status(foregate, app.host, token, 502)
