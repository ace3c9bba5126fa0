"""Tells the control plane how far this edge is, and what it refused or holds: soon after a change, and now and then.

Receipts are made from these reports, so `applied_seq` is what requests are judged by, not what has merely arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from foregate.edge.shipping import ControlPlaneAway

# A burst of changes is one report; a receipt may lag by this much.
_LEAST_PAUSE_SECONDS = 0.15
_LONGEST_PAUSE_SECONDS = 10.0
_RETRY_SECONDS = 1.0


class Reporter:
    """`wake()` when something changed; `run()` reports until cancelled."""

    def __init__(
        self, send: Callable[[dict[str, Any]], Awaitable[None]], compose: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        """`compose` gives the report; `send` delivers it or raises ControlPlaneAway."""
        self._send = send
        self._compose = compose
        self._woken = asyncio.Event()
        self.error = ""

    def wake(self) -> None:
        """Something worth telling has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Report for ever; a control plane that is away is told when it is back."""
        while True:
            self._woken.clear()
            is_told = await self.report()
            await asyncio.sleep(_LEAST_PAUSE_SECONDS if is_told else _RETRY_SECONDS)
            if is_told:
                await self._changed_or(_LONGEST_PAUSE_SECONDS)

    async def report(self) -> bool:
        """Send one report now. Whether it was taken."""
        try:
            await self._send(await self._compose())
        except (ControlPlaneAway, OSError) as error:
            self.error = str(error)
            return False
        self.error = ""
        return True

    async def _changed_or(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
