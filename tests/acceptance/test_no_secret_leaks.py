"""A full run, with all that makes a program talk, and then a search for every secret, digest and key.

Nothing may be found, save in the home's own key files. The search itself is tested too: it must find what is put there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.leaks import assert_nothing_leaked, leaks_of
from harness.origin import Origin
from harness.processes import kill
from harness.product import Foregate, running_foregate
from harness.things import Token, allow, create_app, create_token, until_status
from harness.waiting import until

TOKENS = "/access/service_tokens"


@pytest.fixture(scope="module")
def talkative(origin: Origin) -> Iterator[Foregate]:
    """A Foregate that has been through much: every kind of answer, bad input, deaths, a restart."""
    with running_foregate() as foregate:
        api = foregate.api()
        tokens = [create_token(api) for _ in range(3)]
        app = create_app(foregate, origin.service, [allow()], read_service_tokens_from_header="Authorization")
        for token in tokens:
            until_status(foregate, app.host, token, 200)
        rotated = api.result("POST", f"{TOKENS}/{tokens[0].id}/rotate", {})
        until_status(foregate, app.host, tokens[0].with_secret(rotated["client_secret"]), 200)
        api.result("POST", "/access/keys/rotate")
        api.result("DELETE", f"{TOKENS}/{tokens[1].id}")
        misuse_at_the_edge(foregate, app.host, tokens)
        misuse_at_the_api(foregate, tokens)
        use_the_command_line(foregate)
        for name in ("api", "worker", "edge", "haproxy"):
            for process in foregate.processes(name):
                kill(process)
            until(lambda name=name: foregate.processes(name), 10, f"{name} is back", every=0.05)
        until_status(foregate, app.host, tokens[2], 200)
        assert foregate.stop() == 0
        foregate.start()
        until_status(foregate, app.host, tokens[2], 200)
        yield foregate


def misuse_at_the_edge(foregate: Foregate, host: str, tokens: list[Token]) -> None:
    """Good secrets where they do not belong."""
    token = tokens[2]
    odd = (
        [*token.headers, *token.headers],
        [("CF-Access-Client-Id", token.secret), ("CF-Access-Client-Secret", token.client_id)],
        [("CF-Access-Client-Secret", token.secret)],
        [("Authorization", f'{{"cf-access-client-id":"{token.client_id}","cf-access-client-secret":"{token.secret}')],
        [("Authorization", f"Bearer {token.secret}")],
        [("Cookie", f"CF_Authorization={token.secret}")],
        [("User-Agent", token.secret), ("Referer", f"http://{host}/{token.secret}")],
    )
    for headers in odd:
        foregate.get(host, f"/?secret={token.secret}", headers)
    with foregate.connect() as connection:
        connection.exchange(f"GET / HTTP/1.1\r\nHost: {host}\r\nBad {token.secret}\r\n\r\n".encode())


def misuse_at_the_api(foregate: Foregate, tokens: list[Token]) -> None:
    """Secrets in paths, queries and bodies of calls that are refused."""
    api, secret = foregate.api(), tokens[2].secret
    for method, path, body in (
        ("POST", TOKENS, {"name": "n", "client_secret": secret}),
        ("POST", TOKENS, {"name": "n", "duration": secret}),
        ("POST", TOKENS, {"name": "n", secret: 1}),
        ("POST", TOKENS, [secret]),
        ("PUT", f"{TOKENS}/{tokens[2].id}", {"client_secret": secret}),
        ("POST", "/access/policies", {**allow(), "include": [{"service_token": {"token_id": secret}}]}),
    ):
        answer = api.account(method, path, body)
        assert answer.status == 400
        assert secret.encode() not in answer.body
    for headers in ({"Authorization": f"Bearer {secret}"}, {"Authorization": f"Basic {secret}"}):
        assert api.account("GET", TOKENS, headers=headers).status in (400, 401)


def use_the_command_line(foregate: Foregate) -> None:
    """Commands that a person tries, right and wrong. Only `token create` and `rotate` may print a secret."""
    shown = foregate.run("token", "create", "by command", "--json")
    assert shown.returncode == 0, shown.stderr
    foregate.issued.append(json.loads(shown.stdout)["client_secret"])
    assert foregate.issued[-1].encode() not in shown.stderr
    for arguments in (
        ("status", "--json"),
        ("doctor", "--json"),
        ("token", "list", "--json"),
        ("events", "tail", "--json"),
        ("edge", "list", "--json"),
        ("token", "show", "nobody"),
    ):
        done = foregate.run(*arguments)
        for secret in foregate.issued:
            assert secret.encode() not in done.stdout + done.stderr, arguments[0]


def test_no_secret_digest_or_key_appears_in_a_log_an_event_an_error_a_page_or_an_answer(talkative: Foregate) -> None:
    assert len(talkative.issued) >= 4
    assert_nothing_leaked(talkative)


def test_files_of_the_home_are_private(talkative: Foregate) -> None:
    for path in [talkative.home, *talkative.home.rglob("*")]:
        mode = path.lstat().st_mode & 0o777
        assert mode & 0o077 == 0, f"{path.relative_to(talkative.home)} has mode {mode:o}"


PLANTED = ("a secret", "a digest", "a key")


@pytest.mark.parametrize("what", PLANTED)
def test_search_finds_what_is_planted(talkative: Foregate, what: str) -> None:
    planted = talkative.home / "logs" / "planted.log"
    planted.write_bytes(plant(talkative, what))
    try:
        assert [line for line in leaks_of(talkative) if line.startswith("logs/planted.log")]
    finally:
        planted.unlink()


def plant(foregate: Foregate, what: str) -> bytes:
    from foregate.core.masterkey import load
    from foregate.core.secrets import Secret, digest_secret

    master = load(foregate.home / "master.key")
    secret = foregate.issued[0]
    match what:
        case "a secret":
            return secret.encode()
        case "a digest":
            return digest_secret(Secret(secret), master.pepper(1), 1).value.hex().encode()
        case _:
            return Path(foregate.home / "master.key").read_bytes()
