"""How an edge shows itself to the control plane, and opens what is sealed for it alone.

Two kinds: an edge key, for the edge on the control plane's own machine, and (`edge/membership.py`) a certificate, for
one that joined.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from foregate.edge.secrets import EdgeSecrets, open_secrets

_TIMEOUT_SECONDS = 10.0


class EdgeIdentity(Protocol):
    """What the agent needs of either kind."""

    @property
    def edge_id(self) -> str:
        """The edge's id."""
        ...

    def connect(self) -> httpx.AsyncClient:
        """A client for the control plane; one for all of an edge's calls."""
        ...

    def open(self, sealed: bytes) -> EdgeSecrets:
        """The secrets in `sealed`. SealBroken where the bytes are damaged or not meant for this edge."""
        ...


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """An edge key and where the control plane is, on this machine."""

    edge_id: str
    edge_key: str = field(repr=False)
    control_plane_url: str

    def connect(self) -> httpx.AsyncClient:
        """See `EdgeIdentity`."""
        return client(self.control_plane_url, {"Authorization": f"Edge {self.edge_id}:{self.edge_key}"})

    def open(self, sealed: bytes) -> EdgeSecrets:
        """See `EdgeIdentity`."""
        return open_secrets(sealed, self.edge_id, self.edge_key)


def client(
    base_url: str,
    headers: dict[str, str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
) -> httpx.AsyncClient:
    """A client of one control plane. `server_name`: the name its certificate must have, whatever the address."""
    # The feed, one batch of events and one report at a time, and a fetch of the secrets.
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=4)
    return httpx.AsyncClient(
        base_url=base_url,
        headers={**(headers or {}), "Accept-Encoding": "identity"},
        timeout=_TIMEOUT_SECONDS,
        # A proxy from the environment must not get between an edge and its control plane.
        trust_env=False,
        transport=_Named(server_name, verify=tls or False, limits=limits, trust_env=False),
    )


class _Named(httpx.AsyncHTTPTransport):
    """Asks for the server by a name of ours instead of the address, which a certificate cannot know."""

    def __init__(self, server_name: str, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._server_name = server_name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        if self._server_name:
            request.extensions = {**request.extensions, "sni_hostname": self._server_name}
        return await super().handle_async_request(request)
