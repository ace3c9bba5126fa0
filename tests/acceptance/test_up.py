"""`foregate up`, driven from outside as a user does: ready, a line that works, a clean end, one supervisor per home."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloudflare import Cloudflare

from harness.leftovers import assert_nothing_left
from harness.product import Foregate, running_foregate
from harness.waiting import until

SECONDS = 30


@pytest.fixture(scope="module")
def product() -> Iterator[Foregate]:
    with running_foregate() as started:
        yield started


def said(product: Foregate) -> str:
    return product.output.read_text()


def curl_lines(product: Foregate) -> list[str]:
    """The lines of the last start."""
    last = said(product).rpartition("ready after")[2]
    return [line.strip() for line in last.splitlines() if line.strip().startswith("curl ")]


def run_line(line: str) -> subprocess.CompletedProcess[str]:
    """A printed line, as it stands, in a shell."""
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_the_printed_lines_work_as_they_stand(product: Foregate) -> None:
    lines = curl_lines(product)
    assert [re.search(r"(https?)://", line)[1] for line in lines] == ["http", "https"]  # type: ignore[index]
    for line in lines:
        done = run_line(line)
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert shown["method"] == "GET"
        assert shown["identity"]["common_name"].endswith(".access")
        assert not {name for name in shown["headers"] if name.startswith("cf-access-client")}


def test_the_printed_lines_hold_no_secret(product: Foregate) -> None:
    assert "cfast_" not in said(product)
    assert "cfat_" not in said(product)


def test_without_the_token_nobody_is_let_in(product: Foregate) -> None:
    line = re.sub(r" -H \S+", " -o /dev/null -s -w '%{http_code}'", curl_lines(product)[0])
    assert run_line(line).stdout == "403"


def test_everything_in_the_home_is_private(product: Foregate) -> None:
    for path in (product.home, *product.home.rglob("*")):
        if path.is_symlink() or path.is_socket():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path.relative_to(product.home)} is {mode:o}"


def test_status_says_ready_and_names_the_processes(product: Foregate) -> None:
    done = product.run("status", "--json")
    status = json.loads(done.stdout)
    assert done.returncode == 0
    assert (status["running"], status["ready"], status["problem"]) == (True, True, "")
    assert product.supervisor is not None and status["pid"] == product.supervisor.pid
    assert {process["name"]: process["state"] for process in status["processes"]} == dict.fromkeys(
        ("api", "worker", "edge", "echo"), "ready"
    )


def test_status_is_for_people_too(product: Foregate) -> None:
    text = product.run("status").stdout.decode()
    assert re.search(r"state +ready", text)
    assert str(product.home) in text


def test_doctor_finds_nothing_wrong(product: Foregate) -> None:
    done = product.run("doctor", "--json")
    assert [finding for finding in json.loads(done.stdout) if not finding["good"]] == []
    assert done.returncode == 0


def test_env_is_what_the_official_sdk_needs(product: Foregate) -> None:
    lines = product.run("env").stdout.decode().splitlines()
    exported = {}
    for line in lines:
        name, _, value = line.removeprefix("export ").partition("=")
        exported[name] = shlex.split(value)[0]
    assert set(exported) == {
        "CLOUDFLARE_BASE_URL",
        "CLOUDFLARE_API_TOKEN",
        "CLOUDFLARE_ACCOUNT_ID",
        "FOREGATE_EDGE_URL",
        "FOREGATE_EDGE_HTTPS_URL",
        "FOREGATE_CA_FILE",
        "FOREGATE_AUTH_DOMAIN",
    }
    client = Cloudflare(base_url=exported["CLOUDFLARE_BASE_URL"], api_token=exported["CLOUDFLARE_API_TOKEN"])
    tokens = client.zero_trust.access.service_tokens.list(account_id=exported["CLOUDFLARE_ACCOUNT_ID"])
    assert [token.name for token in tokens] == ["demo"]
    assert Path(exported["FOREGATE_CA_FILE"]).read_text().startswith("-----BEGIN CERTIFICATE-----")


def in_another_terminal(product: Foregate, *arguments: str, **own: str) -> subprocess.CompletedProcess[str]:
    """A command that has the home from its environment, and nothing of the ports."""
    kept = {name: value for name, value in product.environment.items() if not name.endswith("_PORT")}
    command = [sys.executable, "-m", "foregate", *arguments]
    return subprocess.run(
        command, env={**kept, **own}, capture_output=True, text=True, timeout=SECONDS, cwd="/", check=False
    )


def test_another_terminal_finds_the_ports_that_up_was_given(product: Foregate) -> None:
    exported = in_another_terminal(product, "env")
    assert exported.stderr == ""
    for port in (product.api_port, product.http_port, product.https_port):
        assert f":{port}" in exported.stdout
    assert in_another_terminal(product, "token", "list").returncode == 0
    assert in_another_terminal(product, "doctor").returncode == 0


def test_own_environment_of_another_terminal_goes_first_and_the_difference_is_told(product: Foregate) -> None:
    done = in_another_terminal(product, "env", FOREGATE_API_PORT="1")
    assert "http://127.0.0.1:1/client/v4" in done.stdout
    assert f":{product.http_port}" in done.stdout
    assert done.stderr == (
        f"FOREGATE_API_PORT is 1 here, and {product.api_port} for the Foregate that runs in {product.home}.\n"
    )
    assert in_another_terminal(product, "token", "list", FOREGATE_API_PORT="1").returncode == 5


def test_the_printed_hint_works_as_it_stands_in_any_folder(product: Foregate) -> None:
    (hint,) = re.findall(r"CLI: (eval .*)\. Ctrl-C", said(product).rpartition("ready after")[2])
    command = ["bash", "-c", f'{hint}; echo "$CLOUDFLARE_BASE_URL"']
    bare = {"PATH": "/usr/bin:/bin", "HOME": "/"}
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=SECONDS, cwd="/", check=False)
    assert done.stdout.strip() == product.base_url, done.stderr


def test_a_second_up_says_who_holds_the_home(product: Foregate) -> None:
    done = product.run("up")
    assert product.supervisor is not None
    assert done.returncode == 1
    said = done.stderr.decode()
    assert f"process {product.supervisor.pid}, since 2" in said
    assert said.count("\n") == 1
    assert product.run("status").returncode == 0


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        environment = {**os.environ, "FOREGATE_HOME": str(tmp_path / "home"), "FOREGATE_API_PORT": str(port)}
        command = [sys.executable, "-m", "foregate", "up"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        f"Port {port} is taken by process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()}); "
        "free it or set FOREGATE_API_PORT to another port."
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_ends_cleanly_and_the_line_works_again_at_the_next_start(number: signal.Signals) -> None:
    with running_foregate() as product:
        before = curl_lines(product)
        for _ in range(2):
            assert product.supervisor is not None
            product.supervisor.send_signal(number)
            assert product.supervisor.wait(SECONDS) == 0
            assert_nothing_left(product)
            product.start()
            assert curl_lines(product) == before
            assert run_line(before[0]).returncode == 0


def test_two_homes_run_side_by_side(product: Foregate) -> None:
    with running_foregate() as other:
        assert json.loads(run_line(curl_lines(product)[0]).stdout)["identity"]
        shown = json.loads(run_line(curl_lines(other)[0]).stdout)
        assert shown["identity"]["iss"] == "https://auth.localhost"
        assert other.admin_token != product.admin_token


def test_it_ends_while_it_is_still_starting(tmp_path: Path) -> None:
    with running_foregate() as product:
        product.stop()
        process = subprocess.Popen([sys.executable, "-m", "foregate", "up"], env=product.environment, cwd="/")
        until(lambda: product.processes("api"), SECONDS, "the API process is there")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert_nothing_left(product)
