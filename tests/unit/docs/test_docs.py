"""The docs are held to the program: generated parts are current, and every link leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = [line.lstrip("#").strip() for line in page.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_page_of_the_command_line_is_current() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); from generate import PAGE, render; page = PAGE.read_text(); "
    code += "sys.exit(page != render(page))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run: make docs\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} in {page.relative_to(ROOT)}"
        assert not anchor or anchor in headings(target), f"{link} in {page.relative_to(ROOT)}"


def test_no_two_pages_make_a_token_of_the_same_name() -> None:
    """Who reads on has what the page before made: a name that two tokens have names none of them."""
    made = [
        (name, page.name)
        for page in PAGES
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for name in re.findall(r"token create ([\w-]+)", block)
    ]
    assert len(made) == len(dict(made)), made
