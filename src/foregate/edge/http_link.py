"""The feed as an edge's link: HTTP, by an edge key on the control plane's own machine or a certificate elsewhere."""

from __future__ import annotations

from typing import Any

import httpx

from foregate.edge import control_plane
from foregate.edge.feed_client import FeedClient, FeedHandler, unreachable
from foregate.edge.identity import EdgeIdentity
from foregate.edge.link import Feed, Upkeep
from foregate.edge.membership import JoinedIdentity
from foregate.edge.renewal import Renewal
from foregate.edge.shipping import Batch, ControlPlaneAway

_REPORT_SECONDS = 10.0


class HttpLink:
    """See `Link`."""

    def __init__(self, identity: EdgeIdentity) -> None:
        self._identity = identity
        self._http = identity.connect()

    def feed(self, handler: FeedHandler) -> Feed:
        """See `Link.feed`."""
        return FeedClient(self._http, handler, handler.prepare)

    async def fetch_secrets(self) -> bytes:
        """See `Link.fetch_secrets`."""
        return await control_plane.fetch_secrets(self._http)

    async def post_events(self, batch: Batch) -> int:
        """See `Link.post_events`."""
        return await control_plane.post_events(self._http, batch)

    async def send_report(self, report: dict[str, Any]) -> None:
        """See `Link.send_report`."""
        try:
            answer = await self._http.post("/edge/v1/reports", json=report, timeout=_REPORT_SECONDS)
        except (httpx.HTTPError, OSError) as error:
            raise ControlPlaneAway(unreachable(error)) from error
        if not answer.is_success:
            raise ControlPlaneAway(f"the control plane answered {answer.status_code}")

    def upkeep(self) -> Upkeep | None:
        """See `Link.upkeep`. A certificate ends; an edge key does not."""
        return Renewal(self._identity, self._http) if isinstance(self._identity, JoinedIdentity) else None

    async def close(self) -> None:
        """See `Link.close`."""
        await self._http.aclose()
