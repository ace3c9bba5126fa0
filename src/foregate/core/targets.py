"""Where a request goes and what an application covers: hosts, paths, and patterns of both.

The edge judges the normal form of host and path and sends exactly that path to the origin; the API checks patterns
with the same words. `normalise_path` gives what HAProxy's `normalize-uri` gives (percent-decode-unreserved,
percent-to-uppercase, path-merge-slashes, path-strip-dot, path-strip-dotdot full; configuration manual 4.2).
The expressions here are written so that Python's `re` and PCRE read them alike; the edge's configuration uses them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from foregate.core.errors import ForegateError, invalid

# RFC 1123 names and underscores as resolvers take them; an IPv6 literal is well formed, though no pattern has one.
_LABEL = r"[a-z0-9_-]{1,63}"
NAME_FORM = rf"{_LABEL}(?:\.{_LABEL})*"
HOST_FORM = rf"(?:{NAME_FORM}\.?|\[[0-9a-f:.]{{2,45}}\])(?::[0-9]{{0,5}})?"
# RFC 1035 2.3.4, without the dots at either end.
MAX_HOST_LENGTH = 253
# What must not stand in a path: encoded slash, backslash and NUL, as origins disagree about what they mean; a raw
# backslash; what is no octet of a path (RFC 3986 3.3 and controls); a percent sign without two hex digits.
REFUSED_IN_PATH = r"%2[Ff]|%5[Cc]|%00|[^!-~]|[\\#?]|%(?![0-9A-Fa-f]{2})"

_HOST = re.compile(HOST_FORM)
_REFUSED = re.compile(REFUSED_IN_PATH)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_SLASHES = re.compile(r"/{2,}")
# RFC 3986 2.3.
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PATTERN_LABEL = re.compile(r"[a-z0-9_*](?:[a-z0-9_*-]*[a-z0-9_*])?")
_PORT = re.compile(r":[0-9]{1,5}")


def normalise_host(text: str) -> str | None:
    """The host in lower case, without port and without one trailing dot; None where it is empty or malformed."""
    lowered = text.lower()
    # `lower` folds some letters outside ASCII into it (the Kelvin sign); such a host is malformed, not another.
    if not text.isascii() or _HOST.fullmatch(lowered) is None:
        return None
    name = lowered[: lowered.index("]") + 1] if lowered.startswith("[") else lowered.partition(":")[0]
    name = name.removesuffix(".")
    return name if len(name) <= MAX_HOST_LENGTH else None


def normalise_path(text: str) -> str | None:
    """The path (without query) as it is judged and sent to the origin; None where it must be refused.

    Octets are given as characters below 256. Safe to repeat: a normal path is its own normal form.
    Source: RFC 3986 5.2.4 and 6.2.2; a path that climbs above the root stays at the root.
    """
    if not text.startswith("/") or _REFUSED.search(text):
        return None
    return _without_dot_segments(_SLASHES.sub("/", _ESCAPE.sub(_decoded, text)))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A canonical pattern. `host` in lower case, `path` normal and without trailing slash, empty for the whole host."""

    host: str
    path: str

    @property
    def text(self) -> str:
        """`host/path`, the one way to write this pattern."""
        return self.host + self.path

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments."""
        return tuple(self.path.split("/")[1:])


def parse_pattern(text: str, *, pointer: str | None = None) -> Pattern:
    """An application's `domain` or destination `uri`, such as `https://app.example.com/admin/*`, made canonical.

    Scheme, port, one trailing dot of the host and a trailing slash go. ForegateError(INVALID_INPUT) for user
    information, query, fragment, a host or a path that no request could have, and misplaced wildcards.
    Source: reference page, 2.2 path rules.
    """
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[1].lower() not in ("http", "https"):
        raise invalid("The address may start with http:// or https:// only.", pointer=pointer)
    rest = text[scheme.end() :] if scheme else text
    if "?" in rest or "#" in rest:
        raise invalid("An application covers hosts and paths; leave out the query and the fragment.", pointer=pointer)
    host, slash, path = rest.partition("/")
    return Pattern(_parse_host(host, pointer), _parse_path(slash + path, pointer))


def specificity(pattern: Pattern) -> tuple[object, ...]:
    """A sort key: of all patterns that match a request, the one with the least key decides alone.

    An exact host comes first, then `*.` before a literal rest, then other wildcards; within one host, more segments,
    then from the left a literal segment before a partial wildcard before `*`.
    """
    segments = tuple(_rank(segment) for segment in pattern.segments)
    return (_host_rank(pattern.host), pattern.host, -len(segments), segments, pattern.text)


def matches(pattern: Pattern, host: str, path: str) -> bool:
    """Whether the pattern covers a normal host and path. `/admin` covers `/admin/x`, not `/administrator`."""
    return covers_host(pattern.host, host) and re.fullmatch(path_form(pattern.path), path) is not None


def covers_host(pattern_host: str, host: str) -> bool:
    """Whether a pattern's host covers a normal host."""
    return pattern_host == host or ("*" in pattern_host and re.fullmatch(host_form(pattern_host), host) is not None)


