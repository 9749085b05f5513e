"""Every way to say no is in the catalogue, and every line of the catalogue is said somewhere."""

from __future__ import annotations

import ast

from dkv.api.problems import API_CODES
from dkv.domain.refusals import CATALOGUE
from tests.lint.repository import python_files, tree_of

KNOWN = set(CATALOGUE) | set(API_CODES)


def words_of_source() -> set[str]:
    """Every string literal of the product, the catalogue's own keys not counted."""
    words: set[str] = set()
    for name in python_files("src"):
        keys = {id(key) for node in ast.walk(tree_of(name)) if isinstance(node, ast.Dict) for key in node.keys}
        words |= {
            node.value
            for node in ast.walk(tree_of(name))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in keys
        }
    return words


def said_by_no() -> set[str]:
    """Codes given to `no(...)` or `Refused(...)` as a literal."""
    calls = [node for name in python_files("src") for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call)]
    firsts = [call.args[0] for call in calls if call.args and called(call) in ("no", "Refused")]
    return {first.value for first in firsts if isinstance(first, ast.Constant) and isinstance(first.value, str)}


def called(call: ast.Call) -> str:
    """The last word of what is called."""
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def test_every_code_that_is_said_is_in_the_catalogue() -> None:
    assert said_by_no() <= KNOWN, sorted(said_by_no() - KNOWN)
    assert not set(CATALOGUE) & set(API_CODES)


def test_every_code_of_the_catalogue_is_said() -> None:
    unsaid = KNOWN - words_of_source()
    assert not unsaid, f"take these out of domain/refusals.py, nothing says them: {sorted(unsaid)}"
