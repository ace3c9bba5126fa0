"""Settings come from the environment and the home's file, and a wrong one is named."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path

import pytest

from foregate.core.errors import ErrorCode, ForegateError
from foregate.services.settings import EXPORTED, SETTINGS, find_home, load, to_environment

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_defaults_are_those_of_the_quickstart(tmp_path: Path) -> None:
    settings = load({"FOREGATE_HOME": str(tmp_path)})
    assert (settings.bind, settings.api_port, settings.http_port, settings.https_port) == (
        "127.0.0.1",
        8400,
        8480,
        8443,
    )
    assert settings.api_url == "http://127.0.0.1:8400"
    assert settings.team == "auth.localhost"
    assert settings.spool_max_bytes == 1024**3
    assert not settings.allow_plain_http


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "foregate.toml").write_text('api_port = 9000\nhttp_port = 9001\ntrusted_proxies = ["10.0.0.0/8"]\n')
    settings = load({"FOREGATE_HOME": str(tmp_path), "FOREGATE_API_PORT": "9500"})
    assert (settings.api_port, settings.http_port) == (9500, 9001)
    assert settings.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FOREGATE_BIND", "localhost"),
        ("FOREGATE_BIND", ""),
        ("FOREGATE_API_PORT", "0"),
        ("FOREGATE_API_PORT", "65536"),
        ("FOREGATE_API_PORT", "-1"),
        ("FOREGATE_API_PORT", "8400.0"),
        ("FOREGATE_API_PORT", "٨٤٠٠"),
        ("FOREGATE_HAPROXY", ""),
        ("FOREGATE_EDGE_THREADS", "0"),
        ("FOREGATE_EDGE_THREADS", "many"),
        ("FOREGATE_EDGE_USER", "no body"),
        ("FOREGATE_ALLOW_PLAIN_HTTP", "perhaps"),
        ("FOREGATE_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("FOREGATE_PROXY_PROTOCOL", "everywhere"),
        ("FOREGATE_SPOOL_MAX_BYTES", "1"),
        ("FOREGATE_SPOOL_MAX_BYTES", "1 GB"),
        ("FOREGATE_EVENTS_MAX_AGE", "30 days"),
        ("FOREGATE_EVENTS_MAX_AGE", "10s"),
        ("FOREGATE_TEAM", "Auth.localhost"),
        ("FOREGATE_TEAM", "auth..localhost"),
        ("FOREGATE_UNHEARD_OF", "1"),
    ],
)
def test_a_wrong_or_unknown_setting_is_refused_by_name(tmp_path: Path, variable: str, text: str) -> None:
    with pytest.raises(ForegateError, match=variable) as caught:
        load({"FOREGATE_HOME": str(tmp_path), variable: text})
    assert caught.value.code is ErrorCode.INVALID_INPUT


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("api_port = true", "api_port"),
        ("bind = 1", "bind"),
        ('home = "/tmp"', "home"),
        ("unheard_of = 1", "unheard_of"),
        ("not toml", "foregate.toml"),
        ("trusted_proxies = [1]", "trusted_proxies"),
        ("events_max_age = 30", "events_max_age"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "foregate.toml").write_text(content)
    with pytest.raises(ForegateError, match=named):
        load({"FOREGATE_HOME": str(tmp_path)})


def test_two_equal_ports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ForegateError, match="FOREGATE_API_PORT and FOREGATE_HTTP_PORT"):
        load({"FOREGATE_HOME": str(tmp_path), "FOREGATE_API_PORT": "8480"})


def test_settings_survive_the_way_through_a_childs_environment(tmp_path: Path) -> None:
    settings = load(
        {
            "FOREGATE_HOME": str(tmp_path),
            "FOREGATE_BIND": "::1",
            "FOREGATE_HAPROXY": "/opt/haproxy",
            "FOREGATE_TRUSTED_PROXIES": "10.0.0.0/8, 2001:db8::/32",
            "FOREGATE_EVENTS_MAX_AGE": "90m",
            "FOREGATE_SPOOL_MAX_BYTES": "64MiB",
            "FOREGATE_ALLOW_PLAIN_HTTP": "yes",
        }
    )
    assert load(to_environment(settings)) == settings
    assert settings.events_max_age == timedelta(minutes=90)
    assert settings.api_url == "http://[::1]:8400"


def test_the_api_stays_on_loopback_unless_plain_http_is_allowed(tmp_path: Path) -> None:
    open_to_all = {"FOREGATE_HOME": str(tmp_path), "FOREGATE_BIND": "0.0.0.0"}
    assert load(open_to_all).api_host == "127.0.0.1"
    allowed = load(open_to_all | {"FOREGATE_ALLOW_PLAIN_HTTP": "true"})
    assert (allowed.api_host, allowed.api_url) == ("0.0.0.0", "http://127.0.0.1:8400")


def test_what_env_exports_can_stay_in_the_environment(tmp_path: Path) -> None:
    assert load({"FOREGATE_HOME": str(tmp_path)} | dict.fromkeys(EXPORTED, "x")).home == tmp_path


def test_without_a_setting_the_home_of_this_folder_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nonexistent")
    assert find_home({}) == Path("/nonexistent/.foregate")
    (tmp_path / ".foregate").mkdir()
    assert find_home({}) == tmp_path / ".foregate"


def test_the_reference_page_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(FOREGATE_[A-Z_]+)` \| (.*?) ?\| (.*?) \|$", REFERENCE.read_text(), re.MULTILINE)
    shown = {name: (default.strip("`"), meaning) for name, default, meaning in rows if name != "FOREGATE_HOME"}
    assert shown == {setting.variable: (setting.shown_default, setting.help) for setting in SETTINGS}
