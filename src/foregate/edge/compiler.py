"""What turns records into an engine's words. The edge knows no product, so the agent is given one of these."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from foregate.edge import wire
from foregate.edge.config_records import ConfigRecords


class CannotCompile(Exception):
    """No engine could take the record `key`; the text says why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason


class Compiler(Protocol):
    """From records to the engine's words. Pure; given to the agent, as the edge knows no product."""

    def token_entry(self, client_id: str, token: wire.TokenValue) -> str:
        """A token's entry in the maps."""
        ...

    def hosts(self, records: ConfigRecords) -> Iterable[str]:
        """The host names that need a certificate."""
        ...

    def files(self, records: ConfigRecords, socket: Path, pepper_versions: tuple[int, ...]) -> Mapping[str, str]:
        """A worker's files by name, for a worker with the runtime socket `socket`.

        Raises CannotCompile, or ConfigurationRefused where it cannot tell which record is to blame.
        """
        ...


# Of each shape that an entry may have.
_SECRETS = (wire.SecretVersion(2, "b" * 64, 2, None), wire.SecretVersion(1, "a" * 64, 1, 1_900_000_000))
_SAMPLES = (
    wire.TokenValue("t" * 36, "a" * 32, True, None, _SECRETS[:1]),
    wire.TokenValue("t" * 36, "a" * 32, False, 1_900_000_000, _SECRETS),
)


def entry_form(token_entry: Callable[[str, wire.TokenValue], str]) -> str:
    """Stands for how tokens are written in the maps: entries of another form, kept by another release, are not read as
    they were meant."""
    entries = [token_entry(f"{'c' * 32}.access", sample) for sample in _SAMPLES]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()[:16]
