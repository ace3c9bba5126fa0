"""A port is free or has a holder, who is named."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from foregate.services.ports import draw_port, find_port_holder, is_free


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


def test_a_port_somebody_listens_on_is_not_free(listener: socket.socket) -> None:
    assert not is_free("127.0.0.1", listener.getsockname()[1])


def test_its_holder_is_named(listener: socket.socket) -> None:
    holder = find_port_holder(listener.getsockname()[1])
    assert holder is not None
    assert (holder.pid, holder.name) == (os.getpid(), Path("/proc/self/comm").read_text().strip())


def test_a_port_that_was_let_go_is_free(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    assert is_free("127.0.0.1", port)
    assert find_port_holder(port) is None


def test_a_drawn_port_can_be_had_again_after_a_restart() -> None:
    """No connection that begins meanwhile is given it, as the kernel draws from another range."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    drawn = {draw_port("127.0.0.1") for _ in range(20)}
    assert all(0 < port < first and is_free("127.0.0.1", port) for port in drawn)
    assert len(drawn) > 1
