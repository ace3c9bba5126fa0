"""The control API by plain HTTP: no SDK, so that tests see statuses, headers and bodies as they are.

Every secret that an answer issues is kept in a ledger, for the search at the end of a run.
"""

from __future__ import annotations

import http.client
import json
import select
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.http1 import Answer

BASE = "/client/v4"
TIMEOUT_SECONDS = 30
_ISSUED_MEMBERS = ("client_secret", "tunnel_secret", "token", "value")


@dataclass(slots=True)
class Api:
    """Calls about one account with one API token. Safe to share between threads: a connection for each."""

    port: int
    account_id: str
    token: str = field(repr=False)
    issued: list[str] = field(default_factory=list, repr=False)
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """One call below /client/v4. `raw` is sent as the body as it is, `body` as JSON."""
        given = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        content = raw
        if body is not None:
            content = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        answer = self._exchange(method, BASE + path, content, given)
        self._note(answer)
        return answer

    def account(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """`call` below /accounts/{account_id}."""
        return self.call(method, f"/accounts/{self.account_id}{path}", body, **more)

    def result(self, method: str, path: str, body: Any = None) -> Any:
        """The result of an account call that must succeed."""
        answer = self.account(method, path, body)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body[:400]!r}"
        envelope = answer.json()
        assert envelope["success"] is True and envelope["errors"] == [] and envelope["messages"] == []
        return envelope["result"]

    def _exchange(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> Answer:
        for is_retry in (False, True):
            connection = self._connection(is_fresh=is_retry)
            try:
                connection.request(method, path, content, dict(headers))
                response = connection.getresponse()
                pairs = tuple((name.lower(), value) for name, value in response.getheaders())
                return Answer(response.status, pairs, response.read())
            except (http.client.HTTPException, OSError):
                connection.close()
                # A kept connection that a restart has cut is no answer; a fresh one that fails is.
                if is_retry or method != "GET":
                    self._local.connection = None
                    raise
        raise AssertionError("unreachable")

    def _connection(self, *, is_fresh: bool) -> http.client.HTTPConnection:
        found = getattr(self._local, "connection", None)
        if found is None or is_fresh or _is_closed(found):
            found = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
            self._local.connection = found
        return found

    def _note(self, answer: Answer) -> None:
        if b"secret" not in answer.body and b"cfat_" not in answer.body:
            return
        try:
            result = answer.json().get("result")
        except ValueError:
            return
        if isinstance(result, dict):
            self.issued += [str(result[name]) for name in _ISSUED_MEMBERS if isinstance(result.get(name), str)]


def _is_closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed a kept connection meanwhile: only then is an idle one readable."""
    if connection.sock is None:
        return False
    readable, _, _ = select.select([connection.sock], [], [], 0)
    return bool(readable)


def errors_of(answer: Answer) -> list[int]:
    """The error numbers of a failure, whose envelope must be whole."""
    body = answer.json()
    assert body["success"] is False and body["result"] is None and body["messages"] == []
    assert answer.header("x-should-retry") == "false"
    for error in body["errors"]:
        assert isinstance(error["code"], int) and error["code"] >= 1000
        assert len(error["message"]) > 10
    return [error["code"] for error in body["errors"]]
