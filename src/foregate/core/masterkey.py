"""The master key file, and the keys derived from it: one per purpose, HKDF-SHA256 (RFC 5869).

The file is JSON, mode 0600, outside every database: `{"v": 1, "current": 1, "roots": {"1": "<base64, 32 bytes>"}}`.
A root's number is the pepper version of the secrets digested under it; a new root is added, old ones stay until
no live secret uses them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The roots by number, and which one new secrets are digested under."""

    roots: dict[int, bytes] = field(repr=False)
    current: int

    def pepper(self, version: int) -> bytes:
        """The 32-byte pepper of `version`. KeyError where the file has no such root."""
        return derive(self.roots[version], "pepper")

    def peppers(self) -> dict[int, bytes]:
        """All peppers by version."""
        return {version: self.pepper(version) for version in self.roots}

    def record_mac_key(self) -> bytes:
        """The 32-byte key of the MAC over edge records. Derived from root 1 so that it outlives new peppers."""
        return derive(self.roots[min(self.roots)], "record mac")

    def key_encryption_key(self) -> bytes:
        """The 32-byte key that encrypts signing keys at rest."""
        return derive(self.roots[min(self.roots)], "key encryption")

    def edge_sealing_key(self) -> bytes:
        """The 32-byte key that encrypts signing keys inside edge records."""
        return derive(self.roots[min(self.roots)], "edge sealing")

    def api_token_key(self) -> bytes:
        """The 32-byte key of the digests of API tokens and edge keys."""
        return derive(self.roots[min(self.roots)], "api token")


def derive(root: bytes, purpose: str) -> bytes:
    """HKDF-SHA256, 32 bytes, salt `foregate`, info = purpose."""
    extracted = hmac.digest(b"foregate", root, hashlib.sha256)
    return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)


def load_or_create(path: Path) -> MasterKey:
    """The key in `path`; a new one is made there (0600) if the file is absent. Never overwrites."""
    if not path.exists():
        key = MasterKey({1: secrets.token_bytes(32)}, 1)
        write_private(path, encode(key))
    return load(path)


def load(path: Path) -> MasterKey:
    """The key in `path`. ForegateError(UNAVAILABLE) says what is wrong with the file, never what is in it."""
    try:
        if path.stat().st_mode & 0o077:
            raise _unusable(path, f"is readable by others; run: chmod 600 {path}")
        data = json.loads(path.read_text())
        roots = {int(number): base64.b64decode(text, validate=True) for number, text in data["roots"].items()}
        current = int(data["current"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(path, "is missing or damaged; put the saved copy back") from error
    if current not in roots or any(len(root) != 32 for root in roots.values()):
        raise _unusable(path, "is damaged; put the saved copy back")
    return MasterKey(roots, current)


def encode(key: MasterKey) -> bytes:
    """The file's text for `key`."""
    roots = {str(number): base64.b64encode(root).decode() for number, root in sorted(key.roots.items())}
    return json.dumps({"v": 1, "current": key.current, "roots": roots}, indent=2).encode() + b"\n"


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all: beside, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unusable(path: Path, what: str) -> ForegateError:
    return ForegateError(ErrorCode.UNAVAILABLE, f"The master key {path} {what}.")
