"""Edge records to HAProxy configuration: what `access/rules.py` decides, said in the engine's words. Pure.

Called by the edge's agent whenever anything but tokens changes. The differential test holds the result against the
rules. Tokens are not compiled here: see `haproxy_maps.py`.

How an edge runs on it: `config = compile_edge(records, settings)`, `files = render(config, socket)`,
`workers.start(Launch(...))`; a token change is `control.put_overlay([...])` and, unless the token is new,
`control.raise_generation(n)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from foregate.access.haproxy_origins import compile_origins
from foregate.access.haproxy_policies import compile_application
from foregate.access.haproxy_routes import Places, compile_routes
from foregate.core.records import canonical
from foregate.edge.wire import AccountValue, AppValue, IngressValue, KeysValue
from foregate.engines.haproxy.config import Account, Application, Backend, Config, Settings


@dataclass(frozen=True, slots=True)
class EdgeRecords:
    """All records of an edge but its tokens: apps by id, ingresses by hostname, accounts and keys by account id."""

    apps: Mapping[str, AppValue]
    ingresses: Mapping[str, IngressValue]
    accounts: Mapping[str, AccountValue]
    keys: Mapping[str, KeysValue]


def compile_edge(records: EdgeRecords, settings: Settings) -> Config:
    """The configuration for these records. Equal records give an equal result.

    NotCompilable names the record that no engine could take; nothing else of the result depends on it, so the caller
    may leave that record out (or put its predecessor in) and try again.
    """
    applications = {app_id: _application(app_id, app, records) for app_id, app in sorted(records.apps.items())}
    places = Places(records.apps, applications, records.ingresses, records.accounts)
    routes = compile_routes(places)
    backends = tuple(_backend(app_id, hostname, applications, records) for app_id, hostname in sorted(places.pairs))
    accounts = tuple(Account(account_id, jwks(keys)) for account_id, keys in sorted(records.keys.items()))
    return Config(settings, routes.prefixes, routes.expressions, backends, accounts)


def jwks(keys: KeysValue) -> str:
    """What `/cdn-cgi/access/certs` answers: current key first. Source: reference page, 3."""
    certificates = [{"kid": key.kid, "cert": key.certificate} for key in keys.keys]
    published = {"keys": [key.jwk for key in keys.keys], "public_cert": certificates[0], "public_certs": certificates}
    return orjson.dumps(published).decode()


def application_mark(app: AppValue, account: AccountValue | None) -> str:
    """Changes with all that an assertion and a remembered outcome are made from; 12 hex digits."""
    made_from = {"app": app.to_wire(), "issuer": account.auth_domain if account else ""}
    return hashlib.sha256(canonical(made_from)).hexdigest()[:12]


def _application(app_id: str, app: AppValue, records: EdgeRecords) -> Application:
    return compile_application(app_id, app, application_mark(app, records.accounts.get(app.account_id)))


def _backend(app_id: str, hostname: str, applications: Mapping[str, Application], records: EdgeRecords) -> Backend:
    """The backend of an application (or an open host, app_id empty) behind the ingress `hostname` (or none, empty)."""
    ingress = records.ingresses.get(hostname)
    application = applications.get(app_id)
    account_id = application.account_id if application else ingress.account_id if ingress else ""
    # An application never leads to another account's origin, whoever claimed the host first.
    origins = compile_origins(hostname, ingress) if ingress and ingress.account_id == account_id else ()
    return Backend(Places.app_name(app_id), Places.ingress_name(hostname), account_id, application, origins)


def host_names(records: EdgeRecords) -> Iterable[str]:
    """The hosts that a certificate is needed for, wildcards included: those of applications, ingresses, accounts."""
    found = {pattern.partition("/")[0] for app in records.apps.values() for pattern in app.patterns}
    found |= set(records.ingresses) | {account.auth_domain for account in records.accounts.values()}
    return sorted(found)
