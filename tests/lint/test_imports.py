"""What import-linter does not say: pure modules stay pure inside, and each third-party library comes in by its adapter."""

from __future__ import annotations

import ast
import sys
import tomllib
from fnmatch import fnmatch
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from tests.lint.repository import ROOT, RULES, called, calls_in, imports_of, inside, module_of, python_files, tree_of

ADAPTERS: dict[str, list[str]] = RULES["adapters"]
OURS = [name for name in python_files("src") if name.is_relative_to("src/dkv")]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
PURE: list[str] = next(contract["source_modules"] for contract in CONTRACTS if "pure" in contract["name"])


def pure_files() -> list[Path]:
    """The files that hold pure functions and values only."""
    return [name for name in OURS if any(inside(f"dkv.{module_of(name)}", module) for module in PURE)]


def library_imports(name: Path) -> set[str]:
    """Top-level names of the third-party libraries a file imports."""
    tops = {imported.target.split(".")[0] for imported in imports_of(name)}
    return {top for top in tops if top != "dkv" and top not in sys.stdlib_module_names}


@pytest.mark.parametrize("folder", ["bench", "tests"])
def test_what_is_imported_of_dkv_exists(folder: str) -> None:
    missing = []
    for name in python_files(folder):
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dkv":
                module = import_module(node.module)
                missing += [f"{name}:{node.lineno} {alias.name}" for alias in node.names if not _has(module, alias.name)]
    assert not missing, "\n".join(missing)


def _has(module: ModuleType, name: str) -> bool:
    return hasattr(module, name) or find_spec(f"{module.__name__}.{name}") is not None


def test_there_are_pure_modules() -> None:
    assert {"domain.decide", "machine.plan"} <= {module_of(name) for name in pure_files()}


def test_pure_modules_call_no_builtin_that_reaches_outside() -> None:
    wrong = [
        f"{name}:{node.lineno} calls {node.func.id}"
        for name in pure_files()
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RULES["pure"]["forbidden_builtins"]
    ]
    assert not wrong, "\n".join(wrong)


def test_pure_modules_have_no_coroutines_and_change_no_globals() -> None:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.Global, ast.Nonlocal)
    wrong = [
        f"{name}:{getattr(node, 'lineno', 0)} {type(node).__name__}"
        for name in pure_files()
        for node in ast.walk(tree_of(name))
        if isinstance(node, kinds)
    ]
    assert not wrong, "\n".join(wrong)


def test_pure_modules_import_no_library() -> None:
    wrong = [f"{name} imports {library}" for name in pure_files() for library in sorted(library_imports(name))]
    assert not wrong, "\n".join(wrong)


def fits(name: Path, pattern: str) -> bool:
    """fnmatch on the path inside the package."""
    return fnmatch(str(name.relative_to("src/dkv")), pattern)


def test_each_library_comes_in_by_its_adapter() -> None:
    wrong = [
        f"{name} imports {library}, whose adapter is {ADAPTERS.get(library, 'not in the table')}"
        for name in OURS
        for library in sorted(library_imports(name))
        if not any(fits(name, pattern) for pattern in ADAPTERS.get(library, []))
    ]
    assert not wrong, "use the adapter, or argue for a line in rules.toml [adapters]:\n" + "\n".join(wrong)


def libraries_located(name: Path) -> set[str]:
    """Libraries that a file finds without importing them."""
    calls = [call for call in calls_in(name) if called(call) == "find_spec"]
    return {str(arg.value) for call in calls for arg in call.args if isinstance(arg, ast.Constant)}


@pytest.mark.parametrize("library", sorted(ADAPTERS))
def test_each_line_of_the_adapters_is_needed(library: str) -> None:
    files = [name for name in OURS if any(fits(name, pattern) for pattern in ADAPTERS[library])]
    assert any(library in library_imports(name) | libraries_located(name) for name in files), (
        f"none of its adapters uses {library}: take it out of rules.toml and pyproject.toml"
    )
