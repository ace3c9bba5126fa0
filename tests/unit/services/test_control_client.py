"""The client tells a result from a refusal from an API that is not there, and shows no token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from foregate.core.secrets import Secret
from foregate.services.control_client import ControlClient, Refused, Unreachable, segment


class Api(BaseHTTPRequestHandler):
    """Answers by path, and shows what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = {"path": self.path, "body": json.loads(body or b"null"), "token": self.headers["Authorization"]}
        if "refused" in self.path:
            self.answer(404, {"success": False, "errors": [{"code": 12135, "message": "no"}], "result": None})
        elif "html" in self.path:
            self.answer(200, "not an envelope")
        else:
            self.answer(201, {"success": True, "errors": [], "messages": [], "result": sent}, change="7")

    do_GET = do_POST

    def answer(self, status: int, body: Any, change: str = "") -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if change:
            self.send_header("Foregate-Change", change)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def client() -> Iterator[ControlClient]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ControlClient(f"http://127.0.0.1:{server.server_port}/client/v4/", Secret("cfat_x"), "a1")
        server.shutdown()


def test_a_result_comes_with_its_change(client: ControlClient) -> None:
    answer = client.account("POST", "/access/apps", {"name": "x"}, {"page": 2, "search": None})
    assert answer.change_seq == 7
    assert answer.result == {
        "path": "/client/v4/accounts/a1/access/apps?page=2",
        "body": {"name": "x"},
        "token": "Bearer cfat_x",
    }


def test_a_refusal_keeps_status_number_and_sentence(client: ControlClient) -> None:
    with pytest.raises(Refused) as caught:
        client.call("GET", "/refused")
    assert (caught.value.status, caught.value.code, caught.value.message) == (404, 12135, "no")


def test_what_is_not_the_api_counts_as_unreachable(client: ControlClient) -> None:
    with pytest.raises(Unreachable, match="is not Foregate's API"):
        client.call("GET", "/html")


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        ControlClient("http://127.0.0.1:1/client/v4", Secret("cfat_x"), "a1").call("GET", "/")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8400", "ftp://127.0.0.1", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not the address"):
        ControlClient(url, Secret("cfat_x"), "a1")


def test_a_segment_cannot_leave_its_place() -> None:
    assert segment("../../x?y#z") == "..%2F..%2Fx%3Fy%23z"
