"""Keeps the certificate of a joined edge fresh: with a third of its life left, a new key, a request, another
certificate.

The one in use goes on until the new one is on the disk; if the answer is lost it is still good. Only time and a control
plane that can be reached are needed, so a failure is tried again, and told while there is something to worry about.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import structlog

from foregate.core.clock import Clock, format_time, utc_now
from foregate.edge.feed_authority import new_request
from foregate.edge.feed_client import unreachable
from foregate.edge.feed_tls import client_context
from foregate.edge.membership import JoinedIdentity, write_membership

# Of a week's life: a failure has 55 more tries before it matters.
_LOOK_SECONDS = 3_600.0
# A control plane that was away is asked again before long, as the edge may be near the end of its certificate.
_RETRY_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Renewal:
    """`run()` until cancelled; `problem()` says what a person should know of."""

    def __init__(self, identity: JoinedIdentity, http: httpx.AsyncClient, clock: Clock = utc_now) -> None:
        self._identity = identity
        self._http = http
        self._clock = clock
        self._error = ""

    async def run(self) -> None:
        """Renew whenever it is time."""
        while True:
            await self.look()
            await asyncio.sleep(_RETRY_SECONDS if self._error else _LOOK_SECONDS)

    async def look(self) -> bool:
        """Renew if it is time; whether that was done. Safe to call at any time."""
        if not self.is_due():
            return False
        try:
            await self._renew()
        except (httpx.HTTPError, OSError, ValueError, LookupError, TypeError) as error:
            is_away = isinstance(error, httpx.HTTPError)
            self._error = unreachable(error) if is_away else f"{type(error).__name__}: {error}".rstrip(": ")
            log.warning("certificate_not_renewed", reason=self._error)
            return False
        self._error = ""
        log.info("certificate_renewed", until=format_time(self._identity.membership.expires_at))
        return True

    def is_due(self) -> bool:
        """Whether a third of the certificate's life is left, or less."""
        membership = self._identity.membership
        life = membership.expires_at - membership.issued_at
        return membership.expires_at - self._clock() <= life / 3

    def problem(self) -> str:
        """A sentence, or ''."""
        membership = self._identity.membership
        if membership.expires_at <= self._clock():
            return (
                f"this edge's certificate ended at {format_time(membership.expires_at)}, so the control plane does not "
                f"know it any more; have it join again: foregate edge token create --rejoin {membership.name} there, "
                "foregate edge join --rejoin here"
            )
        if self._error:
            ends = format_time(membership.expires_at)
            return f"this edge's certificate ends at {ends} and is not renewed: {self._error}"
        return ""

    async def _renew(self) -> None:
        tls_key, request = new_request()
        answer = await self._http.post("/edge/v1/certificate", json={"request": request})
        answer.raise_for_status()
        membership = self._identity.membership
        renewed = replace(membership, certificate=str(answer.json()["certificate"]), tls_key=tls_key.decode())
        client_context(renewed.authority, renewed.pem)  # whether they fit, before the old ones go
        await asyncio.to_thread(write_membership, self._identity.path, renewed)
        self._identity.take(renewed)
