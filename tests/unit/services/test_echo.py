"""The echo service shows what reached it, without what would be of use to a thief."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from foregate.services.echo import read_port, run
from foregate.services.holder import find_holder
from foregate.services.home import Home, open_home
from foregate.services.process import lock_path
from foregate.services.settings import load

DEADLINE_SECONDS = 10


@contextmanager
def running(home: Home) -> Iterator[int]:
    """An echo service in a thread; its port."""
    settings = load({"FOREGATE_HOME": str(home.root)})
    loop, told = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(settings, told),))
    thread.start()
    try:
        pause = threading.Event()
        for _ in range(DEADLINE_SECONDS * 100):
            if find_holder(lock_path(home, "echo")) is not None:
                break
            pause.wait(0.01)
        port = read_port(home)
        assert port is not None
        yield port
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join(DEADLINE_SECONDS)
        loop.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running(open_home(tmp_path_factory.mktemp("home"))) as found:
        yield found


def ask(port: int, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        assert response.status == 200
        content = response.read()
        return json.loads(content) if content else None
    finally:
        connection.close()


def test_it_shows_method_path_query_headers_and_body(port: int) -> None:
    shown = ask(port, "POST", "/a%20b?c=d", {"X-One": "1"}, "hello")
    assert (shown["method"], shown["path"], shown["query"], shown["body"]) == ("POST", "/a%20b", "c=d", "hello")
    assert shown["headers"]["x-one"] == "1"
    assert shown["identity"] is None


def test_an_assertion_is_shown_as_claims_and_without_its_signature(port: int) -> None:
    claims = base64.urlsafe_b64encode(b'{"common_name":"x.access"}').decode().rstrip("=")
    shown = ask(port, "GET", "/", {"Cf-Access-Jwt-Assertion": f"head.{claims}.c2lnbmF0dXJl"})
    assert shown["identity"] == {"common_name": "x.access"}
    assert shown["headers"]["cf-access-jwt-assertion"] == f"head.{claims}.(signature)"


@pytest.mark.parametrize("assertion", ["", "x", "a.b.c", "a.!!!.c", "..."])
def test_an_assertion_that_is_none_does_no_harm(port: int, assertion: str) -> None:
    assert ask(port, "GET", "/", {"Cf-Access-Jwt-Assertion": assertion})["identity"] is None


def test_head_has_no_body(port: int) -> None:
    assert ask(port, "HEAD", "/") is None


def test_a_large_body_is_read_and_cut(port: int) -> None:
    assert len(ask(port, "POST", "/", body="x" * 1_000_000)["body"]) == 4096


def test_messages_come_back(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/socket") as socket:
        socket.send("text")
        assert socket.recv(DEADLINE_SECONDS) == "text"
        socket.send(b"\x00bytes")
        assert socket.recv(DEADLINE_SECONDS) == b"\x00bytes"


def test_its_port_is_kept_over_a_restart(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    with running(home) as first:
        pass
    with running(home) as second:
        assert second == first


def test_a_port_that_a_stranger_took_is_replaced(tmp_path: Path) -> None:
    import socket

    home = open_home(tmp_path / "home")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        (home.demo / "port").write_text(str(taken))
        with running(home) as port:
            assert port != taken
            assert ask(port, "GET", "/")["method"] == "GET"
