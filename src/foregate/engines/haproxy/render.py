"""A `Config` as the files of a worker. Pure: no I/O but the templates beside it; equal values give equal files.

Every value of a record passes `words.quote` or `words.checked`: one that is not of the form asked for raises
ValueError, so that no record can write a line of its own. The Lua file goes along unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2

from foregate.core.targets import HOST_FORM, MAX_HOST_LENGTH
from foregate.engines.haproxy import answers, origins, routes
from foregate.engines.haproxy.config import Application, Backend, Config
from foregate.engines.haproxy.maps import HOT
from foregate.engines.haproxy.policies import policy_lines
from foregate.engines.haproxy.words import HEADER, NAME, NETWORK, VALUE, Lists, checked, literal, quote

# `words` begins inside the account's quotes and ends inside the host's. `c` counts the lines of this worker one by one;
# `n`, its number of streams, is used up by the agent's commands and questions too.
_LOG_FORMAT = (
    '{"n":%rt,"t":%Ts.%ms,"ray":"%ID","acct":%{+Q}[var(txn.words)],"ip":"%ci","m":"%HM",'
    '"path":%{+Q}[var(txn.path),bytes(0,1024),json(utf8s)],"st":%ST,"c":%lc,"end":"%ts"}'
)
# Requests that never got as far as a rule. A TLS handshake that failed is none: its line does not begin with a brace.
_ERROR_LOG_FORMAT = (
    '%[fc_err,bool,iif(tls_failure,{)]"n":%rt,"t":%Ts.%ms,"ray":"","acct":"","app":"","id":"","pol":"",'
    '"why":"","host":"","ip":"%ci","m":"","path":"","st":%ST,"c":%lc,"end":"%ts"}'
)
_REFUSED_WORDS = '","app":%{+Q}[var(txn.shown)],"id":%{+Q}[var(txn.id)],"pol":"","why":%{+Q}[var(txn.why)],"host":"'

_TRAILERS_WORDS = '","app":"","id":"","pol":"","why":"request_malformed","host":"%[req.fhdr(host),host_only,lower]'

# Without a cookie of that very name, wherever it stands.
_OTHER_COOKIES = r"%[req.fhdr(cookie),regsub('(?<![^; \t])CF_Authorization=[^;]*(;[ \t]*|$)',,g)]"


@cache
def form() -> str:
    """Stands for how a worker reads and writes what it remembers; what one of another form remembers is not for it."""
    return hashlib.sha256((_resource("haproxy.cfg.j2") + _resource("edge.lua")).encode()).hexdigest()[:16]


def render(config: Config, socket: Path) -> Mapping[str, str]:
    """The files of a worker by name; `haproxy.cfg` is the one to start from. `socket`: its runtime socket.

    ValueError for a value that cannot stand in a configuration; `access/haproxy.py` makes none.
    """
    lists = Lists()
    return {
        "haproxy.cfg": _main(config, socket, lists),
        **routes.route_files(config),
        "applications.map": "".join(_application_lines(config)),
        "edge.lua": _resource("edge.lua"),
        **{f"certs-{checked(NAME, account.account_id)}.json": account.jwks for account in config.accounts},
        **origins.ca_files(config),
        **lists.files,
    }


def _main(config: Config, socket: Path, lists: Lists) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701 - not HTML
    template = environment.from_string(_resource("haproxy.cfg.j2"))
    files, settings = config.settings.files, config.settings
    # A connection's client may be another one at each request, or an IPv4 address in IPv6's clothes.
    may_be_mapped = bool(settings.trusted_proxies or settings.proxy_protocol_from) or any(
        bind.address.startswith("[") for bind in settings.binds
    )
    text = template.render(
        config=config,
        settings=settings,
        socket=quote(str(socket)),
        agent_socket=quote(str(files.agent_socket)),
        serving=quote(f"unix@{files.serving_socket}"),
        socket_owner=f" user {checked(NAME, settings.user)}" if settings.user else "",
        serving_tls=quote(f"unix@{files.serving_tls_socket}"),
        certificates=quote(str(files.certificates)),
        binds=[(quote(bind.address), bind.is_tls) for bind in settings.binds],
        trusted_proxies=" ".join(checked(NETWORK, network) for network in settings.trusted_proxies),
        proxy_protocol_from=" ".join(checked(NETWORK, network) for network in settings.proxy_protocol_from),
        has_tls=any(bind.is_tls for bind in settings.binds),
        may_be_mapped=may_be_mapped,
        client="src" if may_be_mapped else "var(sess.ip)",
        has_classes=any(prefix.host.startswith("*.") for prefix in config.prefixes),
        needs_resolver=origins.needs_resolver(config),
        token_headers=_token_headers(config),
        log_format=_LOG_FORMAT,
        error_log_format=_ERROR_LOG_FORMAT,
        refused_words=_REFUSED_WORDS,
        trailers_words=_TRAILERS_WORDS,
        host_form=f"^(?:{HOST_FORM})$",
        max_host_length=MAX_HOST_LENGTH,
        policy_lines=lambda app: list(policy_lines(app, lists)),
        timeout_lines=lambda backend: list(origins.timeout_lines(backend)),
        first_lines=lambda backend: list(origins.first_lines(backend)),
        last_lines=lambda backend: list(origins.last_lines(backend)),
        backend_name=routes.backend_name,
        name_length=routes.NAME_LENGTH,
        flags_at=routes.FLAGS_AT,
        app_words=_app_words,
        open_words=_open_words,
        hot=HOT,
        other_cookies=_OTHER_COOKIES,
        q=quote,
        literal=literal,
        answers=answers,
    )
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def _token_headers(config: Config) -> list[str]:
    apps = (backend.application for backend in config.backends)
    return sorted({checked(HEADER, app.token_header) for app in apps if app and app.token_header})


def _application_lines(config: Config) -> Iterator[str]:
    """`app key`, `aud|domain`: what a refusal tells of the application."""
    found = {backend.application.app_key: backend.application for backend in config.backends if backend.application}
    for key, app in sorted(found.items()):
        yield f"{checked(NAME, key)} {checked(VALUE, app.aud)}|{checked(VALUE, app.domain)}\n"


def _app_words(app: Application) -> str:
    head = f'{checked(NAME, app.account_id)}","app":"{checked(NAME, app.app_id)}"'
    return (
        head
        + ',"id":%{+Q}[var(txn.client)],"pol":%{+Q}[var(txn.pol)],"why":%{+Q}[var(txn.why)],"host":"%[var(txn.host)]'
    )


def _open_words(backend: Backend) -> str:
    account_id = checked(NAME, backend.account_id)
    return f'{account_id}","app":"","id":"","pol":"","why":"unprotected_host","host":"%[var(txn.host)]'