def hosts_overlap(one: str, other: str) -> bool:
    """Whether some host is covered by the hosts of both patterns."""
    labels, others = one.split("."), other.split(".")
    return len(labels) == len(others) and all(map(_labels_overlap, labels, others))


def host_form(pattern_host: str) -> str:
    """The expression (to be anchored at both ends) of the hosts that a pattern's host covers."""
    return r"[^.]+".join(re.escape(part) for part in pattern_host.split("*"))


def path_form(pattern_path: str) -> str:
    """The expression (to be anchored at both ends) of the paths that a pattern's path covers."""
    return r"[^/]+".join(re.escape(part) for part in pattern_path.split("*")) + r"(?:/.*)?"


def _labels_overlap(one: str, other: str) -> bool:
    if "*" not in one or "*" not in other:
        return covers_host(one, other) or covers_host(other, one)
    (head, _, tail), (other_head, _, other_tail) = one.partition("*"), other.partition("*")
    # Between the longer head and the longer tail there is room for whatever either * has to stand for.
    heads_meet = head.startswith(other_head) or other_head.startswith(head)
    return heads_meet and (tail.endswith(other_tail) or other_tail.endswith(tail))


def _decoded(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0].upper()


def _without_dot_segments(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    # A dot segment at the end leaves its slash: /a/b/.. is /a/.
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _parse_host(text: str, pointer: str | None) -> str:
    if "@" in text:
        raise invalid("The address must not hold a user name.", pointer=pointer)
    bare, port, number = text.partition(":")
    if text.startswith(("[", ":")):
        raise invalid("Give a host by name or IPv4 address; an IPv6 address cannot be covered.", pointer=pointer)
    if port and not (_PORT.fullmatch(port + number) and 1 <= int(number) <= 65535):
        raise invalid("The port must be 1 to 65535; Foregate leaves it out of the pattern.", pointer=pointer)
    host = bare.removesuffix(".").lower()
    if not text.isascii():
        raise invalid("Write the host in ASCII, names of other scripts as xn--… (punycode).", pointer=pointer)
    labels = host.split(".")
    if not host or len(host) > MAX_HOST_LENGTH:
        raise invalid("Give a host name of 1 to 253 characters, such as app.example.com.", pointer=pointer)
    if any(len(label) > 63 or not _PATTERN_LABEL.fullmatch(label) for label in labels):
        raise _bad_host(pointer)
    if any(label.count("*") > 1 for label in labels):
        raise invalid("A host may hold one * in each label, such as *.example.com.", pointer=pointer)
    if "*" in labels[-1]:
        raise invalid("The last label of a host must not hold a *.", pointer=pointer)
    return host


def _parse_path(text: str, pointer: str | None) -> str:
    if text in ("", "/"):
        return ""
    path = normalise_path(text)
    if path is None:
        raise invalid(
            "The path must be written in ASCII with % escapes, without \\, %2F, %5C and %00.", pointer=pointer
        )
    # What a dot segment beside a wildcard should mean is anybody's guess.
    if any(segment in (".", "..") for segment in _ESCAPE.sub(_decoded, text).split("/")):
        raise invalid("Write the path without . and .. segments.", pointer=pointer)
    if any(segment.count("*") > 1 for segment in path.split("/")):
        raise invalid("A path may hold one * in each segment, such as /reports/*.", pointer=pointer)
    return path.removesuffix("/")


def _bad_host(pointer: str | None) -> ForegateError:
    return invalid("Give a host name of letters, digits and hyphens, such as app.example.com.", pointer=pointer)


def _host_rank(host: str) -> tuple[int, int]:
    if "*" not in host:
        return (0, 0)
    if host.startswith("*.") and host.count("*") == 1:
        return (1, 0)
    return (2, host.count("*") - len(host))


def _rank(segment: str) -> tuple[int, int]:
    if "*" not in segment:
        return (0, 0)
    return (2, 0) if segment == "*" else (1, 1 - len(segment))
