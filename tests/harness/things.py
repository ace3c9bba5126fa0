"""Tokens, applications and origins as tests want them: made through the API, with names of their own."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from harness.api import Api
from harness.http1 import Answer
from harness.product import Foregate
from harness.waiting import until

# How long a change may take to show at the edge in a test. The bound that is promised (p99 100 ms idle) is measured by
# the benchmarks; a test runs beside others on a busy machine.
APPLIED_SECONDS = 10

# Events travel in batches; what is promised for "last seen" is 2 s.
EVENT_SECONDS = 10

_counter = itertools.count(1)


class Masked(str):
    """A secret's text that no failed assertion prints."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'****'"


@dataclass(frozen=True, slots=True)
class Token:
    """A service token as its owner holds it."""

    id: str
    client_id: str
    secret: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "secret", Masked(self.secret))

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The two headers."""
        return [("CF-Access-Client-Id", self.client_id), ("CF-Access-Client-Secret", self.secret)]

    def with_secret(self, secret: str) -> Token:
        """The same token with another secret."""
        return Token(self.id, self.client_id, secret)


@dataclass(frozen=True, slots=True)
class App:
    """A guarded application and the tunnel that says where its origin is."""

    id: str
    aud: str
    host: str
    tunnel_id: str


def unique(word: str) -> str:
    """A name that no other test of this run has, fit for a host label."""
    return f"{word}-{next(_counter)}-{time.time_ns() % 10**8}"


def create_token(api: Api, **fields: Any) -> Token:
    """A new service token."""
    made = api.result("POST", "/access/service_tokens", {"name": unique("token"), **fields})
    return Token(made["id"], made["client_id"], made["client_secret"])


def allow(*tokens: Token, **fields: Any) -> dict[str, Any]:
    """An inline Service Auth policy: these tokens, or any valid one."""
    include = [{"service_token": {"token_id": token.id}} for token in tokens] or [{"any_valid_service_token": {}}]
    return {"name": unique("policy"), "decision": "non_identity", "include": include, **fields}


def route(api: Api, host: str, service: str, origin_request: dict[str, Any] | None = None) -> str:
    """Say where a host's origin is; the tunnel's id."""
    tunnel = api.result("POST", "/cfd_tunnel", {"name": unique("tunnel"), "config_src": "cloudflare"})
    rule: dict[str, Any] = {"hostname": host, "service": service}
    if origin_request is not None:
        rule["originRequest"] = origin_request
    body = {"config": {"ingress": [rule, {"service": "http_status:404"}]}}
    api.result("PUT", f"/cfd_tunnel/{tunnel['id']}/configurations", body)
    return str(tunnel["id"])


def create_app(
    foregate: Foregate, service: str, policies: list[dict[str, Any]], *, host: str = "", **fields: Any
) -> App:
    """A self-hosted application on a host of its own, once the edge serves it."""
    api = foregate.api()
    host = host or f"{unique('app')}.localhost"
    tunnel_id = route(api, host.partition("/")[0], service, fields.pop("origin_request", None))
    body = {"type": "self_hosted", "name": host, "domain": host, "policies": policies, **fields}
    made = api.result("POST", "/access/apps", body)
    app = App(made["id"], made["aud"], host, tunnel_id)
    until(lambda: _knows(foregate, app), APPLIED_SECONDS, f"the edge serves {host}")
    return app


def until_status(foregate: Foregate, host: str, token: Token | None, status: int, path: str = "/") -> Answer:
    """Ask until the edge answers with that status: a change on its way arrives. The answer."""
    headers = token.headers if token else []

    def asked() -> Answer | None:
        answer = foregate.get(host, path, headers)
        assert answer.status == status, f"{answer.status}, not {status}"
        return answer

    return until(asked, APPLIED_SECONDS, f"{host}{path} answers {status}")


def _knows(foregate: Foregate, app: App) -> bool:
    """The edge answers on the app's own path with the keys of its account."""
    return foregate.get(app.host.partition("/")[0], "/cdn-cgi/access/certs").status == 200


def events_of(api: Api, app: App | None = None, **query: Any) -> list[dict[str, Any]]:
    """The events that are known now, oldest first: of one application, or of all."""
    given = {**query, **({"app": app.id} if app else {}), "limit": query.get("limit", 1000)}
    found: list[dict[str, Any]] = api.result("GET", f"/foregate/events?{urlencode(given)}")
    return found


def event_of(api: Api, answer: Answer) -> dict[str, Any]:
    """The one event of an answer, once it is known: their ray is the same."""
    ray = answer.header("cf-ray")

    def found() -> dict[str, Any] | None:
        same = [event for event in events_of(api) if event["ray_id"] == ray]
        assert len(same) <= 1, "one decision, one event"
        return same[0] if same else None

    return until(found, EVENT_SECONDS, f"the event with ray {ray}", every=0.05)
