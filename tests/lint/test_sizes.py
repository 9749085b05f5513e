"""Functions and dataclasses stay small, except what the table names, and the table holds nothing idle."""

from __future__ import annotations

from functools import cache

from tests.lint import sizes
from tests.lint.repository import RULES, python_files, tree_of

CAPS = RULES["caps"]
EXCEPTIONS = {(line["where"], line["what"]): line for line in CAPS.get("exceptions", [])}


@cache
def measures() -> tuple[tuple[str, str, int], ...]:
    """(where, which cap, size) of everything that has a cap."""
    sized: list[tuple[str, str, int]] = []
    for name in python_files("src", "tests", "bench", "docs"):
        for title, function in sizes.functions(tree_of(name)):
            sized.append((f"{name}::{title}", "function_lines", sizes.length(function)))
            sized.append((f"{name}::{title}", "positional", sizes.positional(function)))
    for name in python_files("src"):
        sized += [(f"{name}::{title}", "fields", fields) for title, fields in sizes.dataclasses(tree_of(name))]
    return tuple(sized)


def test_nothing_is_bigger_than_its_cap() -> None:
    too_big = []
    for where, what, size in measures():
        most = EXCEPTIONS.get((where, what), {}).get("most", CAPS[what])
        if size > most:
            too_big.append(f"{where}: {what} is {size}, at most {most} allowed")
    assert not too_big, "divide these, or argue for a line in rules.toml:\n" + "\n".join(too_big)


def test_every_exception_is_still_needed() -> None:
    measured = {(where, what): size for where, what, size in measures()}
    idle = [f"{where} ({what})" for where, what in EXCEPTIONS if measured.get((where, what), 0) <= CAPS[what]]
    assert not idle, "take these lines out of rules.toml, they are within the caps or gone:\n" + "\n".join(idle)


def test_every_exception_says_why() -> None:
    assert all(line.get("why") for line in EXCEPTIONS.values())
