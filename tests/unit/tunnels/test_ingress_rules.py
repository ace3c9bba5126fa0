"""Ingress: what cloudflared's configuration becomes here, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from foregate.api.parameters import parse_members
from foregate.core.errors import ForegateError
from foregate.edge.wire import IngressRule, OriginSettings
from foregate.tunnels.bodies import ConfigurationPut
from foregate.tunnels.ca_pools import read_ca_pools
from foregate.tunnels.edge_config import ingress_value
from foregate.tunnels.model import Configuration, Routing
from foregate.tunnels.rules import ca_pool_paths, given_configuration, read_configuration, rules_for

LAST = {"service": "http_status:404"}
NOT_FOUND = IngressRule("", "http_status:404", OriginSettings())


def put(config: dict[str, Any]) -> ConfigurationPut:
    return parse_members(ConfigurationPut, {"config": config}, noun="member")


def routing(*rules: dict[str, Any], files: dict[str, str] | None = None, **more: Any) -> Routing:
    """What these rules and the usual last one come to."""
    return read_configuration(put({"ingress": [*rules, LAST], **more}).config, files or {})


def settings(origin_request: dict[str, Any], **more: Any) -> OriginSettings:
    """What an `originRequest` of a rule comes to."""
    rule = {"hostname": "a.example.com", "service": "https://o:1", "originRequest": origin_request}
    return routing(rule, **more).rules[0].rule.origin


@pytest.fixture(scope="module")
def pem() -> str:
    """A certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("service", "known_as"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://Origin.Example.com", "http://origin.example.com:80"),
        ("https://origin", "https://origin:443"),
        ("https://192.0.2.1:8443", "https://192.0.2.1:8443"),
        ("http://[2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
        ("unix+tls:/run/app.sock", "unix+tls:/run/app.sock"),
        ("http_status:503", "http_status:503"),
    ],
)
def test_services_are_known_by_one_spelling(service: str, known_as: str) -> None:
    assert routing({"hostname": "a.example.com", "service": service}).rules[0].rule.service == known_as


@pytest.mark.parametrize(
    "service",
    [
        "",
        "localhost:8080",
        "http://",
        "http://origin/path",
        "http://origin/",
        "http://origin:0",
        "http://origin:70000",
        "http://user:pw@origin",
        "http://ori gin",
        "http://origin\r\nx",
        "http://a..b",
        "http_status:99",
        "http_status:600",
        "http_status:abc",
        "unix:relative",
        "unix:/with space",
        "unix:/" + "x" * 200,
        "tcp://origin:22",
        "ssh://origin:22",
        "ws://origin",
        "hello_world",
        "bastion",
        "socks-proxy",
        "ftp://origin",
    ],
)
def test_services_that_are_no_http_origin_are_refused(service: str) -> None:
    with pytest.raises(ForegateError) as refused:
        routing({"hostname": "a.example.com", "service": service})
    assert refused.value.pointer == "/config/ingress/0/service"


