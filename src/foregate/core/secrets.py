"""Secrets: how they are made, checked for form, and kept from being printed.

A secret exists in the clear in two places only: in the answer that issues it, and in the request that uses it.
What is stored and spread is a `Digest`. Nothing here reads or writes files or databases.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field

from foregate.core.errors import invalid

SERVICE_TOKEN_PREFIX = "cfast_"
API_TOKEN_PREFIX = "cfat_"
EDGE_KEY_PREFIX = "fgek_"
EDGE_JOIN_TOKEN_PREFIX = "fgjt_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SYMBOL_OF_BYTE = bytes(ord(_ALPHABET[byte % 62]) for byte in range(256))
_REJECTED_BYTES = bytes(range(248, 256))
_BODY_LENGTH = 40  # 40 of 62 symbols are 238 bits
_FORM = re.compile(r"([a-z]{2,6}_)([0-9A-Za-z]{40})([0-9a-f]{8})")
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in the clear. `reveal()` is the only way to its text; repr, str and formatting show a mask."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """The text itself. Call it only where it is sent or shown once."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(****)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Digest:
    """HMAC-SHA256 of a secret under pepper number `pepper_version`. 32 bytes, never empty."""

    value: bytes = field(repr=False)
    pepper_version: int

    def __post_init__(self) -> None:
        if len(self.value) != DIGEST_BYTES:
            raise ValueError("a digest has 32 bytes")
        if self.pepper_version < 1:
            raise ValueError("pepper versions start at 1")


def new_secret(prefix: str) -> Secret:
    """A random secret: prefix, 40 alphanumerics, and 8 hex digits of CRC-32 over what stands before them.

    Cloudflare publishes the length of the `cfast_` checksum, not its algorithm; CRC-32 as in GitHub's and
    NetBird's tokens finds typing errors and lets scanners tell a real secret from a look-alike.
    """
    body = _random_body()
    return Secret(f"{prefix}{body}{_checksum(prefix + body)}")


def parse_secret(text: str, prefix: str, *, pointer: str | None = None) -> Secret:
    """The secret, if prefix, form and checksum are right; else ForegateError(INVALID_INPUT) without the text."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] != prefix or not hmac.compare_digest(found[3], _checksum(found[1] + found[2])):
        raise invalid(f"This is not a whole secret: it must be {prefix} and 48 more characters.", pointer=pointer)
    return Secret(text)


def digest_secret(secret: Secret, pepper: bytes, pepper_version: int) -> Digest:
    """HMAC-SHA256(pepper, text). Source: architecture, records and keys."""
    return Digest(hmac.digest(pepper, secret.reveal().encode(), hashlib.sha256), pepper_version)


def digests_match(left: Digest, right: Digest) -> bool:
    """Constant-time equality."""
    return left.pepper_version == right.pepper_version and hmac.compare_digest(left.value, right.value)


def _random_body() -> str:
    # Bytes from 248 on are thrown away, or the first symbols would come up more often (62 * 4 = 248). One call to the
    # system for all bytes: `secrets.choice` makes one for each symbol, 25 us and more instead of 1.
    symbols = b""
    while len(symbols) < _BODY_LENGTH:
        symbols += secrets.token_bytes(64).translate(_SYMBOL_OF_BYTE, _REJECTED_BYTES)
    return symbols[:_BODY_LENGTH].decode()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
