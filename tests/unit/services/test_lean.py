"""What runs in the background imports nothing that only a terminal needs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["api", "worker", "edge", "echo"])
def test_process_without_a_terminal_has_none_of_its_packages(name: str) -> None:
    program = (
        "import sys\n"
        "from foregate.services.lean import without_terminal\n"
        "without_terminal()\n"
        f"import foregate.services.{name}\n"
        "from foregate.services.process import configure_log\n"
        "configure_log()\n"
        "print([module for module in sys.modules if module.split('.')[0] in ('rich', 'pygments') "
        "and sys.modules[module]])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
