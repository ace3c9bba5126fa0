"""A client of the control API: what the CLI and the supervisor use, with the rights of the token they are given.

Built on http.client: `foregate token list` starts a fresh program each time, and a larger client costs a tenth of a
second. One connection per call, nothing kept, no proxy read from the environment.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from foregate.core.secrets import Secret

_TIMEOUT_SECONDS = 30
# Cloudflare's messages begin with the error's name, which programs look for and people stumble over.
_NAME = re.compile(r"access\.api\.error\.[a-z_]+: ")


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """A success. `change_seq` is the change the edges will report on, None where they are not concerned."""

    result: Any = field(repr=False)
    result_info: dict[str, Any]
    change_seq: int | None


class Refused(Exception):
    """The API said no: HTTP `status`, error number `code`, and a sentence for people, without the error's name."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Unreachable(Exception):
    """No answer of the API: nobody listens, or what answered is not the API."""


class ControlClient:
    """Calls to one API, about one account. Safe to share between threads."""

    def __init__(self, base_url: str, api_token: Secret, account_id: str) -> None:
        """`base_url` as in CLOUDFLARE_BASE_URL, such as http://127.0.0.1:8400/client/v4. ValueError if it is none."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is not the address of an API")
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._api_token = api_token
        self.base_url = base_url
        self.account_id = account_id

    def account(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> ControlAnswer:
        """`call` below `/accounts/{account_id}`."""
        return self.call(method, f"/accounts/{self.account_id}{path}", body, query)

    def call(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> ControlAnswer:
        """One call. Raises Refused or Unreachable. `query` members that are None are left out."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._prefix}{path}{'?' + urlencode(given) if given else ''}"
        status, headers, content = self._exchange(method, target, body)
        try:
            envelope = json.loads(content)
            errors, result = envelope["errors"], envelope["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"What answers at {self.base_url} is not Foregate's API (HTTP {status}).") from error
        if status >= 400:
            first = errors[0] if errors else {}
            message = str(first.get("message", f"HTTP {status}"))
            raise Refused(status, int(first.get("code", 0)), _NAME.sub("", message))
        seq = headers.get("Foregate-Change")
        return ControlAnswer(result, envelope.get("result_info") or {}, int(seq) if seq else None)

    def _exchange(self, method: str, target: str, body: Any) -> tuple[int, http.client.HTTPMessage, bytes]:
        headers = {"Authorization": f"Bearer {self._api_token.reveal()}", "Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = self._connect()
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"The API at {self.base_url} does not answer ({error}); is foregate up running?"
            ) from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self._is_tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)


def segment(text: str) -> str:
    """One segment of a path, with whatever a person typed made harmless."""
    return quote(text, safe="")
