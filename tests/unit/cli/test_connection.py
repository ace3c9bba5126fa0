"""A command talks to what `foregate env` exported, else to the home; a token meant for Cloudflare stays there."""

from __future__ import annotations

from pathlib import Path

import pytest

from foregate.cli.connection import connect
from foregate.cli.exits import ExitCode, Failure
from foregate.services.home import Facts, open_home, write_facts

EXPORTED = {
    "CLOUDFLARE_BASE_URL": "http://127.0.0.1:9/client/v4",
    "CLOUDFLARE_API_TOKEN": "cfat_exported",
    "CLOUDFLARE_ACCOUNT_ID": "b" * 32,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = open_home(tmp_path / "home")
    write_facts(home, Facts("a" * 32, "edge-1"))
    home.admin_token.write_text("cfat_home\n")
    home.admin_token.chmod(0o600)
    return home.root


def test_the_environment_goes_first(home: Path) -> None:
    client = connect({"FOREGATE_HOME": str(home), **EXPORTED})
    assert (client.base_url, client.account_id) == (EXPORTED["CLOUDFLARE_BASE_URL"], "b" * 32)


def test_without_it_the_home_is_used(home: Path) -> None:
    client = connect({"FOREGATE_HOME": str(home), "FOREGATE_API_PORT": "9400"})
    assert (client.base_url, client.account_id) == ("http://127.0.0.1:9400/client/v4", "a" * 32)


def test_a_token_for_cloudflare_alone_is_not_sent_here(home: Path) -> None:
    client = connect({"FOREGATE_HOME": str(home), "CLOUDFLARE_API_TOKEN": "cfut_real", "CLOUDFLARE_ACCOUNT_ID": "c"})
    assert client.account_id == "a" * 32


@pytest.mark.parametrize("name", ["CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID"])
def test_half_an_environment_is_refused(home: Path, name: str) -> None:
    with pytest.raises(Failure, match=name) as caught:
        connect({"FOREGATE_HOME": str(home), **EXPORTED, name: ""})
    assert caught.value.code is ExitCode.USAGE


def test_a_base_url_that_is_none_is_refused(home: Path) -> None:
    with pytest.raises(Failure, match="must be a URL"):
        connect({"FOREGATE_HOME": str(home), **EXPORTED, "CLOUDFLARE_BASE_URL": "localhost"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLOUDFLARE_API_TOKEN", "cfat_two\nlines"),
        ("CLOUDFLARE_API_TOKEN", "cfat_two words"),
        ("CLOUDFLARE_API_TOKEN", "cfat_\u00e4"),
        ("CLOUDFLARE_ACCOUNT_ID", "../" + "b" * 29),
        ("CLOUDFLARE_ACCOUNT_ID", "b b"),
    ],
)
def test_malformed_environment_is_named_and_not_repeated(home: Path, name: str, value: str) -> None:
    with pytest.raises(Failure, match=name) as caught:
        connect({"FOREGATE_HOME": str(home), **EXPORTED, name: value})
    assert caught.value.code is ExitCode.USAGE
    assert value not in str(caught.value)


def test_before_the_first_start_there_is_nobody_to_talk_to(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="foregate up") as caught:
        connect({"FOREGATE_HOME": str(tmp_path)})
    assert caught.value.code is ExitCode.UNREACHABLE
