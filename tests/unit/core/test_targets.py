"""Hosts, paths and patterns."""

from __future__ import annotations

import itertools

import pytest

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.targets import (
    Pattern,
    covers_host,
    hosts_overlap,
    matches,
    normalise_host,
    normalise_path,
    parse_pattern,
    specificity,
)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("app.test", "app.test"),
        ("APP.Test", "app.test"),
        ("app.test.", "app.test"),
        ("app.test:8443", "app.test"),
        ("App.Test.:8443", "app.test"),
        ("app.test:", "app.test"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("my_app.test", "my_app.test"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
        ("a." * 126 + "a", "a." * 126 + "a"),
        ("a." * 126 + "a.:8443", "a." * 126 + "a"),
    ],
)
def test_host_loses_case_port_and_one_trailing_dot(given: str, normal: str) -> None:
    assert normalise_host(given) == normal


@pytest.mark.parametrize(
    "given",
    ["", ".", "..", ":80", "a." * 125 + "aaaa",
     "app..test", "app.test..", ".app.test", "app.test:x", "app.test:80:80", "app.test:123456",
     "a b", "a/b", "a,b", "a@b", "a%2eb", "*.test", "a" * 64 + ".test", "a." * 127 + "aa", "ä.test", "\u212a.test",
     "app.test\n", "[::1", "[::1].", "::1", "[]", "[::g]"],
)  # fmt: skip
def test_malformed_host_has_no_normal_form(given: str) -> None:
    assert normalise_host(given) is None


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("//a///b//", "/a/b/"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/.", "/"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a//../b", "/b"),
        ("/../../etc", "/etc"),
        ("/a/../../b", "/b"),
        ("/..", "/"),
        ("/%2e%2E/x", "/x"),
        ("/a/%2e/b", "/a/b"),
        ("/.%2e/x", "/x"),
        ("/%61dmin", "/admin"),
        ("/%7Euser/%2D%5F", "/~user/-_"),
        ("/%e4%f6", "/%E4%F6"),
        ("/a%20b", "/a%20b"),
        ("/a%0ab", "/a%0Ab"),
        ("/%2561", "/%2561"),
        ("/%25%36%31", "/%2561"),
        ("/...", "/..."),
        ("/a/..b/.c", "/a/..b/.c"),
        ("/a;x=1/..;/b", "/a;x=1/..;/b"),
        ('/a"<>^`{|}*', '/a"<>^`{|}*'),
        ("/A/a", "/A/a"),
    ],
)
def test_path_is_brought_to_its_normal_form(given: str, normal: str) -> None:
    assert normalise_path(given) == normal