@pytest.mark.parametrize(
    ("rule", "pointer"),
    [
        ({"hostname": "a.example.com:80"}, "/config/ingress/0/hostname"),
        ({"hostname": "https://a.example.com"}, "/config/ingress/0/hostname"),
        ({"hostname": "a.example.com/x"}, "/config/ingress/0/hostname"),
        ({"hostname": "a.*.example.com"}, "/config/ingress/0/hostname"),
        ({"hostname": "x*.example.com"}, "/config/ingress/0/hostname"),
        ({"hostname": "*.*.example.com"}, "/config/ingress/0/hostname"),
        ({"hostname": "a b"}, "/config/ingress/0/hostname"),
        ({"hostname": "", "path": "/x"}, "/config/ingress/0/hostname"),
        ({"hostname": "a.example.com", "path": "("}, "/config/ingress/0/path"),
        ({"hostname": "a.example.com", "path": "(?=x)"}, "/config/ingress/0/path"),
        ({"hostname": "a.example.com", "path": "(?<!x)y"}, "/config/ingress/0/path"),
        ({"hostname": "a.example.com", "path": r"(a)\1"}, "/config/ingress/0/path"),
        ({"hostname": "a.example.com", "path": "a b"}, "/config/ingress/0/path"),
        ({"hostname": "a.example.com", "path": "ä"}, "/config/ingress/0/path"),
        ({"hostname": "a.example.com", "originRequest": {"connectTimeout": 0}},
         "/config/ingress/0/originRequest/connectTimeout"),
        ({"hostname": "a.example.com", "originRequest": {"connectTimeout": "30s"}},
         "/config/ingress/0/originRequest/connectTimeout"),
        ({"hostname": "a.example.com", "originRequest": {"connectTimeout": 1.5}},
         "/config/ingress/0/originRequest/connectTimeout"),
        ({"hostname": "a.example.com", "originRequest": {"httpHostHeader": "a\r\nb"}},
         "/config/ingress/0/originRequest/httpHostHeader"),
        ({"hostname": "a.example.com", "originRequest": {"originServerName": "a b"}},
         "/config/ingress/0/originRequest/originServerName"),
        ({"hostname": "a.example.com", "originRequest": {"proxyType": "socks"}},
         "/config/ingress/0/originRequest/proxyType"),
        ({"hostname": "a.example.com", "originRequest": {"disableChunkedEncoding": True}},
         "/config/ingress/0/originRequest/disableChunkedEncoding"),
        ({"hostname": "a.example.com", "originRequest": {"access": {"required": True, "teamName": "x", "audTag": []}}},
         "/config/ingress/0/originRequest/access"),
        ({"hostname": "a.example.com", "originRequest": {"caPool": "-----BEGIN CERTIFICATE-----\nx"}},
         "/config/ingress/0/originRequest/caPool"),
        ({"hostname": "a.example.com", "what": 1}, "/config/ingress/0/what"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_kept_are_refused_by_name(rule: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ForegateError) as refused:
        routing({"service": "http://o:1", **rule})
    assert refused.value.pointer == pointer, refused.value.message


@pytest.mark.parametrize(
    ("ingress", "words"),
    [
        ([], "at least one ingress rule"),
        (None, "at least one ingress rule"),
        ([{"hostname": "a.example.com", "service": "http://o:1"}], "must match all URLs"),
        ([LAST, LAST], "Only the last"),
        ([{"hostname": "*", "service": "http://o:1"}, LAST], "Only the last"),
        ([{"service": "http://o:1"}], "named hosts only"),
    ],
)
def test_the_last_rule_and_it_alone_stands_for_the_rest(ingress: Any, words: str) -> None:
    with pytest.raises(ForegateError) as refused:
        read_configuration(put({"ingress": ingress}).config, {})
    assert words in refused.value.message


def test_private_networks_are_refused() -> None:
    with pytest.raises(ForegateError, match="enabled"):
        put({"ingress": [LAST], "warp-routing": {"enabled": True}})
    assert put({"ingress": [LAST], "warp-routing": {"enabled": False}}).config.ingress


def test_a_rule_takes_what_it_leaves_out_from_the_configuration_then_from_the_defaults() -> None:
    found = settings(
        {"connectTimeout": 3, "noTLSVerify": True, "httpHostHeader": "Origin.internal:81", "originServerName": "O.X"},
        originRequest={"connectTimeout": 9, "tlsTimeout": 8.0, "matchSNItoHost": True},
    )
    assert found == OriginSettings(
        connect_timeout_seconds=3,
        tls_timeout_seconds=8,
        match_sni_to_host=True,
        no_tls_verify=True,
        http_host_header="Origin.internal:81",
        origin_server_name="o.x",
    )


def test_members_of_a_connector_pass_in_their_neutral_value() -> None:
    neutral = {
        "noHappyEyeballs": False,
        "disableChunkedEncoding": False,
        "proxyType": "",
        "proxyAddress": "127.0.0.1",
        "proxyPort": 0,
        "bastionMode": False,
        "ipRules": [],
        "access": None,
        "caPool": "",
        "httpHostHeader": "",
        "originServerName": "",
    }
    assert settings(neutral) == OriginSettings()


def test_a_ca_pool_is_pem_or_a_file_with_it(pem: str, tmp_path: Path) -> None:
    assert settings({"caPool": pem}).ca_pool == pem
    path = tmp_path / "ca.pem"
    path.write_text(f"comment\n{pem}")
    body = put({"ingress": [{"hostname": "a.b", "service": "https://o", "originRequest": {"caPool": str(path)}}, LAST]})
    files = read_ca_pools(ca_pool_paths(body.config))
    assert settings({"caPool": str(path)}, files=files).ca_pool == pem


def test_a_ca_pool_file_that_is_not_one_is_refused_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("-----BEGIN PRIVATE KEY-----")
    words = set()
    for path in (str(tmp_path / "other"), str(tmp_path / "absent"), str(tmp_path), "relative.pem", "/etc/shadow"):
        with pytest.raises(ForegateError) as refused:
            read_ca_pools([path])
        words.add(refused.value.message)
    assert len(words) == 1


def test_only_certificates_leave_a_ca_pool(pem: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    assert settings({"caPool": pem + private}).ca_pool == pem


def test_rules_of_a_host_end_with_the_first_that_takes_every_path() -> None:
    found = routing(
        {"hostname": "a.example.com", "path": "^/api", "service": "http://api:1"},
        {"hostname": "a.example.com", "service": "http://web:1"},
        {"hostname": "a.example.com", "path": "/never", "service": "http://never:1"},
        {"hostname": "b.example.com", "path": "^/x", "service": "http://b:1"},
    )
    assert [rule.service for rule in rules_for(found, "a.example.com")] == ["http://api:1", "http://web:1"]
    assert rules_for(found, "b.example.com")[1:] == (NOT_FOUND,)
    assert found.hostnames == ("a.example.com", "b.example.com")


def test_a_wildcard_above_a_host_goes_first_there_too() -> None:
    found = routing(
        {"hostname": "*.example.com", "path": "^/health$", "service": "http_status:200"},
        {"hostname": "a.example.com", "service": "http://a:1"},
        {"hostname": "*.example.com", "service": "http://rest:1"},
    )
    assert [rule.service for rule in rules_for(found, "a.example.com")] == ["http_status:200", "http://a:1"]
    assert [rule.service for rule in rules_for(found, "*.example.com")] == ["http_status:200", "http://rest:1"]


def test_what_is_stored_compiles_to_the_same_rules(pem: str) -> None:
    body = put(
        {
            "ingress": [
                {
                    "hostname": "A.example.com",
                    "path": "^/api",
                    "service": "https://o",
                    "id": "x",
                    "originRequest": {"caPool": pem, "connectTimeout": 3},
                },
                {"hostname": "", "service": "http_status:404"},
            ],
            "originRequest": {"tlsTimeout": 4},
            "warp-routing": {"enabled": False},
        }
    ).config
    given = given_configuration(body)
    assert given["ingress"][0].keys() == {"hostname", "path", "service", "originRequest"}
    assert given["ingress"][1] == {"hostname": "", "service": "http_status:404"}
    assert given["warp-routing"] == {"enabled": False}
    configuration = Configuration(given, {}, 1, datetime.now(UTC))
    value = ingress_value("a" * 32, configuration, "a.example.com")
    assert value.rules == rules_for(read_configuration(body, {}), "a.example.com")
