"""Every command in the docs runs as written, on a real product: each guide's `sh` blocks in order, and its Python."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.joined import running_control_plane
from harness.origin import Origin
from harness.product import Foregate
from harness.things import create_token, unique, until_status

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "quickstart.md", *sorted((DOCS / "how-to").glob("*.md")), *sorted((DOCS / "operations").glob("*.md"))]


def blocks_of(text: str, language: str) -> list[str]:
    """The contents of the text's blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def shell_blocks(text: str) -> list[str]:
    """`console` blocks show a session and are not run."""
    return blocks_of(text, "sh")


GUIDES = [page for page in PAGES if shell_blocks(page.read_text())]


@pytest.fixture
def reader(request: pytest.FixtureRequest, guide: Path) -> Iterator[Foregate]:
    """The product that a guide is about: with a feed port where it asks for one."""
    if "FOREGATE_FEED_BIND" not in guide.read_text():
        yield request.getfixturevalue("foregate")
        return
    with running_control_plane() as (foregate, _):
        yield foregate


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_guide_runs_as_written(reader: Foregate, guide: Path, tmp_path: Path) -> None:
    foregate, blocks = reader, shell_blocks(guide.read_text())
    # The checkout as the reader has it: `. .venv/bin/activate` finds the environment that runs this test.
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    prologue = 'set -eu\nexport FOREGATE_HOME\n. .venv/bin/activate\neval "$(foregate env)"\n'
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", prologue + "\n".join(blocks)],
        env={**foregate.environment, "PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def test_python_with_the_official_sdk_runs_as_written(foregate: Foregate, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(foregate, monkeypatch)
    (program,) = blocks_of((DOCS / "how-to" / "use-an-official-sdk.md").read_text(), "python")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(".access\n")


def test_python_that_verifies_the_assertion_runs_as_written(
    foregate: Foregate, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = create_token(foregate.api())
    app = json.loads(foregate.run("app", "create", "api", "api.localhost", "--allow", token.client_id, "--json").stdout)
    assert foregate.run("ingress", "set", "api.localhost", origin.service).returncode == 0
    until_status(foregate, "api.localhost", token, 200)
    mark = unique("mark")
    foregate.get("api.localhost", f"/?{mark}", token.headers)
    (request,) = origin.marked(mark)

    set_environment(foregate, monkeypatch)
    (program,) = blocks_of((DOCS / "how-to" / "protect-a-service.md").read_text(), "python")
    defined: dict[str, Any] = {}
    exec(program, defined)
    assert defined["caller"](request.header("cf-access-jwt-assertion"), app["aud"]) == token.client_id

    assert foregate.run("app", "delete", app["id"]).returncode == 0
    assert foregate.run("ingress", "delete", "api.localhost").returncode == 0


def set_environment(foregate: Foregate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `eval "$(foregate env)"` does."""
    for line in foregate.run("env").stdout.decode().splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        monkeypatch.setenv(name, shlex.split(value)[0])
