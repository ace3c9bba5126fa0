"""Normal forms of hosts and paths, held against slow oracles written from the standards."""

from __future__ import annotations

import re
import string

from hypothesis import assume, given
from hypothesis import strategies as st

from foregate.core.errors import ForegateError
from foregate.core.targets import (
    Pattern,
    matches,
    normalise_host,
    normalise_path,
    parse_pattern,
    specificity,
)

PIECES = ["/", "/", "/", "//", ".", "..", "%2e", "%2E%2e", "a", "b", "A", "%41", "%61", "%7e", "%7E", "%e4", "%C3%A4",
          "%20", "%25", "%2561", "%2f", "%5C", "%00", "%", "%4", "%g0", "\\", "?", "#", " ", "\x00", "\xe4", "*", ";",
          ":", "@", "~", "-", "|"]  # fmt: skip
UNSOUND = ("%2f", "%5C", "%00", "%", "%4", "%g0", "\\", "?", "#", " ", "\x00", "\xe4")
SOUND = [piece for piece in PIECES if piece not in UNSOUND]
sound_paths = st.lists(st.sampled_from(SOUND), max_size=12).map(lambda pieces: "/" + "".join(pieces))
paths = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "/" + "".join(pieces)) | st.text(
    st.characters(max_codepoint=255), max_size=20
)
UNRESERVED = string.ascii_letters + string.digits + "-._~"


def slow_normal_path(text: str) -> str | None:
    """RFC 3986 6.2.2.1, 6.2.2.2 and 5.2.4 by the letter, doubled slashes merged before the last."""
    if not text.startswith("/"):
        return None
    octets, position = [], 0
    while position < len(text):
        character = text[position]
        if character == "%":
            digits = text[position + 1 : position + 3]
            if len(digits) != 2 or any(digit not in string.hexdigits for digit in digits):
                return None
            value = int(digits, 16)
            if value in (0x00, 0x2F, 0x5C):
                return None
            octets.append(chr(value) if chr(value) in UNRESERVED else f"%{value:02X}")
            position += 3
            continue
        if ord(character) <= 0x20 or ord(character) >= 0x7F or character in "\\#?":
            return None
        octets.append(character)
        position += 1
    merged = ""
    for piece in octets:
        if not (piece == "/" and merged.endswith("/")):
            merged += piece
    return remove_dot_segments(merged)


def remove_dot_segments(path: str) -> str:
    """RFC 3986 5.2.4, step for step."""
    source, output = path, ""
    while source:
        if source.startswith(("../", "./")):
            source = source[source.index("/") + 1 :]
        elif source.startswith("/./") or source == "/.":
            source = "/" + source[3:]
        elif source.startswith("/../") or source == "/..":
            source = "/" + source[4:]
            output = output[: output.rfind("/")] if "/" in output else ""
        elif source in (".", ".."):
            source = ""
        else:
            end = source.find("/", 1)
            end = len(source) if end < 0 else end
            output, source = output + source[:end], source[end:]
    return output


@given(paths)
def test_normal_path_equals_the_standard_s_own_algorithm(text: str) -> None:
    assert normalise_path(text) == slow_normal_path(text)


@given(sound_paths)
def test_normal_path_is_its_own_normal_form_and_never_climbs(text: str) -> None:
    path = normalise_path(text)

    assert path is not None and normalise_path(path) == path
    assert path.startswith("/") and "//" not in path
    assert not {".", ".."} & set(path.split("/"))


@given(sound_paths)
def test_climbing_above_the_root_stays_at_the_root(text: str) -> None:
    assert normalise_path("/../%2e%2e/.." + text) == normalise_path(text)


labels = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=8)
hosts = st.lists(labels, min_size=1, max_size=5).map(".".join)


@given(hosts, st.sampled_from(["", "."]), st.sampled_from(["", ":", ":0", ":8443", ":65535"]), st.booleans())
def test_host_is_judged_the_same_with_port_dot_and_case(host: str, dot: str, port: str, upper: bool) -> None:
    given_host = (host.upper() if upper else host) + dot + port

    assert normalise_host(given_host) == host.lower()


@given(st.text(st.characters(max_codepoint=255), max_size=30) | hosts)
def test_normal_host_is_its_own_normal_form(text: str) -> None:
    host = normalise_host(text)

    if host is not None:
        assert normalise_host(host) == host
        assert re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", host)


