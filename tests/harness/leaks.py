"""A search for secrets, digests and keys in everything that a Foregate leaves behind or shows.

What is searched for: every secret that an answer issued, in the clear; their digests; the master key's roots and every
key derived from them; private signing keys; anything at all that has a secret's form. Where: all files of the home,
events unpacked, what the processes printed, their command lines and environments, and what the API answers.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

from foregate.core.masterkey import MasterKey, load
from foregate.core.secrets import Secret, digest_secret
from foregate.database import records_schema, telemetry_schema
from foregate.services.settings import load as load_settings
from foregate.services.stores import stores_of
from harness.log import event_batches, log_records
from harness.processes import processes_of
from harness.product import Foregate
from harness.stores import content_of

# The home's own key files, and the file the demo's curl line reads.
_KEY_FILES = re.compile(r"master\.key|admin\.token|edge/edge\.key|demo/token")
# Records are checked by digest, so digests stand where tokens are recorded, and nowhere else.
_DIGEST_FILES = re.compile(r"records\.db(-wal)?|telemetry\.db(-wal)?|edge/state\.db(-wal)?|edge/maps/.*")
# The local CA and the certificates the edge makes from it for its own TLS, and the key of an edge that joined.
_TLS_KEY_FILES = re.compile(r"edge/((ca|certs)/.*|membership\.json)")
# Further edges of `foregate up --edges` have homes within the home, and know what any edge knows.
_FURTHER_EDGE = re.compile(r"^edges/edge-\d+/")
_SECRET_FORM = re.compile(rb"(?:cfast|cfat|fgek|fgjt)_[0-9A-Za-z]{40}[0-9a-f]{8}")
_HEX_RUN = re.compile(rb"[0-9A-Fa-f]{64,}")
_BASE64_RUN = re.compile(rb"[0-9A-Za-z+/]{43,}")
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PAGES = (
    "/access/service_tokens?per_page=1000",
    "/access/apps",
    "/access/policies",
    "/access/groups",
    "/access/organizations",
    "/access/keys",
    "/cfd_tunnel",
    "/access/logs/access_requests?limit=1000",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Something to search: what it is called, what it holds, and which kinds of finds belong there."""

    name: str
    content: bytes
    may_hold: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sought:
    """What must not be found, with a label for each: secrets and digests are many, keys few."""

    secrets: dict[bytes, str]
    digests: dict[bytes, str]
    keys: dict[bytes, str]


def assert_nothing_leaked(foregate: Foregate) -> None:
    """Search a running Foregate. The failure names what was found where, never the secret itself."""
    found = leaks_of(foregate)
    assert not found, "\n".join(found)


def leaks_of(foregate: Foregate) -> list[str]:
    """One line for each find."""
    sought = _sought(foregate)
    assert len(sought.secrets) > 2, "nothing was issued, so nothing could leak"
    return sorted({f"{place.name} holds {label}" for place in _places(foregate) for label in _search(place, sought)})


def _search(place: Place, sought: Sought) -> Iterator[str]:
    if "secret" not in place.may_hold:
        for found in _SECRET_FORM.findall(place.content):
            yield sought.secrets.get(found, "something of a secret's form")
        # Secrets that do not have Foregate's form, such as those a client chose.
        yield from (label for text, label in sought.secrets.items() if b"_" not in text and text in place.content)
    if "digest" not in place.may_hold:
        yield from _search_digests(place.content, sought.digests)
    if "key" not in place.may_hold:
        for key, label in sought.keys.items():
            yield from (f"{label} ({form})" for form, text in _forms(key) if text in place.content)
    if "tls key" not in place.may_hold and _PRIVATE_KEY.search(place.content):
        yield "a private key"


