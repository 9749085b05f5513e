"""Every setting turns something: a knob that nothing reads would be a promise nobody keeps."""

from __future__ import annotations

import ast
from dataclasses import fields

from dkv.config import Settings
from tests.lint.repository import python_files, tree_of

LATER: dict[str, str] = {
    # setting: what brings it. Until then the default holds for everybody and docs/settings.md says so.
}


def read_somewhere() -> set[str]:
    """Names the product reads off something called settings, config.py itself not counted."""
    files = [name for name in python_files("src") if name.name != "config.py"]
    reads = [node for name in files for node in ast.walk(tree_of(name)) if isinstance(node, ast.Attribute)]
    return {read.attr for read in reads if ast.unparse(read.value).endswith("settings")}


def test_every_setting_is_read() -> None:
    unread = {one.name for one in fields(Settings)} - read_somewhere() - set(LATER)
    assert not unread, f"these can be set and change nothing: {sorted(unread)}"


def test_later_is_not_here_yet() -> None:
    assert not set(LATER) & read_somewhere(), "take these out of LATER"
    assert set(LATER) <= {one.name for one in fields(Settings)}
