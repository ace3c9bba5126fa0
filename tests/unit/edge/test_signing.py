"""Assertions that a standard JWT library accepts, from keys that only this edge can open."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from functools import cache

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from foregate.core.records import RecordRefused
from foregate.edge.sealing import seal_signing_key
from foregate.edge.signing import assertion_claims, metadata_claims, open_signer
from foregate.edge.wire import KeysValue, SigningKey

SEALING_KEY = os.urandom(32)


@cache
def private_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def keys(key: rsa.RSAPrivateKey) -> KeysValue:
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    n = key.public_key().public_numbers().n
    encoded = base64.urlsafe_b64encode(n.to_bytes((n.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
    jwk = {"kid": "kid-1", "kty": "RSA", "alg": "RS256", "use": "sig", "e": "AQAB", "n": encoded}
    return KeysValue((SigningKey("kid-1", jwk, "", seal_signing_key(SEALING_KEY, "kid-1", pem)),))


def test_an_origin_accepts_the_assertion_by_the_published_key() -> None:
    value = keys(private_key())
    signer = open_signer(SEALING_KEY, value)
    text = signer.sign(assertion_claims("aud", "auth.example.com", "0.access", 1_900_000_000, 3_600))

    key = jwt.PyJWK(value.keys[0].jwk)
    assert jwt.get_unverified_header(text) == {"alg": "RS256", "kid": "kid-1", "typ": "JWT"}
    assert jwt.decode(text, key, ["RS256"], audience="aud", options={"verify_iat": False}) == {
        "type": "app",
        "aud": ["aud"],
        "iss": "https://auth.example.com",
        "iat": 1_900_000_000,
        "exp": 1_900_003_600,
        "sub": "",
        "common_name": "0.access",
    }


def test_cloudflared_gets_the_metadata_it_asks_for() -> None:
    claims = metadata_claims("aud", "auth.example.com", "x.example.com", "x.example.com/a", 7)
    assert claims["type"] == "match"
    assert claims["app_hostname"] == "x.example.com/a"


def test_a_key_that_does_not_open_or_fit_is_refused() -> None:
    value = keys(private_key())
    [current] = value.keys
    cases = [
        (os.urandom(32), value),
        (SEALING_KEY, KeysValue((replace(current, kid="kid-2"),))),
        (SEALING_KEY, KeysValue((replace(current, private_key=""),))),
        (SEALING_KEY, KeysValue((replace(current, jwk={**current.jwk, "n": "AQAB"}),))),
        (SEALING_KEY, keys(private_key(1024))),
    ]
    for sealing_key, damaged in cases:
        with pytest.raises(RecordRefused, match="signing key"):
            open_signer(sealing_key, damaged)


def test_a_signer_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(open_signer(SEALING_KEY, keys(private_key()))).upper()
