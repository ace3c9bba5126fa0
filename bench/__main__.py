"""`python -m bench`: measures, prints the table, writes build/bench/{bench.md,bench.json,bench.svg}."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    """Parse, run the chosen scenarios one after the other, report."""
    from bench import report, scenarios

    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"some of: {', '.join(scenarios.ALL)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of a comparison (default 5)")
    parser.add_argument("--seconds", type=float, default=5, help="length of one run of the load (default 5)")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "bench", help="where the results go")
    chosen = parser.parse_args()
    names = chosen.scenario or list(scenarios.ALL)
    if unknown := set(names) - set(scenarios.ALL):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    rows: list[report.Row] = []
    for name in names:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        rows += _run(scenarios.ALL[name], chosen.rounds, chosen.seconds)
        report.write(chosen.into, rows)  # after each scenario: a cut-off run leaves what it measured
    print(report.table(rows))
    print(f"written to {chosen.into}")


def _run(scenario: Callable[..., list], rounds: int, seconds: float) -> list:  # type: ignore[type-arg]
    folder = Path(tempfile.mkdtemp(prefix="foregate-bench-"))
    try:
        return scenario(folder, rounds=rounds, seconds=seconds)
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
