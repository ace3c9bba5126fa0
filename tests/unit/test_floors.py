"""The floors of the architecture: imports go down only, and products never import one another."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "foregate"
FLOORS = {
    "__main__.py": 6,
    "cli": 6,
    "services": 5,
    "operations": 4,
    "access": 3,
    "identity": 3,
    "tunnels": 3,
    "edge": 2,
    "engines": 2,
    "database": 1,
    "eventlog": 1,
    "api": 1,
    "core": 0,
}
PRODUCT_FLOOR = 3
DRAWERS = {"utils", "util", "common", "helpers", "manager", "misc"}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def imports_of(path: Path) -> Iterator[str]:
    """The full names of all modules that `path` imports, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield node.module or ""


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


def foregate_packages(path: Path) -> set[str]:
    """The packages of Foregate that `path` imports from, its own left out."""
    found = {name.split(".")[1] for name in imports_of(path) if name.startswith("foregate.")}
    return found - {package_of(path)}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    own = FLOORS[package_of(path)]
    too_high = {package for package in foregate_packages(path) if FLOORS[package] > own}
    assert too_high == set()


@pytest.mark.parametrize("path", [path for path in MODULES if FLOORS[package_of(path)] == PRODUCT_FLOOR], ids=name_of)
def test_products_never_import_one_another(path: Path) -> None:
    assert {package for package in foregate_packages(path) if FLOORS[package] == PRODUCT_FLOOR} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if package_of(path) == "edge"], ids=name_of)
def test_the_edge_knows_no_product(path: Path) -> None:
    assert {package for package in foregate_packages(path) if FLOORS[package] >= PRODUCT_FLOOR} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if package_of(path) == "core"], ids=name_of)
def test_core_needs_the_standard_library_alone(path: Path) -> None:
    outside = {name for name in imports_of(path) if name.split(".")[0] not in {*sys.stdlib_module_names, "foregate"}}
    assert outside == set()


def test_packages_form_no_knot() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        graph.setdefault(package_of(path), set()).update(foregate_packages(path))
    graphlib.TopologicalSorter(graph).prepare()


def test_package_files_are_empty() -> None:
    assert [path for path in SOURCE.rglob("__init__.py") if path.read_text().strip()] == []


def test_no_module_is_a_drawer() -> None:
    assert [path for path in MODULES if DRAWERS & set(path.relative_to(SOURCE).with_suffix("").parts)] == []
