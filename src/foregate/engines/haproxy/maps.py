"""The entries of a worker's token maps: how they are written, so that the rendered configuration reads them.

`base.map` holds every token, `overlay.map` those changed since the base was written (looked up first; a tombstone for
one that is gone), `hot.map` one entry per live secret, client and application that was lately let through, with the
assertion ready. Entries never hold a secret, but digests and assertions: files are 0600, and nothing of them is logged.

Token entry: `account|state|expires|tag|tag2|expires2`, the last two only while an older secret lives. `state` is E or
D, `expires` Unix seconds or NEVER, a tag is `base64 digest:pepper version`.
Hot entry: key `base64(sha256(secret|route|salt))`, so that one look-up stands for every comparison but that of the
client id, which stands among the words; value `until`, event words and assertion, at the places that `HOT` says.
`until` is the moment from which it must not be used any more: the assertion's refresh, the token's end and the secret's
end, whichever comes first. The salt is derived from the current pepper; the route changes with all that the
application's policies say.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# Later than any end that a record may have, and still a number to HAProxy's arithmetic.
NEVER = 99_999_999_999
TOMBSTONE = "-"
# No blank, no pipe: what separates a line's and an entry's parts.
_WORD = re.compile(r"[!-{}~]+")


@dataclass(frozen=True, slots=True)
class MapLine:
    """One entry of a map. Neither part holds a line break; the key holds no blank."""

    key: str = field(repr=False)
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _WORD.fullmatch(self.key.replace("|", "")) or not re.fullmatch(r"[!-~]+", self.value):
            raise ValueError("not a map entry")

    @property
    def text(self) -> str:
        """The line as it stands in a map's file, without its end."""
        return f"{self.key} {self.value}"


# No client id; to whoever sends it as one, a tombstone.
OVERLAY_END = MapLine("end", TOMBSTONE)


def overlay_text(lines: Iterable[MapLine]) -> str:
    """`overlay.map` for a worker that starts. `edge.lua` lets none start on one without its end: whoever was writing it
    may have been killed, and a worker that knows less would turn good tokens away and let revoked ones in."""
    return "".join(f"{line.text}\n" for line in (*lines, OVERLAY_END))


@dataclass(frozen=True, slots=True)
class SecretTag:
    """A digest under a pepper, and until when it is accepted (Unix seconds, NEVER)."""

    tag: str = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A token as the maps hold it, current secret first."""

    account_id: str
    is_enabled: bool
    expires_at: int
    secrets: tuple[SecretTag, ...]

    @property
    def text(self) -> str:
        """The entry."""
        head = f"{self.account_id}|{'E' if self.is_enabled else 'D'}|{self.expires_at}|{self.secrets[0].tag}"
        return head if len(self.secrets) == 1 else f"{head}|{self.secrets[1].tag}|{self.secrets[1].expires_at}"


def secret_tag(digest: bytes, pepper_version: int) -> str:
    """How a digest stands in the maps. ValueError unless it has 32 bytes."""
    if len(digest) != 32 or pepper_version < 1:
        raise ValueError("not a digest")
    return f"{base64.b64encode(digest).decode()}:{pepper_version}"


def parse_token_entry(text: str) -> TokenEntry:
    """The inverse of `TokenEntry.text`. ValueError for anything else, a tombstone included."""
    parts = text.split("|")
    if len(parts) not in (4, 6) or parts[1] not in ("E", "D"):
        raise ValueError("not a token entry")
    secrets = [SecretTag(parts[3], NEVER)]
    if len(parts) == 6:
        secrets.append(SecretTag(parts[4], int(parts[5])))
    return TokenEntry(parts[0], parts[1] == "E", int(parts[2]), tuple(secrets))


@dataclass(frozen=True, slots=True)
class HotKey:
    """What the worker tells of a request that asks for an assertion (`edge.lua`): `key` names the hot entry, `tag` the
    secret that was used."""

    key: str = field(repr=False)
    tag: str = field(repr=False)
    client_id: str
    app_id: str
    policy_id: str


@dataclass(frozen=True, slots=True)
class HotLayout:
    """Where the parts of a hot entry begin, and how long they are: looking for separators would cost more than all else
    that is done with an entry."""

    words_at: int
    words_length: int
    client_at: int
    client_length: int
    policy_at: int
    policy_length: int
    assertion_at: int


def hot_line(hot: HotKey, entry: str, assertion: str, refresh_at: int) -> MapLine | None:
    """The hot entry for an assertion; `entry` is the token's entry as it is now.

    `refresh_at`: Unix seconds from which the assertion is to be made anew. None where there is nothing to remember: the
    entry no longer has the secret that was used, or the token is disabled (it changed after the request was judged),
    or an id is not as long as ids are (`HOT`).
    """
    token = parse_token_entry(entry)
    ends = next((secret.expires_at for secret in token.secrets if secret.tag == hot.tag), None)
    if ends is None or not token.is_enabled:
        return None
    until = min(refresh_at, token.expires_at, ends)
    words = event_words(token.account_id, hot.app_id, hot.client_id, hot.policy_id, "service_auth")
    lengths = (len(words), len(hot.client_id), len(hot.policy_id))
    if lengths != (HOT.words_length, HOT.client_length, HOT.policy_length):
        return None
    return MapLine(hot.key, f"{until:0{HOT.words_at}d}{words}{assertion}")


def event_words(account_id: str, app_id: str, client_id: str, policy_id: str, reason: str) -> str:
    """An event line from the account on, without the quote at its start, up to the host's opening quote."""
    return f'{account_id}","app":"{app_id}","id":"{client_id}","pol":"{policy_id}","why":"{reason}","host":"'


def _layout() -> HotLayout:
    """From ids of the usual lengths: account 32, application and policy UUIDs, client id 39."""
    client, policy = "c" * 39, "p" * 36
    words = event_words("a" * 32, "u" * 36, client, policy, "service_auth")
    words_at = len(str(NEVER))
    return HotLayout(
        words_at=words_at,
        words_length=len(words),
        client_at=words_at + words.index(client),
        client_length=len(client),
        policy_at=words_at + words.index(policy),
        policy_length=len(policy),
        assertion_at=words_at + len(words),
    )


HOT = _layout()


def file_text(lines: Iterable[MapLine]) -> Iterator[str]:
    """A map file's lines with their ends, to be written one after the other."""
    return (f"{line.key} {line.value}\n" for line in lines)
