"""Nothing grows beyond what one reads over a coffee, except what the table names, and the table holds nothing idle."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.house import ROOT, RULES, python_files, tree_of

CAPS = RULES["caps"]
EXCEPTIONS = {(one["where"], one["what"]): one for one in CAPS.get("exceptions", [])}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, path: str = "") -> Iterator[tuple[str, Function]]:
    """Every function below a node with its dotted name inside the file."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            name = f"{path}.{child.name}" if path else child.name
            if not isinstance(child, ast.ClassDef):
                yield name, child
            yield from functions(child, name)
        else:
            yield from functions(child, path)


def length(function: Function) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        words = function.body[0]
        lines -= (words.end_lineno or words.lineno) - words.lineno + 1
    return lines


def positional(function: Function) -> int:
    """Parameters one may give by position, without self and cls. Nobody but FastAPI calls a route, and by keyword."""
    if any(ast.unparse(one).startswith(("router.", "app.")) for one in function.decorator_list):
        return 0
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (1 if names[:1] in (["self"], ["cls"]) else 0)


def measures() -> Iterator[tuple[str, str, int]]:
    """(where, which cap, size) of everything that has a cap."""
    for name in python_files("src", "tests", "bench", "docs"):
        yield str(name), "file_lines", len((ROOT / name).read_text(encoding="utf-8").splitlines())
        for title, function in functions(tree_of(name)):
            yield f"{name}::{title}", "function_lines", length(function)
            yield f"{name}::{title}", "positional", positional(function)


def test_nothing_is_bigger_than_its_cap() -> None:
    too_big = []
    for where, what, size in measures():
        most = EXCEPTIONS.get((where, what), {}).get("most", CAPS[what])
        if size > most:
            too_big.append(f"{where}: {what} is {size}, at most {most} allowed")
    assert not too_big, "divide these, or argue for a line in house.toml:\n" + "\n".join(too_big)


def test_every_exception_is_still_needed() -> None:
    sizes = {(where, what): size for where, what, size in measures()}
    idle = [f"{where} ({what})" for where, what in EXCEPTIONS if sizes.get((where, what), 0) <= CAPS[what]]
    assert not idle, "take these lines out of house.toml, they are within the caps or gone:\n" + "\n".join(idle)


def test_every_exception_says_why() -> None:
    assert all(one.get("why") for one in EXCEPTIONS.values())
