"""What the lint tests know of the repository: its files, its table of rules, and how to read a module's imports."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "dkv"
RULES: dict[str, Any] = tomllib.loads((Path(__file__).parent / "rules.toml").read_text())


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that belongs to the project, relative to the root: what git tracks or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        names = [Path(name) for name in answer.stdout.split("\0") if name]
    else:  # an unpacked archive: everything that is not hidden
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return tuple(sorted({name for name in names if (ROOT / name).is_file()}))


def python_files(*tops: str) -> list[Path]:
    """The project's Python files below the named top folders, relative to the root."""
    return [name for name in project_files() if name.suffix == ".py" and name.parts[0] in tops]


@cache
def tree_of(name: Path) -> ast.Module:
    """The syntax tree of one file, given relative to the root."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), filename=str(name))


def module_of(name: Path) -> str:
    """src/dkv/store/sqlite.py -> store.sqlite; the package itself is the empty name."""
    parts = list(name.relative_to("src/dkv").with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


@dataclass(frozen=True)
class Import:
    """One import: the full dotted name of what comes in, and the line that says so."""

    target: str
    line: int


def imports_of(name: Path) -> Iterator[Import]:
    """All imports of a file, those inside functions and under TYPE_CHECKING too.

    `from x import y` yields x.y, since y may be a module: whoever compares names compares by prefix.
    """
    package = ["dkv", *name.relative_to("src/dkv").parent.parts] if name.is_relative_to("src/dkv") else []
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, node.module] if node.module else base)
            yield from (Import(f"{stem}.{alias.name}", node.lineno) for alias in node.names)


def calls_in(name: Path) -> Iterator[ast.Call]:
    """All calls in a file."""
    return (node for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    """The last word of what is called: `c` for `a.b.c()`; empty if what is called has no name."""
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def constructed(name: Path) -> set[str]:
    """Full dotted names of what a file calls by a name that it imports with `from x import y`."""
    froms = [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.ImportFrom)]
    known = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    names = set()
    for call in calls_in(name):
        if isinstance(call.func, ast.Name):
            names.add(known.get(call.func.id, ""))
        elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            names.add(f"{known.get(call.func.value.id, '')}.{call.func.attr}")
    return names


def inside(name: str, package: str) -> bool:
    """Is dotted `name` the package or something in it?"""
    return name == package or name.startswith(package + ".")
