"""An edge's way to its control plane: what it follows, and where its secrets come from and its events and reports go.

Two kinds: `edge/http_link.py`, the feed; and `edge/kafka_link.py`, topics of Kafka, where nothing else is needed.
"""

from __future__ import annotations

from typing import Any, Protocol

from foregate.edge.feed_client import FeedHandler, FeedStatus
from foregate.edge.shipping import Batch


class Feed(Protocol):
    """Follows the control plane's changes."""

    @property
    def status(self) -> FeedStatus:
        """How it is going."""
        ...

    async def run(self) -> None:
        """Follow for ever. Expelled ends it."""
        ...


class Link(Protocol):
    """Used from one event loop."""

    def feed(self, handler: FeedHandler) -> Feed:
        """What hands the changes to `handler`, in order."""
        ...

    async def fetch_secrets(self) -> bytes:
        """The sealed secrets. FeedBroken where they cannot be had now, Expelled where they never will."""
        ...

    async def post_events(self, batch: Batch) -> int:
        """Deliver a batch; the byte up to which the control plane has that worker's file. See `Shipper`."""
        ...

    async def send_report(self, report: dict[str, Any]) -> None:
        """Deliver a report. ControlPlaneAway where that fails; the text says why."""
        ...

    def upkeep(self) -> Upkeep | None:
        """What the link itself needs to be done, if anything."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Upkeep(Protocol):
    """Work of a link beside its use."""

    async def run(self) -> None:
        """Do it until cancelled."""
        ...

    def problem(self) -> str:
        """What a person should know of, or ''."""
        ...
