"""The program as a whole: it loads little, explains itself, and answers wrong usage with one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

SECONDS = 30


def foregate(*arguments: str, home: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOREGATE_", "CLOUDFLARE_"))}
    given = {**kept, **environment, **({"FOREGATE_HOME": str(home)} if home else {})}
    command = [sys.executable, "-m", "foregate", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_help_lists_every_command() -> None:
    done = foregate("--help")
    assert done.returncode == 0
    for name in (
        "up",
        "api",
        "worker",
        "env",
        "status",
        "doctor",
        "token",
        "app",
        "policy",
        "ingress",
        "events",
        "edge",
    ):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize(
    "group",
    [(), *((name,) for name in ("token", "app", "policy", "ingress", "events", "edge", "change", "keys", "api-token"))],
)
def test_help_breaks_off_no_sentence(group: tuple[str, ...]) -> None:
    usage, _, rest = foregate(*group, "--help", COLUMNS="80").stdout.partition("\n")
    assert usage.startswith("Usage: ")
    assert "..." not in rest


def test_version_is_told() -> None:
    done = foregate("--version")
    assert (done.returncode, done.stdout) == (0, f"foregate {version('foregate')}\n")


@pytest.mark.parametrize("arguments", [("nothing",), ("token", "create"), ("change", "show", "zero"), ("up", "--fast")])
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = foregate(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_one_sentence(tmp_path: Path) -> None:
    done = foregate("up", home=tmp_path, FOREGATE_API_PORT="none")
    assert done.returncode == 2
    assert done.stderr == "foregate: FOREGATE_API_PORT must be a port from 1 to 65535.\n"


def test_without_a_home_there_is_nobody_to_reach(tmp_path: Path) -> None:
    done = foregate("token", "list", home=tmp_path)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1


def test_an_api_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    done = foregate(
        "token",
        "list",
        home=tmp_path,
        CLOUDFLARE_BASE_URL="http://127.0.0.1:1/client/v4",
        CLOUDFLARE_API_TOKEN="cfat_x",
        CLOUDFLARE_ACCOUNT_ID="a" * 32,
    )
    assert done.returncode == 5
    assert "cfat_x" not in done.stderr + done.stdout


def test_status_of_nothing_is_not_ready(tmp_path: Path) -> None:
    done = foregate("status", home=tmp_path)
    assert done.returncode == 1
    assert "not running" in done.stdout


def test_env_before_the_first_start_says_what_to_do(tmp_path: Path) -> None:
    done = foregate("env", home=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "foregate up" in done.stderr


def test_doctor_works_before_the_first_start(tmp_path: Path) -> None:
    done = foregate("doctor", home=tmp_path / "home", FOREGATE_API_PORT="18471")
    assert "HAProxy" in done.stdout
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("foregate tok", "token"),
        ("foregate token re", "refresh\nrevoke"),
        ("foregate token create --dur", "--duration"),
    ],
)
def test_the_shell_completes_commands_and_options(words: str, completed: str) -> None:
    place = str(len(words.split()) - 1)
    done = foregate(_FOREGATE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert done.stdout.strip() == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_can_be_shown(shell: str) -> None:
    done = foregate("completion", shell)
    assert done.returncode == 0
    assert f"complete_{shell}" in done.stdout


def test_a_command_loads_next_to_nothing_before_it_runs() -> None:
    """What makes a command start slowly is what it imports."""
    heavy = ("sqlalchemy", "fastapi", "pydantic", "uvicorn", "alembic", "jinja2", "cryptography", "rich", "structlog")
    looks = f"import sys, foregate.cli.main; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.split() == []
