"""The edge process: the agent beside HAProxy. Everything it is made of is put together here, by hand."""

from __future__ import annotations

import asyncio
import ctypes
import grp
import os
import pwd
import resource
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from foregate.access.haproxy import EdgeRecords, compile_edge, host_names
from foregate.access.haproxy_maps import token_entry
from foregate.access.haproxy_origins import NotCompilable
from foregate.core.errors import ErrorCode, ForegateError
from foregate.edge.agent import Agent, AgentSettings
from foregate.edge.compiler import CannotCompile
from foregate.edge.config_records import ConfigRecords
from foregate.edge.feed_client import Expelled
from foregate.edge.identity import EdgeIdentity, KeyIdentity
from foregate.edge.membership import JoinedIdentity, read_membership
from foregate.edge.paths import EdgePaths, socket_folder
from foregate.edge.wire import TokenValue
from foregate.engines.haproxy.binary import find_binary, require_version
from foregate.engines.haproxy.config import Bind, Files
from foregate.engines.haproxy.config import Settings as EngineSettings
from foregate.engines.haproxy.process import ConfigurationRefused, Workers
from foregate.engines.haproxy.render import render
from foregate.services.edge_link import link_of
from foregate.services.expulsion import note_expulsion, require_not_expelled
from foregate.services.home import Home, open_home, read_facts, read_private
from foregate.services.settings import PREFIX, Settings, url_host

# HAProxy takes two descriptors for a connection, and some for itself (configuration manual, maxconn).
_MOST_CONNECTIONS = 10_000
_OWN_DESCRIPTORS = 200
_M_ARENA_MAX = -8  # mallopt(3)


async def run(settings: Settings, told: asyncio.Event) -> None:
    """Serve until told to end; then drain. On SIGUSR1 end at once and leave HAProxy serving for the next."""
    _limit_arenas()
    home = open_home(settings.home)
    binary = find_binary(str(settings.haproxy or ""))
    await require_version(binary)
    owner = _worker_owner(settings)
    paths = edge_paths(home, worker_user=settings.edge_user if owner else "")
    compiler = HaproxyCompiler(settings, paths, is_own_user=owner is None)
    identity = _identity(settings, home)
    agent_settings = AgentSettings(
        identity=identity,
        link=link_of(settings, home, identity, paths),
        spool_max_bytes=settings.spool_max_bytes,
        worker_owner=owner,
    )
    try:
        await Agent(agent_settings, paths, Workers(binary), compiler).run(told)
    except Expelled:
        raise ForegateError(ErrorCode.UNAVAILABLE, note_expulsion(home)) from None
    if told.is_set() and paths.sockets != home.run:
        with suppress(OSError):  # not empty: somebody still uses it
            paths.sockets.rmdir()


def edge_paths(home: Home, *, worker_user: str) -> EdgePaths:
    """Where this home's edge keeps what. Your own certificates go into the home's folder `certificates`."""
    return EdgePaths(home.edge, home.root / "certificates", home.logs, socket_folder(home.root, worker_user))


def _identity(settings: Settings, home: Home) -> EdgeIdentity:
    """How this home's edge shows itself: as a member where it joined, else by its key. ForegateError where neither."""
    require_not_expelled(home)
    membership = read_membership(home.membership)
    if membership is not None:
        return JoinedIdentity(membership, home.membership)
    facts = read_facts(home)
    if facts is None:
        message = (
            f"{home.root} is no home yet; start foregate api, or foregate up. For an edge of another machine: "
            "foregate edge join"
        )
        raise ForegateError(ErrorCode.UNAVAILABLE, message)
    return KeyIdentity(facts.edge_id, read_private(home.edge_key), settings.api_url)


class HaproxyCompiler:
    """The agent's `Compiler`: access rules in HAProxy's words, with this machine's settings."""

    def __init__(self, settings: Settings, paths: EdgePaths, *, is_own_user: bool) -> None:
        self._settings = settings
        self._paths = paths
        self._is_own_user = is_own_user

    def token_entry(self, client_id: str, token: TokenValue) -> str:
        """See `Compiler.token_entry`."""
        return token_entry(client_id, token)

    def hosts(self, records: ConfigRecords) -> Iterable[str]:
        """See `Compiler.hosts`."""
        return host_names(_edge_records(records))

    def files(self, records: ConfigRecords, socket: Path, pepper_versions: tuple[int, ...]) -> Mapping[str, str]:
        """See `Compiler.files`."""
        try:
            return render(compile_edge(_edge_records(records), self._engine_settings(pepper_versions)), socket)
        except NotCompilable as error:
            raise CannotCompile(error.key, error.reason) from error
        except ValueError as error:  # a record that the compiler let through and the renderer did not
            raise ConfigurationRefused(str(error), self._paths.workers) from error

    def _engine_settings(self, pepper_versions: tuple[int, ...]) -> EngineSettings:
        settings, paths = self._settings, self._paths
        return EngineSettings(
            files=Files(
                folder=paths.workers,
                maps=paths.maps,
                certificates=paths.certificates,
                agent_socket=paths.agent_socket,
                serving_socket=paths.serving_socket,
                serving_tls_socket=paths.serving_tls_socket,
            ),
            binds=tuple(_binds(settings)),
            pepper_versions=pepper_versions,
            threads=settings.edge_threads,
            max_connections=_most_connections(),
            user="" if self._is_own_user else settings.edge_user,
            group="" if self._is_own_user else _group_of(settings.edge_user),
            trusted_proxies=tuple(str(network) for network in settings.trusted_proxies),
            proxy_protocol_from=tuple(str(network) for network in settings.proxy_protocol),
        )


def _binds(settings: Settings) -> Iterable[Bind]:
    """TLS always; plain HTTP only where nobody else can listen in, or a setting says so."""
    host = url_host(settings.bind)
    if settings.is_loopback or settings.allow_plain_http:
        yield Bind(f"{host}:{settings.http_port}")
    yield Bind(f"{host}:{settings.https_port}", is_tls=True)


def _edge_records(records: ConfigRecords) -> EdgeRecords:
    return EdgeRecords(records.apps, records.ingresses, records.accounts, records.keys)


def _worker_owner(settings: Settings) -> tuple[int, int] | None:
    """User and group id of the workers where root starts them; None where they are ours."""
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(settings.edge_user)
    except KeyError:
        raise ForegateError(
            ErrorCode.UNAVAILABLE,
            f"There is no user {settings.edge_user}; set {PREFIX}EDGE_USER to one that HAProxy may be.",
        ) from None
    return found.pw_uid, found.pw_gid


def _group_of(user: str) -> str:
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def _most_connections() -> int:
    """As many as the descriptors that this process may have allow; HAProxy inherits them."""
    wanted = 2 * _MOST_CONNECTIONS + _OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(100, (allowed - _OWN_DESCRIPTORS) // 2)


def _limit_arenas() -> None:
    """glibc keeps a heap for each thread that ever allocated; a few threads that seldom work need no more than two."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
