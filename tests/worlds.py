"""Random worlds for the property and the differential tests: what an edge knows, and requests worth asking of it.

All choices come from the `random.Random` that is passed in, so a seed replays. Draws lean towards near misses: hosts
and paths beside those of patterns, secrets beside the live ones, headers doubled, folded, halved.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from random import Random

from edge_values import (
    ACCOUNT,
    ANY_TOKEN,
    EVERYONE,
    OTHER_ACCOUNT,
    PEPPERS,
    account,
    client_id,
    digest_of,
    ingress,
    policy,
    secret_of,
    secret_version,
)
from foregate.access.model import Header, Knowledge, Request
from foregate.core.clock import to_unix
from foregate.core.targets import covers_host, parse_pattern
from foregate.edge.wire import (
    AppValue,
    GroupSelector,
    IngressValue,
    IpSelector,
    PolicyValue,
    Rule,
    SecretVersion,
    Selector,
    TokenSelector,
    TokenValue,
)

TOKENS = 14
UNKNOWN_TOKEN = 99
TOKEN_HEADERS = ("authorization", "x-machine")
AUTH_DOMAINS = {ACCOUNT: "auth.test", OTHER_ACCOUNT: "auth.other.test"}
# Clients of the differential test come from loopback, or from anywhere by way of a trusted proxy. Addresses that hold
# another in them (mapped, 6to4, IPv4-compatible) are not that other one, save the first kind.
NETWORKS = ("127.0.0.0/8", "127.0.0.1/32", "127.0.0.2/32", "127.0.0.2/31", "127.0.0.4/30", "0.0.0.0/0", "10.0.0.0/8",
            "::/0", "2001:db8::/32", "2002::/16", "::/96", "::ffff:0:0/96")  # fmt: skip
ADDRESSES = tuple(f"127.0.0.{last}" for last in range(1, 7))
PROXY = "127.0.0.7"
FAR_ADDRESSES = ("127.0.0.1", "127.0.0.5", "10.0.0.1", "192.0.2.1", "2001:db8::1", "::1", "2002:a00:1::1", "::10.0.0.1",
                 "::ffff:10.0.0.1", "::ffff:127.0.0.2", "fe80::1")  # fmt: skip

_HOSTS = ("app.test", "b.app.test", "dev-1.app.test", "dev-22.app.test", "x.y.app.test", "solo", "other.test",
          "auth.test", "free.test", "a.free.test", "app.testing")  # fmt: skip
_HOST_PATTERNS = ("app.test", "b.app.test", "*.app.test", "dev-*.app.test", "*.test", "*.*.app.test", "x.*.app.test",
                  "solo", "other.test", "auth.test", "d*1.app.test", "*-1.app.test", "a*p.test")  # fmt: skip
_SEGMENTS = ("admin", "a", "b", "public", "v1", "a.b", "%C3%A4", "a+b", "~x", "x(y)", "A", "re$", "q'")
_WILD_SEGMENTS = ("*", "a*", "*n", "a*n", "*.b", "p*c")
_PATHS = ("", "/", "/admin", "/admin/", "/administrator", "/admin/x", "/a/b", "/a/b/c/d", "/aXn", "/an", "/v1/a.b",
          "/v1/axb", "/public", "/PUBLIC", "/%C3%A4/x", "/~x", "/a+b", "/x(y)", "/re$/q'", "/*", "/a*", "/%2A",
          "/cdn-cgi/access/certs", "/cdn-cgi/access/x", "/cdn-cgi/accessory", "/cdn-cgi/access")  # fmt: skip
_ODD_PATHS = ("//admin", "/public/../admin", "/./admin", "/%61dmin", "/admin/..", "/admin/%2e%2e/", "/a//b", "/a/./b/.",
              "/../../admin", "/%c3%a4/x", "/public/%2E%2E/admin/x", "/a%2fb", "/admin%2Fx", "/a%5cb", "/a\\b",
              "/%00admin", "/admin%", "/%zz", "/a%20b", "/a;b/..;/admin", "/.../x", "/%2561dmin", "/%7Ex", "/a/b/../..",
              "/x\x7f", "/\xc3\xa4", "/a#b", "a", "*", "?", "/%41", "/cdn-cgi//access/../access/certs",
              "/admin/.", "/v1/./../v1/a%2Eb", "/a%0ab", "/" + "a" * 300, "/|^`{}<>\"")  # fmt: skip
_ODD_HOSTS = ("{host}", "{host}:8480", "{host}.", "{host}.:80", "{host}:", "", "{host}..", "{host}:x", ".{host}",
              "a{host}", "{host}:123456", "[::1]", "*.app.test", "{host}%", "a." * 127 + "aa", "a" * 64 + ".test",
              "{host},{host}")  # fmt: skip
GOOD_LOOKING_JSON = json.dumps({"cf-access-client-id": client_id(1), "cf-access-client-secret": secret_of(1)})
_QUERIES = ("", "", "", "?", "?a=1", "?x=%61%2f../..//b&%zz", "?a?b", "?next=/admin", "?%00\\", "?\xc3\xa4")
_METHODS = ("GET",) * 6 + ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD")


@dataclass(frozen=True, slots=True)
class World:
    """What an edge knows, and the secrets (by token and version) that a caller may hold."""

    known: Knowledge
    secrets: dict[tuple[int, int], str]


def draw_world(random: Random, now: datetime) -> World:
    """Up to 12 applications of two accounts, tokens in every state, ingress for some hosts. Expiries lie an hour or
    more from `now`, so that a slow run decides alike."""
    tokens = {client_id(number): _token(random, number, now) for number in range(1, TOKENS + 1)}
    accounts = {
        name: account(
            denies=random.random() < 0.5,
            exempted=tuple(random.sample(_HOSTS, random.randrange(3))),
            auth_domain=domain,
        )
        for name, domain in AUTH_DOMAINS.items()
    }
    known = Knowledge(_apps(random), _ingresses(random), accounts, tokens, PEPPERS)
    return World(known, {(n, v): secret_of(n, v) for n in range(1, TOKENS + 1) for v in (1, 2, 3)})


def draw_request(random: Random, known: Knowledge) -> Request:
    """A request, most often to an application, with credentials in some state, sometimes malformed."""
    host = _host(random, known)
    target = _target(random, known, host)
    host_lines = _host_lines(random, host)
    if random.random() < 0.04:
        form = random.choice(
            ("http://{}", "http://{}", "HTTP://{}", "https://{}", "ftp://{}", "http://u:p@{}", "http://")
        )
        target = form.format(host_lines[0][1] if host_lines else host) + target
    headers = [*_credentials(random, _token_header(random, known)), *_other_headers(random)]
    random.shuffle(headers)
    address = ip_address(random.choice(ADDRESSES))
    return Request(target, (*host_lines, *headers), address, random.choice(_METHODS))


def draw_requests(random: Random, known: Knowledge, count: int) -> list[Request]:
    """Requests in the order of one connection: about half of them repeat the one before, whole or but for one thing,
    as what a connection remembers of its last caller must never serve another."""
    asked: list[Request] = []
    while len(asked) < count:
        fresh = draw_request(random, known)
        asked.append(_mixed(random, asked[-1], fresh) if asked and random.random() < 0.5 else fresh)
    return asked


def draw_burst(random: Random, known: Knowledge, request: Request) -> list[Request]:
    """A client that repeats a request on its connection, to other paths of the host too, and then something that is
    not quite the same."""
    host = "".join(request.values("host")).partition(":")[0].lower()
    patterns = [parse_pattern(text) for app in known.apps.values() for text in app.patterns]
    near = [p.path.replace("*", "ab") or "/" for p in patterns if covers_host(p.host, host)] or ["/"]
    paths = [random.choice(near if random.random() < 0.6 else _PATHS[1:]) for _ in range(3)]
    elsewhere = [replace(request, target=path) for path in paths]
    last = replace(request, headers=tuple(_twisted(random, request.headers)), method=random.choice(("GET", "HEAD")))
    return [*[request] * random.randint(2, 4), *elsewhere, last, request, last]


def _twisted(random: Random, headers: tuple[Header, ...]) -> list[Header]:
    """The headers with one of them changed, doubled, gone, or exchanged for another use of the same name."""
    # What a trusted proxy says of the client stays as it is.
    fixed = [line for line in headers if line[0].lower().startswith("x-forwarded-")]
    lines = [line for line in headers if line not in fixed]
    at = random.randrange(len(lines)) if lines else 0
    match random.randrange(6):
        case 0:
            lines = [_mutated(random, line) if _is_credential(line) else line for line in lines]
        case 1 if lines:
            lines.insert(at, lines[at])
        case 2 if lines:
            del lines[at]
        case 3 if lines:
            name, value = lines[at]
            lines[at] = (name, random.choice(("", f"{value},", _upper(value), "true", GOOD_LOOKING_JSON)))
        case 4:
            lines = [(name, GOOD_LOOKING_JSON if name.lower() in TOKEN_HEADERS else value) for name, value in lines]
        case _:
            lines.append(random.choice((("Cf-Access-Metadata-Request", "true"), ("Cookie", "CF_Authorization=forged"))))
    return [*lines, *fixed]


def _upper(text: str) -> str:
    """Upper case, but for octets above ASCII."""
    return "".join(letter.upper() if letter.isascii() else letter for letter in text)


def _is_credential(line: Header) -> bool:
    return line[0].lower().startswith("cf-access-client")


def change_token(random: Random, number: int, now: datetime) -> TokenValue:
    """Token `number` in another random state."""
    return _token(random, number, now)


def _mixed(random: Random, last: Request, fresh: Request) -> Request:
    def is_host(line: Header) -> bool:
        return line[0].lower() == "host"

    hosts = [line for line in last.headers if is_host(line)]
    rest = [line for line in last.headers if not is_host(line)]
    match random.randrange(5):
        case 0:
            return last
        case 1:
            return replace(last, target=fresh.target, method=fresh.method)
        case 2:
            hosts = [line for line in fresh.headers if is_host(line)]
        case 3:
            rest = [line for line in fresh.headers if not is_host(line)]
        case _:
            rest = [_mutated(random, line) if _is_credential(line) else line for line in rest]
    return replace(last, headers=(*hosts, *rest))


def _mutated(random: Random, line: Header) -> Header:
    if random.random() < 0.5 or not line[1]:
        return line
    at = random.randrange(len(line[1]))
    return (line[0], line[1][:at] + random.choice("01aA") + line[1][at + 1 :])


def _token(random: Random, number: int, now: datetime) -> TokenValue:
    def away(*hours: int) -> int:
        return to_unix(now + timedelta(hours=random.choice(hours)))

    pepper = random.choice((1, 1, 1, 2))
    current = secret_version(number, 1, pepper=pepper)
    secrets: tuple[SecretVersion, ...] = (current,)
    if random.random() < 0.4:
        secrets = (
            SecretVersion(2, digest_of(secret_of(number, 2), 2), 2, None),
            SecretVersion(1, current.digest, pepper, away(-24, -1, 1, 24)),
        )
    return TokenValue(
        f"00000000-0000-4000-8000-{number:012x}",
        OTHER_ACCOUNT if random.random() < 0.1 else ACCOUNT,
        random.random() < 0.9,
        random.choice((None, None, None, None, away(1, 24), away(1, 24), away(-1, -24))),
        secrets,
    )


def _apps(random: Random) -> dict[str, AppValue]:
    taken: set[str] = set()
    apps = {}
    for number in range(random.randint(1, 12)):
        drawn = {_pattern(random) for _ in range(random.choice((1, 1, 1, 2, 3)))}
        patterns = tuple(sorted(drawn - taken))
        taken |= drawn
        if patterns:
            apps[f"{number:08x}-0000-4000-8000-000000000000"] = AppValue(
                account_id=OTHER_ACCOUNT if random.random() < 0.1 else ACCOUNT,
                aud=f"{number:064x}",
                name=f"app {number}",
                domain=patterns[0],
                patterns=patterns,
                no_credentials_status=random.choice((401, 403)),
                token_header=random.choice(("", "", *TOKEN_HEADERS)),
                policies=_policies(random, number),
            )
    return apps


def _pattern(random: Random) -> str:
    path = ""
    for _ in range(random.choice((0, 0, 0, 0, 1, 1, 2, 3))):
        path += "/" + random.choice(_SEGMENTS if random.random() < 0.6 else _WILD_SEGMENTS)
    return parse_pattern(random.choice(_HOST_PATTERNS) + path).text


def _policies(random: Random, app: int) -> tuple[PolicyValue, ...]:
    decisions = ("non_identity", "non_identity", "non_identity", "bypass", "deny")
    count = random.choice((0, 1, 1, 2, 2, 3, 5))
    drawn = [(random.choice(decisions), _rule(random, 2)) for _ in range(count)]
    if random.random() < 0.4:
        drawn.insert(random.randint(0, count), ("non_identity", Rule((ANY_TOKEN,))))
    return tuple(
        policy(f"{app:08x}-0000-4000-8000-{number:012x}", decision, what, seconds=random.choice((60, 3600, 86400)))
        for number, (decision, what) in enumerate(drawn)
    )


def _rule(random: Random, depth: int) -> Rule:
    def some(*counts: int) -> tuple[Selector, ...]:
        return tuple(_selector(random, depth) for _ in range(random.choice(counts)))

    return Rule(some(0, 1, 1, 1, 2, 2, 3), some(0, 0, 0, 0, 0, 1, 2), some(0, 0, 0, 0, 0, 1, 2))


def _selector(random: Random, depth: int) -> Selector:
    kind = random.random()
    if kind < 0.3:
        return ANY_TOKEN
    if kind < 0.5:
        return TokenSelector(client_id(random.randint(1, TOKENS)))
    if kind < 0.65:
        return EVERYONE
    if kind < 0.85 or depth == 0:
        return IpSelector(random.choice(NETWORKS))
    return GroupSelector(_rule(random, depth - 1))


def _ingresses(random: Random) -> dict[str, IngressValue]:
    names = [name for name in (*_HOSTS, "*.app.test", "*.test", "*.free.test", "*.y.app.test") if random.random() < 0.8]
    return {name: ingress(name, account=OTHER_ACCOUNT if random.random() < 0.15 else ACCOUNT) for name in names}


def _host(random: Random, known: Knowledge) -> str:
    if not known.apps or random.random() < 0.12:
        return random.choice((*_HOSTS, *AUTH_DOMAINS.values()))
    pattern = parse_pattern(random.choice(random.choice(list(known.apps.values())).patterns))
    return pattern.host.replace("*", random.choice(("b", "dev-1", "1", "x.y")))


def _target(random: Random, known: Knowledge, host: str) -> str:
    kind = random.random()
    if kind < 0.55 and known.apps:
        pattern = parse_pattern(random.choice(random.choice(list(known.apps.values())).patterns))
        path = pattern.path.replace("*", random.choice(("a", "x", "ab", ""))) + random.choice(("", "", "/", "/x", "x"))
    elif kind < 0.88:
        path = random.choice(_PATHS)
    else:
        path = random.choice(_ODD_PATHS)
    return (path or "/") + random.choice(_QUERIES)


def _host_lines(random: Random, host: str) -> tuple[Header, ...]:
    kind = random.random()
    if kind < 0.9:
        return (("Host", host),)
    if kind < 0.98:
        return (("Host", random.choice(_ODD_HOSTS).format(host=random.choice((host, host.upper())))),)
    return random.choice(((), (("Host", host), ("host", host.upper())), (("Host", host), ("Host", "app.test"))))


def _token_header(random: Random, known: Knowledge) -> str:
    used = [app.token_header for app in known.apps.values() if app.token_header]
    return random.choice(used or TOKEN_HEADERS)


def _credentials(random: Random, own_header: str) -> list[Header]:
    number = random.choice((*range(1, TOKENS + 1), UNKNOWN_TOKEN))
    one, other = client_id(number), secret_of(number, random.choice((1, 1, 1, 1, 1, 1, 2, 2, 3)))
    kind = random.random()
    if kind < 0.12:
        return []
    if kind < 0.7:
        return [("CF-Access-Client-Id", one), ("CF-Access-Client-Secret", other)]
    if kind < 0.82:
        return [(own_header, _json(random, one, other))]
    return _odd_pair(random, one, other, own_header)


def _odd_pair(random: Random, one: str, other: str, own_header: str) -> list[Header]:
    first, second = ("CF-Access-Client-Id", one), ("CF-Access-Client-Secret", other)
    own = (own_header, _json(random, one, other))
    return random.choice(
        (
            [first],
            [second],
            [first, first, second],
            [first, second, second],
            [first, second, (second[0], "")],
            [(first[0], ""), second],
            [first, (second[0], "")],
            [(first[0], ""), (second[0], "")],
            [(first[0], f"{one}, {one}"), second],
            [first, (second[0], f"{other},{other}")],
            [first, second, own],
            [first, own],
            [own, own],
            [own, (own[0], "Bearer x")],
            [first, second, (own_header, "Bearer x")],
            [first, second, own],
            [first, second, ("Authorization", "Basic x"), ("Authorization", "Basic y")],
            [("Authorization", "Bearer x")],
            [("Authorization", "")],
            [(first[0].lower(), f" \t{one}"), (second[0].upper(), f"{other} ")],
            [(first[0], _upper(one)), second],
            [(first[0], one.removesuffix(".access")), second],
            [(first[0], f"{one}|x"), second],
            [(first[0], "x"), second],
            [first, (second[0], "****")],
            [first, (second[0], "[REDACTED]")],
            [first, (second[0], other[:-1])],
            [first, (second[0], other.lower())],
            [first, (second[0], "\xff\xfe")],
            [(first[0], "\xc3\xa4"), second],
            [("CF_Access_Client_Id", one), ("CF_Access_Client_Secret", other)],
        )
    )


def _json(random: Random, one: str, other: str) -> str:
    good = json.dumps({"cf-access-client-id": one, "cf-access-client-secret": other})
    if random.random() < 0.6:
        return good
    return random.choice(
        (
            good.replace("cf-access-client-id", "CF-Access-Client-ID"),
            good.replace(" ", ""),
            good.replace(":", " :\t"),
            good.replace(".access", r"\u002eaccess"),
            good.replace("cf-access-client-id", r"cf\u002daccess-client-id"),
            good.replace("cfast_", r"cfast\u005F"),
            "{}",
            "{",
            "{x",
            good + "x",
            good + good,
            f"{good}, {good}",
            good[:-1],
            good.replace("client-secret", "client-key"),
            good[:-1] + ', "more": "x"}',
            good[:-1] + f', "cf-access-client-id": "{one}"}}',
            good[:-1] + f', "CF-Access-Client-Secret": "{other}"}}',
            good.replace(f'"{other}"', '""'),
            good.replace(f'"{one}"', '""'),
            good.replace(f'"{other}"', "null"),
            good.replace(f'"{other}"', "7"),
            good.replace(f'"{other}"', f'["{other}"]'),
            good.replace(f'"{other}"', f'{{"a": "{other}"}}'),
            good.replace(other, f"{other},"),
            good.replace(other, f"{other} "),
            good.replace(other, f"{other}\\n"),
            good.replace(other, f"{other}\t"),
            good.replace(other, "\xc3\xa4"),
            good.replace(other, "\xff"),
            good.replace(other, r"\ud800"),
            good.replace(other, r"\ud83d\ude00"),
            good.replace(other, r"\q"),
            good.replace('"', "'"),
            good[:-1] + ",}",
            f"[{good}]",
            f"Bearer {good}",
        )
    )


def _other_headers(random: Random) -> list[Header]:
    lines = []
    if random.random() < 0.25:
        lines = random.sample(
            [
                ("Cf-Access-Jwt-Assertion", "forged"),
                ("Cf-Access-Token", "forged"),
                ("Cookie", "a=b; CF_Authorization=forged; c=d"),
                ("Cookie", "CF_Authorization=forged"),
                ("Cf-Access-Authenticated-User-Email", "forged@example.com"),
                ("Cf-Connecting-Ip", "203.0.113.66"),
                ("Cf-Ray", "forgedforgedforg"),
                ("X-Forwarded-For", "203.0.113.66"),
                ("X-Forwarded-Proto", "forged"),
                ("X-Request", "kept"),
                ("Cf-Access-Metadata-Request", "true"),
                ("Cf-Access-Metadata-Request", "false"),
                ("Authorization", "Bearer x"),
                ("X-Machine", "y"),
            ],
            random.randint(1, 4),
        )
    if random.random() < 0.3:
        lines.append(("Accept", random.choice(("application/json", "text/html", "*/*"))))
    return lines
