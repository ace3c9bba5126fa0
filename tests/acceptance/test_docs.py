"""Every command in the docs runs as written: the `sh` blocks of each guide, in order, on a real product."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.product import Foregate

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "quickstart.md", *sorted((DOCS / "how-to").glob("*.md")), *sorted((DOCS / "operations").glob("*.md"))]


def shell_blocks(text: str) -> list[str]:
    """The contents of the text's ```sh blocks. `console` blocks show a session and are not run."""
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


GUIDES = [page for page in PAGES if shell_blocks(page.read_text())]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_guide_runs_as_written(foregate: Foregate, guide: Path, tmp_path: Path) -> None:
    blocks = shell_blocks(guide.read_text())
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
