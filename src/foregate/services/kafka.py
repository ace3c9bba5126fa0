"""This home's users of Kafka, and setting up a cluster for it.

A user stands with its password in a file of mode 0600 below the home's folder `kafka`, `<user>:<password>`: `api.login`
and `worker.login` for the processes here, `edge.login` for the edge here, `edges/<name>.login` for others, to be
carried to `kafka/edge.login` of their homes. `ca.pem` beside them holds the CA of the brokers' certificates, where that
is not one the machine trusts anyway.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.masterkey import write_private
from foregate.core.secrets import Secret
from foregate.eventlog.kafka_access import KafkaAccess, Login, require_client
from foregate.eventlog.kafka_plan import API_USER, EDGE_USER_PREFIX, WORKER_USER, Sizes, grants, topics
from foregate.eventlog.kafka_setup import Finding, KafkaSetup
from foregate.eventlog.kafka_source import require_topics
from foregate.eventlog.model import EDGE_CONFIG, EDGE_REPORTS, LOGIN_EVENTS
from foregate.services.home import Home, read_private
from foregate.services.settings import PREFIX, Settings

OWN_EDGE = "local"
_EDGE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_PASSWORD_BYTES = 24
_TOPICS = (EDGE_CONFIG, LOGIN_EVENTS, EDGE_REPORTS)


def kafka_access(settings: Settings, home: Home, process: str) -> KafkaAccess:
    """How `process` (`api`, `worker`, `edge`) reaches Kafka. ForegateError where its login or the client is missing."""
    require_client()
    if settings.kafka_security == "plaintext":
        return KafkaAccess(settings.kafka)
    path = _login_path(home, process)
    if not path.exists():
        message = f"{path} is missing: it holds this process's user of Kafka; make it with: foregate kafka setup"
        raise ForegateError(ErrorCode.UNAVAILABLE, message)
    return KafkaAccess(settings.kafka, read_login(path), _ca_file(home))


def has_login(settings: Settings, home: Home, process: str) -> bool:
    """Whether the process has a user of Kafka, or needs none."""
    return settings.kafka_security == "plaintext" or _login_path(home, process).exists()


def look_at_kafka(settings: Settings, home: Home) -> str:
    """Where it is, in words. ForegateError(UNAVAILABLE) with a sentence where a process of this home cannot use it."""
    for process, topics_of in (("api", _TOPICS), ("worker", (LOGIN_EVENTS, EDGE_REPORTS))):
        require_topics(kafka_access(settings, home, process), topics_of)
    return f"{len(_TOPICS)} topics at {settings.kafka}"


def admin_access(settings: Settings, home: Home, login: Login | None) -> KafkaAccess:
    """How `foregate kafka setup` reaches Kafka. ForegateError where a setting is missing."""
    if not settings.kafka:
        raise invalid(f"Set {PREFIX}KAFKA to the addresses of Kafka's brokers first, such as kafka-1:9093.")
    if settings.kafka_security == "plaintext":
        return KafkaAccess(settings.kafka)
    if login is None:
        raise invalid("Give --admin and --admin-password-file: a user of Kafka that may make topics and users.")
    return KafkaAccess(settings.kafka, login, _ca_file(home))


def set_up(
    access: KafkaAccess, home: Home, sizes: Sizes, edges: Iterable[str], *, may_change: bool
) -> Iterator[Finding]:
    """Bring the cluster to what Foregate needs, and make the logins that are missing here. Safe to repeat.

    In the clear there are no users, so that access rules would name nobody: topics alone are made.
    """
    paths = login_paths(home, edges)
    setup = KafkaSetup(access)
    yield from setup.topics(topics(sizes), may_change=may_change)
    if access.login is None:
        return
    logins = [_login(path, user) for user, path in paths.items()]
    yield from setup.users(logins)
    yield from setup.grants(grants(tuple(user for user in paths if user.startswith(EDGE_USER_PREFIX))))


def login_paths(home: Home, edges: Iterable[str]) -> dict[str, Path]:
    """The users of this home and of other edges, and where the login of each is kept. ForegateError for a bad name."""
    paths = {
        API_USER: home.kafka / "api.login",
        WORKER_USER: home.kafka / "worker.login",
        f"{EDGE_USER_PREFIX}{OWN_EDGE}": home.kafka / "edge.login",
    }
    for name in edges:
        if not _EDGE_NAME.fullmatch(name) or name == OWN_EDGE:
            raise invalid(f"{name!r} cannot name another edge's user; take letters a to z, digits and hyphens.")
        paths[f"{EDGE_USER_PREFIX}{name}"] = home.kafka / "edges" / f"{name}.login"
    return paths


def read_login(path: Path) -> Login:
    """The user in a login file. ForegateError where it is damaged, or others may read it."""
    user, colon, password = read_private(path).partition(":")
    if not (user and colon and password):
        raise ForegateError(ErrorCode.UNAVAILABLE, f"{path} is damaged; it holds one line, <user>:<password>.")
    return Login(user, Secret(password))


def _login_path(home: Home, process: str) -> Path:
    return home.kafka / f"{process}.login"


def _login(path: Path, user: str) -> Login:
    """The login in `path`; made with a new password where the file is missing."""
    if not path.exists():
        write_private(path, f"{user}:{secrets.token_urlsafe(_PASSWORD_BYTES)}\n".encode())
    return read_login(path)


def _ca_file(home: Home) -> Path | None:
    path = home.kafka / "ca.pem"
    return path if path.exists() else None
