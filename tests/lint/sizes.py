"""How big things are: lines of functions, parameters, fields of dataclasses; as a program, a report of what is largest."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.lint.repository import ROOT, python_files, tree_of

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
    if any(ast.unparse(decorator).startswith(("router.", "app.")) for decorator in function.decorator_list):
        return 0
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (1 if names[:1] in (["self"], ["cls"]) else 0)


def dataclasses(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each dataclass of a file and how many fields it has, those of bases in the same file included."""
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for name, node in classes.items():
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            yield name, len(_fields(node, classes))


def _fields(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    annotated = (part for part in node.body if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part.annotation))
    bases = (classes.get(base.id) for base in node.bases if isinstance(base, ast.Name))
    own = {ast.unparse(part.target) for part in annotated}
    return own.union(*(_fields(base, classes) for base in bases if base is not None))


def report(shown: int = 10) -> None:
    """Print the largest files of src and tests, and the dataclasses with most fields. Nothing fails: it is for reading."""
    for top in ("src", "tests"):
        sizes = sorted(((len((ROOT / name).read_text().splitlines()), str(name)) for name in python_files(top)), reverse=True)
        print(f"{sum(size for size, _ in sizes)} lines in {len(sizes)} files of {top}; the largest:")
        print("".join(f"{size:6} {name}\n" for size, name in sizes[:shown]), end="")
    classes = [(fields, f"{name}::{title}") for name in python_files("src") for title, fields in dataclasses(tree_of(name))]
    print("dataclasses with most fields:")
    print("".join(f"{fields:6} {name}\n" for fields, name in sorted(classes, reverse=True)[:shown]), end="")


if __name__ == "__main__":
    report()