pattern_hosts = st.lists(
    st.sampled_from(["a", "b", "*", "a*", "*b", "a*b", "ab"]), min_size=0, max_size=3
).map(lambda labels: ".".join([*labels, "test"]))  # fmt: skip
pattern_paths = st.lists(st.sampled_from(["a", "b", "*", "a*", "*b", "a*b", "ab", "a.b"]), max_size=3).map(
    lambda segments: "".join("/" + segment for segment in segments)
)
patterns = st.builds(Pattern, pattern_hosts, pattern_paths)
plain_hosts = st.lists(st.sampled_from(["a", "b", "ab", "axb", "aab"]), max_size=3).map(
    lambda x: ".".join([*x, "test"])
)
plain_paths = st.lists(st.sampled_from(["", "a", "b", "ab", "axb", "aa", "a.b"]), min_size=1, max_size=4).map(
    lambda segments: "/" + "/".join(segments)
)


def slow_matches(pattern: Pattern, host: str, path: str) -> bool:
    """Label by label, then segment by segment."""
    asked, given_labels = pattern.host.split("."), host.split(".")
    if len(asked) != len(given_labels) or not all(map(fits, asked, given_labels)):
        return False
    segments, given_segments = pattern.segments, path.split("/")[1:]
    return len(given_segments) >= len(segments) and all(map(fits, segments, given_segments))


def fits(asked: str, text: str) -> bool:
    if "*" not in asked:
        return asked == text
    before, after = asked.split("*")
    return len(text) > len(before) + len(after) and text.startswith(before) and text.endswith(after)


@given(patterns, plain_hosts, plain_paths)
def test_pattern_covers_what_its_labels_and_segments_say(pattern: Pattern, host: str, path: str) -> None:
    assert matches(pattern, host, path) is slow_matches(pattern, host, path)


@given(patterns)
def test_canonical_text_is_read_back_to_the_same_pattern(pattern: Pattern) -> None:
    assert parse_pattern(pattern.text) == pattern


@given(
    st.text(max_size=40) | st.from_regex(r"(https?://)?[a-z*.]{1,9}(:[0-9]{1,6})?(/[a-z*.%2e/]{0,9})?", fullmatch=True)
)
def test_any_text_is_a_pattern_or_refused_with_a_sentence(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except ForegateError as refusal:
        assert refusal.message.endswith(".")
    else:
        assert parse_pattern(pattern.text) == pattern
        assert normalise_path(pattern.path or "/") == (pattern.path or "/")


@st.composite
def rivals(draw: st.DrawFn) -> tuple[Pattern, Pattern]:
    """Two different patterns that cover one and the same request."""

    def loosened(part: str) -> str:
        return draw(st.sampled_from([part, "*", *(f"{part[:at]}*{part[at + 1 :]}" for at in range(len(part)))]))

    labels, segments = draw(plain_hosts).split(".")[:-1], ["ab", "cde", "fg"]

    def pattern() -> Pattern:
        path = [loosened(segment) for segment in segments[: draw(st.integers(0, 3))]]
        return Pattern(".".join([*map(loosened, labels), "test"]), "".join("/" + segment for segment in path))

    one, other = pattern(), pattern()
    assume(one != other)
    return one, other


def slow_precedes(one: Pattern, other: Pattern) -> bool:
    """The order as the reference page and the concepts page tell it, sentence by sentence."""
    for rank in (lambda p: "*" not in p.host, lambda p: p.host.startswith("*.") and p.host.count("*") == 1):
        if rank(one) != rank(other):
            return rank(one)
    if one.host != other.host:
        literals = [len(p.host.replace("*", "")) for p in (one, other)]
        return literals[0] > literals[1] if literals[0] != literals[1] else one.host < other.host
    if len(one.segments) != len(other.segments):
        return len(one.segments) > len(other.segments)
    for left, right in zip(one.segments, other.segments, strict=True):
        for rank in (lambda s: "*" not in s, lambda s: s != "*"):
            if rank(left) != rank(right):
                return rank(left)
        if "*" in left and len(left) != len(right):
            return len(left) > len(right)
    return one.text < other.text


@given(rivals())
def test_of_two_patterns_for_one_request_the_more_specific_is_first(pair: tuple[Pattern, Pattern]) -> None:
    one, other = pair

    assert (specificity(one) < specificity(other)) is slow_precedes(one, other)
    assert (specificity(other) < specificity(one)) is slow_precedes(other, one)
