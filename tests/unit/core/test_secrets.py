"""Secrets: form, checksum, masks, digests."""

from __future__ import annotations

import copy
import re

import pytest

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.secrets import (
    API_TOKEN_PREFIX,
    EDGE_KEY_PREFIX,
    SERVICE_TOKEN_PREFIX,
    Digest,
    Secret,
    digest_secret,
    digests_match,
    new_secret,
    parse_secret,
)

PEPPER = b"p" * 32


@pytest.mark.parametrize("prefix", [SERVICE_TOKEN_PREFIX, API_TOKEN_PREFIX, EDGE_KEY_PREFIX])
def test_new_secret_has_prefix_forty_alphanumerics_and_checksum(prefix: str) -> None:
    text = new_secret(prefix).reveal()

    assert re.fullmatch(prefix + "[0-9A-Za-z]{40}[0-9a-f]{8}", text)
    assert parse_secret(text, prefix).reveal() == text


def test_new_secrets_differ() -> None:
    assert len({new_secret(SERVICE_TOKEN_PREFIX).reveal() for _ in range(100)}) == 100


def test_secret_is_masked_wherever_it_is_printed() -> None:
    secret = new_secret(SERVICE_TOKEN_PREFIX)
    shown = [repr(secret), str(secret), f"{secret}", "%s" % secret, repr([secret]), repr({"a": secret})]  # noqa: UP031

    assert all(secret.reveal() not in text and "****" in text for text in shown)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "****",
        lambda text: "[REDACTED]",
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text.upper(),
        lambda text: text.replace("cfast_", "cfat_"),
        lambda text: text[:10] + ("a" if text[10] != "a" else "b") + text[11:],
        lambda text: text[:-8] + "*" * 8,
        lambda text: text[:12] + "…" + text[13:],
    ],
    ids=["empty", "masked", "redacted", "cut", "longer", "blank", "newline", "case", "prefix", "typo", "tail", "dots"],
)
def test_masked_cut_or_mistyped_secret_is_refused_without_being_repeated(change: object) -> None:
    text = new_secret(SERVICE_TOKEN_PREFIX).reveal()
    wrong = change(text)  # type: ignore[operator]

    with pytest.raises(ForegateError) as caught:
        parse_secret(wrong, SERVICE_TOKEN_PREFIX, pointer="/secret")

    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert caught.value.pointer == "/secret"
    assert text not in str(caught.value) and caught.value.detail == ""


def test_digest_is_hmac_sha256_under_the_pepper() -> None:
    digest = digest_secret(Secret("abc"), PEPPER, 3)

    # printf abc | openssl dgst -sha256 -hmac pppppppppppppppppppppppppppppppp
    assert digest.value.hex() == "c1bfc511ee5992c4462369624f67e8a20040ad9fac32caa57e7626f62a871caf"
    assert digest.pepper_version == 3


def test_digest_is_not_printed() -> None:
    digest = digest_secret(Secret("abc"), PEPPER, 1)

    assert digest.value.hex() not in repr(digest) and repr(digest.value) not in repr(digest)


@pytest.mark.parametrize("value", [b"", b"x" * 31, b"x" * 33])
def test_digest_of_the_wrong_length_cannot_be_made(value: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Digest(value, 1)


def test_pepper_versions_start_at_one() -> None:
    with pytest.raises(ValueError, match="start at 1"):
        Digest(b"x" * 32, 0)


def test_digests_match_only_when_value_and_pepper_are_equal() -> None:
    one = Digest(b"x" * 32, 1)

    assert digests_match(one, copy.copy(one))
    assert not digests_match(one, Digest(b"y" * 32, 1))
    assert not digests_match(one, Digest(b"x" * 32, 2))
