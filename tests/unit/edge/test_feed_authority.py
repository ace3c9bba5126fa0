"""What the feed's CA vouches for: each certificate for one side alone, short-lived, and for clocks that are off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from foregate.core.errors import ForegateError
from foregate.core.secrets import EDGE_JOIN_TOKEN_PREFIX, new_secret
from foregate.edge.feed_authority import (
    SERVER_NAME,
    certify_edge,
    certify_server,
    fingerprint_of,
    new_feed_authority,
    new_request,
    open_feed_authority,
    read_request,
)
from foregate.edge.join_token import read_join_token, write_join_token

NOW = datetime(2026, 11, 1, tzinfo=UTC)
AUTHORITY = open_feed_authority(*new_feed_authority(NOW))
EDGE = certify_edge(AUTHORITY, read_request(new_request()[1]), "edge-1", NOW)
SERVER = x509.load_pem_x509_certificate(certify_server(AUTHORITY, NOW))


@pytest.mark.parametrize("certificate", [AUTHORITY.certificate, EDGE, SERVER], ids=["ca", "edge", "server"])
@pytest.mark.parametrize(
    "off", [timedelta(hours=-1), timedelta(0), timedelta(hours=1)], ids=["behind", "right", "ahead"]
)
def test_certificate_holds_at_once_for_a_clock_that_is_an_hour_off(
    certificate: x509.Certificate, off: timedelta
) -> None:
    assert certificate.not_valid_before_utc < NOW + off < certificate.not_valid_after_utc


def test_edge_and_control_plane_are_vouched_for_in_their_own_part_alone() -> None:
    def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    def names(certificate: x509.Certificate) -> list[object]:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [name.value for name in found]

    assert (purposes(EDGE), names(EDGE)) == ([ExtendedKeyUsageOID.CLIENT_AUTH], ["urn:foregate:edge:edge-1"])
    assert (purposes(SERVER), names(SERVER)) == ([ExtendedKeyUsageOID.SERVER_AUTH], [SERVER_NAME])


def test_edges_certificate_lives_a_week() -> None:
    assert EDGE.not_valid_after_utc == NOW + timedelta(days=7)


def test_name_in_a_request_is_not_taken() -> None:
    """An edge's id is the control plane's to give."""
    assert EDGE.subject.rfc4514_string() == "CN=edge-1"


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(ForegateError, match="PKCS #10"):
        read_request(text)


def test_request_that_was_changed_is_refused() -> None:
    _, text = new_request()
    lines = text.splitlines()
    lines[-2] = lines[-2][::-1]
    with pytest.raises(ForegateError):
        read_request("\n".join(lines))


def test_join_token_names_its_control_plane() -> None:
    secret = new_secret(EDGE_JOIN_TOKEN_PREFIX)
    text = write_join_token(secret, AUTHORITY).reveal()
    assert read_join_token(f" {text}\n") == (secret, fingerprint_of(AUTHORITY.certificate))


@pytest.mark.parametrize("place", [0, 10, 52, 53, 60, -1])
def test_join_token_with_a_wrong_letter_is_none_or_of_another_control_plane(place: int) -> None:
    secret = new_secret(EDGE_JOIN_TOKEN_PREFIX)
    letters = list(write_join_token(secret, AUTHORITY).reveal())
    letters[place] = "!" if place == 53 else ("A" if letters[place] != "A" else "B")
    try:
        _, fingerprint = read_join_token("".join(letters))
    except ForegateError:
        return
    assert fingerprint != fingerprint_of(AUTHORITY.certificate) or place == -1
