"""Every setting turns something: one that nothing reads is a mistake."""

from __future__ import annotations

import ast
from dataclasses import fields

from dkv.config import Settings
from tests.lint.repository import python_files, tree_of


def read_somewhere() -> set[str]:
    """Names the product reads off something called settings, config.py itself not counted."""
    files = [name for name in python_files("src") if name.name != "config.py"]
    reads = [node for name in files for node in ast.walk(tree_of(name)) if isinstance(node, ast.Attribute)]
    return {read.attr for read in reads if ast.unparse(read.value).endswith("settings")}


def test_every_setting_is_read() -> None:
    unread = {field.name for field in fields(Settings)} - read_somewhere()
    assert not unread, f"these can be set and change nothing: {sorted(unread)}"
