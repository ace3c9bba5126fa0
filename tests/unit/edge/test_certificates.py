"""A certificate for every host: your own first, else one from the local CA that a strict client accepts."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from foregate.core.errors import ForegateError
from foregate.edge.certificates import Certificates

NOW = datetime.now(UTC)
ONE_DAY = timedelta(days=1)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    (tmp_path / "own").mkdir()
    return Certificates(tmp_path / "ca", tmp_path / "certs", tmp_path / "own")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def served_name(pem: Path, ca: Path, host: str) -> str:
    """What a client that trusts only `ca` learns from a server with `pem`; raises where it is not accepted."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(pem)
    client_side = ssl.create_default_context(cafile=str(ca))
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server_side)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname=host)
        subject = writer.get_extra_info("peercert")["subjectAltName"][0][1]
        writer.close()
    return str(subject)


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("echo.localhost", "echo.localhost"),
        ("*.example.com", "a.example.com"),
        ("dev-*.example.com", "dev-1.example.com"),
        (f"{'a' * 60}.{'b' * 60}.example.com", f"{'a' * 60}.{'b' * 60}.example.com"),
    ],
    ids=["plain", "wildcard", "partial wildcard", "longer than a common name"],
)
async def test_a_strict_client_accepts_the_local_certificate(
    tmp_path: Path, certificates: Certificates, host: str, asked: str
) -> None:
    assert certificates.ensure([host], NOW).has_changed
    [pem] = (tmp_path / "certs").iterdir()
    assert await served_name(pem, tmp_path / "ca" / "ca.pem", asked) in (host, f"*.{asked.partition('.')[2]}")
    assert pem.stat().st_mode & 0o077 == 0
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o077 == 0


def test_nothing_changes_while_nothing_has_to(tmp_path: Path, certificates: Certificates) -> None:
    certificates.ensure(["a.localhost", "b.localhost"], NOW)
    before = (tmp_path / "ca" / "ca.pem").read_bytes()
    assert not certificates.ensure(["b.localhost", "a.localhost"], NOW + ONE_DAY).has_changed
    assert (tmp_path / "ca" / "ca.pem").read_bytes() == before


def test_certificates_come_and_go_with_their_hosts(tmp_path: Path, certificates: Certificates) -> None:
    certificates.ensure(["a.localhost"], NOW)
    assert certificates.ensure(["b.localhost"], NOW).has_changed
    assert names(tmp_path / "certs") == ["1-b.localhost.pem"]


def test_a_certificate_is_renewed_with_a_month_left(tmp_path: Path, certificates: Certificates) -> None:
    certificates.ensure(["a.localhost"], NOW)
    assert not certificates.ensure(["a.localhost"], NOW + 59 * ONE_DAY).has_changed
    assert certificates.ensure(["a.localhost"], NOW + 61 * ONE_DAY).has_changed
    content = (tmp_path / "certs" / "1-a.localhost.pem").read_bytes()
    assert x509.load_pem_x509_certificates(content)[0].not_valid_after_utc > NOW + 150 * ONE_DAY


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_certificate_is_made_anew(tmp_path: Path, certificates: Certificates, damage: bytes) -> None:
    certificates.ensure(["a.localhost"], NOW)
    (tmp_path / "certs" / "1-a.localhost.pem").write_bytes(damage)
    assert certificates.ensure(["a.localhost"], NOW).has_changed


def own(tmp_path: Path, host: str) -> bytes:
    """Key and certificate from somebody else's CA."""
    Certificates(tmp_path / "other-ca", tmp_path / "other", tmp_path / "none").ensure([host], NOW)
    [pem] = (tmp_path / "other").iterdir()
    return pem.read_bytes()


def test_your_own_certificate_goes_first(tmp_path: Path, certificates: Certificates) -> None:
    content = own(tmp_path, "*.example.com")
    (tmp_path / "own" / "example.pem").write_bytes(content)
    outcome = certificates.ensure(["app.example.com", "a.localhost"], NOW)
    assert outcome.problems == ()
    assert names(tmp_path / "certs") == ["0-example.pem", "1-a.localhost.pem"]
    assert (tmp_path / "certs" / "0-example.pem").read_bytes() == content


def test_your_own_key_may_lie_beside(tmp_path: Path, certificates: Certificates) -> None:
    content = own(tmp_path, "app.example.com")
    end = content.index(b"-----END PRIVATE KEY-----") + 26
    (tmp_path / "own" / "app.crt").write_bytes(content[end:])
    (tmp_path / "own" / "app.key").write_bytes(content[:end])
    certificates.ensure(["app.example.com"], NOW)
    assert names(tmp_path / "certs") == ["0-app.pem"]


def test_your_own_certificate_that_is_not_fit_is_left_out_with_a_sentence(
    tmp_path: Path, certificates: Certificates
) -> None:
    (tmp_path / "own" / "bad.pem").write_bytes(b"nonsense")
    (tmp_path / "own" / "keyless.pem").write_bytes((content := own(tmp_path, "x.example.com"))[300:])
    (tmp_path / "own" / "old.pem").write_bytes(content)
    outcome = certificates.ensure(["x.example.com"], NOW + 365 * ONE_DAY)
    assert len(outcome.problems) == 3
    assert "expired" in outcome.problems[2]
    assert names(tmp_path / "certs") == ["1-x.example.com.pem"]


def test_hosts_that_no_certificate_can_name_are_told(certificates: Certificates) -> None:
    [problem] = certificates.ensure(["a.*.example.com"], NOW).problems
    assert "a.*.example.com" in problem


def test_a_ca_that_lost_its_key_is_not_replaced_silently(tmp_path: Path, certificates: Certificates) -> None:
    certificates.ensure(["a.localhost"], NOW)
    (tmp_path / "ca" / "ca.key").unlink()
    with pytest.raises(ForegateError, match="local CA"):
        certificates.ensure(["a.localhost"], NOW)
