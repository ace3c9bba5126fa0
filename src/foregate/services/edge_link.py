"""Which way an edge goes to its control plane: the feed, or Kafka."""

from __future__ import annotations

from collections.abc import Callable

from foregate.edge.following import StateThread
from foregate.edge.http_link import HttpLink
from foregate.edge.identity import EdgeIdentity
from foregate.edge.link import Link
from foregate.edge.membership import JoinedIdentity
from foregate.edge.paths import EdgePaths
from foregate.edge.state import State
from foregate.services.home import Home
from foregate.services.kafka import has_login, kafka_access
from foregate.services.settings import Settings

_PLACE = "kafka_place"


def link_of(settings: Settings, home: Home, identity: EdgeIdentity, paths: EdgePaths) -> Callable[[StateThread], Link]:
    """Kafka for an edge that joined, where a setting names one and the edge has a user there; else the feed.

    The edge on the control plane's own machine shows itself by a key, for which Kafka has no secrets.
    """
    if not (settings.kafka and isinstance(identity, JoinedIdentity) and has_login(settings, home, "edge")):
        return lambda _: HttpLink(identity)
    from foregate.edge.kafka_link import KafkaLink

    access = kafka_access(settings, home, "edge")
    return lambda state: KafkaLink(access, identity, paths.secrets, _PlaceInState(state))


class _PlaceInState:
    """Keeps the place in the topic beside the records."""

    def __init__(self, state: StateThread) -> None:
        self._state = state

    async def read(self) -> str:
        """See `Places.read`."""
        return await self._state.run(State.text, _PLACE)

    async def keep(self, text: str) -> None:
        """See `Places.keep`."""
        await self._state.run(_keep, text)


def _keep(state: State, text: str) -> None:
    with state.transaction():
        state.set_text(_PLACE, text)
