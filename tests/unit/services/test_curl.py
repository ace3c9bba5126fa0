"""The printed lines hold paths, never a secret, and say the address where curl would not find it."""

from __future__ import annotations

from pathlib import Path

import pytest

from foregate.services.curl import curl_lines
from foregate.services.home import Home
from foregate.services.settings import load


def lines(home: Path, **settings: str) -> list[str]:
    environment = {f"FOREGATE_{name.upper()}": value for name, value in settings.items()}
    return curl_lines(load({"FOREGATE_HOME": str(home), **environment}), Home(home))


def test_on_loopback_there_is_a_line_for_http_and_one_for_https(tmp_path: Path) -> None:
    http, https = lines(tmp_path)
    assert http == f"curl -H @{tmp_path}/demo/token http://echo.localhost:8480/"
    assert https == f"curl --cacert {tmp_path}/edge/ca/ca.pem -H @{tmp_path}/demo/token https://echo.localhost:8443/"


def test_on_a_network_plain_http_is_not_shown_unless_it_is_served(tmp_path: Path) -> None:
    assert [line.rpartition(" ")[2] for line in lines(tmp_path, bind="192.0.2.5")] == ["https://echo.localhost:8443/"]
    assert len(lines(tmp_path, bind="192.0.2.5", allow_plain_http="true")) == 2


@pytest.mark.parametrize(
    ("bind", "resolve"),
    [
        ("192.0.2.5", "--resolve echo.localhost:8443:192.0.2.5 "),
        ("2001:db8::1", "--resolve echo.localhost:8443:[2001:db8::1] "),
        ("0.0.0.0", ""),
    ],
)
def test_curl_is_told_an_address_it_would_not_find(tmp_path: Path, bind: str, resolve: str) -> None:
    assert lines(tmp_path, bind=bind)[-1].startswith(f"curl {resolve}--cacert")


def test_a_path_with_blanks_is_quoted(tmp_path: Path) -> None:
    http, _ = lines(tmp_path / "a home")
    assert http == f"curl -H '@{tmp_path}/a home/demo/token' http://echo.localhost:8480/"
