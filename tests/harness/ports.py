"""Free loopback ports."""

from __future__ import annotations

import random
import socket

# Below the kernel's ephemeral range, so that no outgoing connection takes a port between drawing and binding it.
_DRAWN_FROM = range(18000, 32000)


def free_ports(count: int) -> list[int]:
    """`count` ports on which nobody listens now, drawn at random so that two test runs rarely meet."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().choice(_DRAWN_FROM)
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
