"""What an ended Foregate may not leave behind."""

from __future__ import annotations

import socket

from harness.product import Foregate
from harness.sockets import outside_folders


def assert_nothing_left(product: Foregate) -> None:
    """No process, no socket, no lock, no listener."""
    for name in ("up", "api", "worker", "edge", "echo", "haproxy"):
        assert product.processes(name) == []
    left = [path for path in product.home.rglob("*") if path.is_socket() or path.suffix == ".lock"]
    assert left + outside_folders(product.home) == []
    for port in (product.api_port, product.http_port, product.https_port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
