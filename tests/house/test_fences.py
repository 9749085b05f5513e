"""The rooms: who may import whom, what is pure, and by which file each library comes in."""

from __future__ import annotations

import ast
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.house.house import RULES, SOURCE, imports_of, inside, module_of, python_files, tree_of

ROOMS: dict[str, list[str]] = RULES["rooms"]
PURE = RULES["pure"]
DOORS: dict[str, list[str]] = RULES["doors"]
OURS = [name for name in python_files("src") if name.is_relative_to("src/dkv")]


def room_of(module: str) -> str | None:
    """The longest room name that fits a module; None when there is none."""
    fitting = [room for room in ROOMS if inside(module, room)]
    return max(fitting, key=len) if fitting else None


def may_import(module: str, target: str) -> bool:
    """Does the table let this module of ours import that one? Within the own package everything is allowed."""
    room = room_of(module)
    return room is not None and any(one == "*" or inside(target, one) for one in [room, *ROOMS[room]])


def library_imports(name: Path) -> set[str]:
    """Top-level names of the third-party libraries a file imports."""
    tops = {one.target.split(".")[0] for one in imports_of(name)}
    return {top for top in tops if top != "dkv" and top not in sys.stdlib_module_names}


def test_every_module_belongs_to_a_room() -> None:
    strangers = [str(name) for name in OURS if module_of(name) and room_of(module_of(name)) is None]
    assert not strangers, f"give these a line in house.toml [rooms]: {strangers}"


def test_rooms_import_only_what_their_line_grants() -> None:
    wrong = []
    for name in OURS:
        for one in imports_of(name):
            target = one.target.removeprefix("dkv.") if inside(one.target, "dkv") else ""
            if target and target != "dkv" and module_of(name) and not may_import(module_of(name), target):
                wrong.append(f"{name}:{one.line} imports dkv.{target}")
    assert not wrong, "the fences of house.toml [rooms] do not allow:\n" + "\n".join(wrong)


def test_pure_modules_know_no_time_no_chance_no_machine() -> None:
    wrong = []
    for name in pure_files():
        for one in imports_of(name):
            top = one.target.split(".")[0]
            if top in PURE["forbidden"] or (top != "dkv" and top not in sys.stdlib_module_names):
                wrong.append(f"{name}:{one.line} imports {top}")
    assert not wrong, "time, ids and randomness arrive inside commands, never by a call:\n" + "\n".join(wrong)


def test_pure_modules_of_ours_import_only_pure_ones() -> None:
    allowed = [*PURE["may_import"], *(module_of(name) for name in pure_files())]
    wrong = [
        f"{name}:{one.line} imports {one.target}"
        for name in pure_files()
        for one in imports_of(name)
        if inside(one.target, "dkv") and not any(inside(one.target, f"dkv.{module}") for module in allowed)
    ]
    assert not wrong, "what a pure module needs has to be pure too:\n" + "\n".join(wrong)


def test_pure_modules_call_no_builtin_that_reaches_outside() -> None:
    wrong = [
        f"{name}:{node.lineno} calls {node.func.id}"
        for name in pure_files()
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PURE["forbidden_builtins"]
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


def pure_files() -> list[Path]:
    """The files that must be pure functions and values."""
    return [name for name in OURS if any(fits(name, pattern) for pattern in PURE["modules"])]


def fits(name: Path, pattern: str) -> bool:
    """fnmatch on the whole path; `**/` also stands for no folder at all."""
    return fnmatch(str(name), pattern) or fnmatch(str(name), pattern.replace("**/", ""))


def test_each_library_comes_in_by_its_door() -> None:
    wrong = []
    for name in OURS:
        inner = str(name.relative_to("src/dkv"))
        for library in sorted(library_imports(name)):
            if not any(fnmatch(inner, door) for door in DOORS.get(library, [])):
                wrong.append(f"{name} imports {library}, whose door is {DOORS.get(library, 'not in the table')}")
    assert not wrong, "use the door, or argue for a line in house.toml [doors]:\n" + "\n".join(wrong)


@pytest.mark.parametrize("library", sorted(DOORS))
def test_no_door_stands_idle(library: str) -> None:
    built = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    if not any(fits(path, door) for path in built for door in DOORS[library]):
        pytest.skip("its room is not built yet")
    users = [path for path in built if any(fits(path, door) for door in DOORS[library])]
    assert any(library in (SOURCE / path).read_text(encoding="utf-8") for path in users), (
        f"none of its doors uses {library}: take it out of house.toml and pyproject.toml"
    )