def _search_digests(content: bytes, digests: dict[bytes, str]) -> Iterator[str]:
    """Digests as hex and base64 are looked up run by run, as there are thousands; raw ones only where the content is
    no text, for 32 random bytes are none."""
    for run in _HEX_RUN.findall(content):
        for start in range(len(run) - 63):
            if (label := digests.get(bytes.fromhex(run[start : start + 64].decode()))) is not None:
                yield f"{label} (hex)"
    for run in _BASE64_RUN.findall(content.replace(b"-", b"+").replace(b"_", b"/")):
        for start in range(len(run) - 42):
            if (label := digests.get(base64.b64decode(run[start : start + 43] + b"="))) is not None:
                yield f"{label} (base64)"
    if not _is_text(content):
        yield from (f"{label} (raw)" for digest, label in digests.items() if digest in content)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sought(foregate: Foregate) -> Sought:
    master = load(foregate.home / "master.key")
    issued = dict.fromkeys([*foregate.issued, *_own_secrets(foregate)])
    secrets = {text.encode(): f"secret {number}" for number, text in enumerate(issued)}
    digests = {
        digest: f"the {kind} of {label}" for text, label in secrets.items() for kind, digest in _digests(master, text)
    }
    return Sought(secrets, digests, {key: label for label, key in _keys(master)})


def _own_secrets(foregate: Foregate) -> Iterator[str]:
    """What the home itself was given at its first start."""
    for name in ("admin.token", "edge/edge.key"):
        yield (foregate.home / name).read_text().strip()
    demo = (foregate.home / "demo" / "token").read_text()
    yield from re.findall(r"cfast_\w{48}", demo)


def _digests(master: MasterKey, text: bytes) -> Iterator[tuple[str, bytes]]:
    secret = Secret(text.decode())
    for version, pepper in master.peppers().items():
        yield "digest", digest_secret(secret, pepper, version).value
    yield "API token digest", digest_secret(secret, master.api_token_key(), 1).value


def _keys(master: MasterKey) -> Iterator[tuple[str, bytes]]:
    for version, root in master.roots.items():
        yield f"master key root {version}", root
        yield f"pepper {version}", master.pepper(version)
    yield "record MAC key", master.record_mac_key()
    yield "key encryption key", master.key_encryption_key()
    yield "edge sealing key", master.edge_sealing_key()
    yield "API token key", master.api_token_key()


def _forms(key: bytes) -> Iterator[tuple[str, bytes]]:
    yield "raw", key
    yield "hex", key.hex().encode()
    yield "HEX", key.hex().upper().encode()
    yield "base64", base64.b64encode(key).rstrip(b"=")
    yield "base64url", base64.urlsafe_b64encode(key).rstrip(b"=")


def _places(foregate: Foregate) -> Iterator[Place]:
    yield from _files(foregate)
    yield from _log_values(foregate)
    yield from _rows(foregate)
    yield Place("what foregate up printed", foregate.output.read_bytes())
    for process in processes_of(foregate.home):
        yield Place(f"the command line of {process.name}", process.command)
        yield Place(f"the environment of {process.name}", process.environment)
    api = foregate.api()
    for path in _PAGES:
        yield Place(f"the answer of {path}", api.account("GET", path).body)
    events = foregate.run("events", "tail", "--json", "--limit", "1000")
    yield Place("foregate events tail", events.stdout + events.stderr)


def _files(foregate: Foregate) -> Iterator[Place]:
    for path in sorted(foregate.home.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(foregate.home))
        may_hold = frozenset(
            kind
            for kind, pattern in (
                ("secret", _KEY_FILES),
                ("key", _KEY_FILES),
                ("digest", _DIGEST_FILES),
                ("tls key", _TLS_KEY_FILES),
            )
            if pattern.fullmatch(_FURTHER_EDGE.sub("", name))
        )
        yield Place(name, path.read_bytes(), may_hold)


def _rows(foregate: Foregate) -> Iterator[Place]:
    """What stands in the stores, wherever they are."""
    stores = stores_of(load_settings(foregate.environment))
    for store, metadata in ((stores.records, records_schema.metadata), (stores.telemetry, telemetry_schema.metadata)):
        with store.look_into() as connection:
            yield Place(f"the rows of {store.tree}", content_of(connection, metadata), frozenset({"digest"}))


def _log_values(foregate: Foregate) -> Iterator[Place]:
    """The log's records, event batches unpacked. Edge records hold digests, as every edge must know them."""
    for offset, topic, value in log_records(foregate):
        may_hold = frozenset({"digest"} if topic == "edge-config" else ())
        yield Place(f"{topic} record {offset}", value, may_hold)
    for number, lines in enumerate(event_batches(foregate)):
        yield Place(f"event batch {number}", lines)
