"""What turns records into an engine's words. The edge knows no product, so the agent is given one of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