@pytest.mark.parametrize(
    "given",
    ["", "a", "*", "?", "/a?b", "/a#b", "/%2f", "/%2F", "/a%5cb", "/a%5Cb", "/%00", "/a\\b", "/a b", "/a\tb", "/a\x00",
     "/a\x7f", "/\xe4", "/%", "/%4", "/%zz", "/%2", "/a%%61", "/%u0061", "/a\n"],
)  # fmt: skip
def test_path_that_layers_could_read_differently_has_no_normal_form(given: str) -> None:
    assert normalise_path(given) is None


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("app.example.com", "app.example.com"),
        ("https://App.Example.com:8443/", "app.example.com"),
        ("http://app.example.com./admin/", "app.example.com/admin"),
        ("app.example.com/admin/*", "app.example.com/admin/*"),
        ("app.example.com//admin///x", "app.example.com/admin/x"),
        ("app.example.com/%61dmin/%c3%a4", "app.example.com/admin/%C3%A4"),
        ("*.example.com/a*b/c", "*.example.com/a*b/c"),
        ("dev-*.example.com", "dev-*.example.com"),
        ("*.*.example.com", "*.*.example.com"),
        ("localhost", "localhost"),
        ("HTTPS://app.test", "app.test"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
        ("a." * 126 + "a", "a." * 126 + "a"),
        ("echo.localhost:8480/x", "echo.localhost/x"),
    ],
)
def test_pattern_has_one_canonical_text(given: str, canonical: str) -> None:
    pattern = parse_pattern(given)

    assert pattern.text == canonical
    assert parse_pattern(pattern.text) == pattern


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "host name"),
        ("/admin", "host name"),
        ("https://", "host name"),
        ("ftp://app.test", "http"),
        ("app.test?x=1", "query"),
        ("app.test/a?x=1", "query"),
        ("app.test/a#b", "fragment"),
        ("user@app.test", "user name"),
        ("https://user:pw@app.test/", "user name"),
        ("app.test:port", "port"),
        ("app.test:", "port"),
        ("app.test:1:2", "port"),
        ("app.test:0", "port"),
        ("app.test:65536", "port"),
        ("[::1]", "IPv6"),
        ("::1", "IPv6"),
        ("ä.test", "punycode"),
        ("a b.test", "letters"),
        ("-a.test", "letters"),
        ("a-.test", "letters"),
        ("a..test", "letters"),
        (".test", "letters"),
        ("a" * 64 + ".test", "letters"),
        ("a." * 125 + "aaaa", "253"),
        ("a*b*c.test", "one *"),
        ("**.test", "one *"),
        ("*", "last label"),
        ("app.*", "last label"),
        ("app.te*", "last label"),
        ("app.test/a/**", "one *"),
        ("app.test/a*b*c", "one *"),
        ("app.test/ä", "ASCII"),
        ("app.test/a b", "ASCII"),
        ("app.test/a%2fb", "%2F"),
        ("app.test/a\\b", "%2F"),
        ("app.test/%", "escapes"),
        ("app.test/a/../b", "segments"),
        ("app.test/a/%2e%2e", "segments"),
        ("app.test/.", "segments"),
        ("app.test/*/../b", "segments"),
        ("app.test\x00", "letters"),
    ],
)
def test_pattern_that_no_request_could_match_is_refused_with_a_sentence(given: str, says: str) -> None:
    with pytest.raises(ForegateError) as caught:
        parse_pattern(given, pointer="/domain")

    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert caught.value.pointer == "/domain"
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("pattern", "covered", "not_covered"),
    [
        ("app.test", ["app.test/", "app.test/a/b"], ["x.app.test/", "app.tes/", "apptest/"]),
        ("app.test/admin", ["app.test/admin", "app.test/admin/", "app.test/admin/x"],
         ["app.test/administrator", "app.test/", "app.test/Admin", "app.test/x/admin"]),
        ("app.test/x/alpha/*", ["app.test/x/alpha/b", "app.test/x/alpha/b/", "app.test/x/alpha/b/c"],
         ["app.test/x/alpha", "app.test/x/alpha/", "app.test/x/alphab"]),
        ("app.test/a*b/c", ["app.test/axb/c", "app.test/aaabbb/c/d"],
         ["app.test/ab/c", "app.test/a/b/c", "app.test/axb", "app.test/axbc"]),
        ("app.test/*/x", ["app.test/a/x", "app.test/*/x/y"], ["app.test/a/b/x", "app.test/x"]),
        ("*.test", ["a.test/", "a-b.test/x"], ["test/", "a.b.test/", ".test/"]),
        ("dev-*.test", ["dev-1.test/"], ["dev-.test/", "dev.test/", "dev-1.x.test/"]),
        ("a.*.test", ["a.b.test/"], ["a.test/", "a.b.c.test/"]),
        ("app.test/a.b", ["app.test/a.b"], ["app.test/axb"]),
        ("app.test/a+b", ["app.test/a+b"], ["app.test/aab"]),
    ],
)  # fmt: skip
def test_pattern_covers_itself_and_what_lies_below(pattern: str, covered: list[str], not_covered: list[str]) -> None:
    def found(addresses: list[str]) -> list[str]:
        split = [(host, "/" + path) for host, _, path in (address.partition("/") for address in addresses)]
        return [host + path for host, path in split if matches(parse_pattern(pattern), host, path)]

    assert found(covered) == covered
    assert found(not_covered) == []


def test_most_specific_pattern_comes_first() -> None:
    ordered = [
        "a.dev.test/x/y/z",
        "a.dev.test/x/y",
        "a.dev.test/x/y*",
        "a.dev.test/x/*",
        "a.dev.test/xx*/y",
        "a.dev.test/x*/y",
        "a.dev.test/*/y",
        "a.dev.test/x",
        "a.dev.test/*",
        "a.dev.test",
        "*.dev.test/x",
        "*.dev.test",
        "a.dev*.test/x",
        "a.de*.test",
        "*.de*.test",
        "*.*.test/x",
        "*.*.test",
    ]

    assert sorted(ordered, key=lambda text: specificity(parse_pattern(text))) == ordered


def test_ties_between_wildcard_hosts_are_broken_alphabetically_before_the_path_counts() -> None:
    first, second = Pattern("a*.x.test", ""), Pattern("b*.x.test", "/deep/er")

    assert specificity(first) < specificity(second)


def test_hosts_overlap_exactly_where_one_host_is_covered_by_both() -> None:
    """All patterns of up to three characters over one letter and a half, against all hosts long enough to tell."""
    letters = ["".join(word) for length in (1, 2, 3) for word in itertools.product("ab*", repeat=length)]
    patterns = [text for text in letters if text.count("*") <= 1]
    hosts = ["".join(word) for length in range(1, 6) for word in itertools.product("abc", repeat=length)]
    covered = {text: {host for host in hosts if covers_host(f"{text}.test", f"{host}.test")} for text in patterns}
    for one, other in itertools.product(patterns, repeat=2):
        assert hosts_overlap(f"{one}.test", f"{other}.test") == bool(covered[one] & covered[other]), (one, other)
    assert not hosts_overlap("*.test", "a.b.test")
