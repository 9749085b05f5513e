"""Files and directories are opened, made, renamed and removed by dkv.files; whoever does it by hand says why in rules.toml."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.lint.repository import RULES, python_files, tree_of

BY_HAND: dict[str, str] = RULES["files"]
OURS = [name for name in python_files("src") if name.is_relative_to("src/dkv")]
OS = {"open", "mkdir", "makedirs", "remove", "unlink", "rename", "replace", "link", "symlink", "chmod", "rmdir", "scandir"}
PATH = {
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "mkdir",
    "unlink",
    "rename",
    "touch",
    "glob",
    "rglob",
    "iterdir",
    "symlink_to",
    "hardlink_to",
    "chmod",
}


def opens(call: ast.Call) -> str:
    """What a call does by name that a link could lead astray; "" for nothing. One with a directory's descriptor is fine, and
    so are the kernel's own files.
    """
    text = ast.unparse(call).replace("'", '"')
    if any(word.arg in ("dir_fd", "src_dir_fd") for word in call.keywords) or '"/proc/' in text or '"/sys/kernel/' in text:
        return ""
    if isinstance(call.func, ast.Name):
        return "open" if call.func.id == "open" else ""
    if not isinstance(call.func, ast.Attribute):
        return ""
    name, of = call.func.attr, call.func.value
    module = of.id if isinstance(of, ast.Name) else ""
    if module in ("os", "shutil", "files"):
        return name if (module == "os" and name in OS) or (module == "shutil" and name != "which") else ""
    return name if name in PATH or (name == "open" and isinstance(of, ast.Call)) else ""


def by_hand(name: Path) -> list[str]:
    calls = (node for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call))
    return [f"{name}:{call.lineno} {what}" for call in calls if (what := opens(call))]


def reason(name: Path) -> str:
    """The line of the table that lets a file do so; "" for none."""
    inner = str(name.relative_to("src/dkv"))
    return next((pattern for pattern in BY_HAND if fnmatch(inner, pattern)), "")


def test_no_file_is_opened_by_name_outside_of_the_module_for_it() -> None:
    wrong = [line for name in OURS if not reason(name) for line in by_hand(name)]
    assert not wrong, "use dkv.files, or argue for a line in rules.toml [files]:\n" + "\n".join(wrong)


@pytest.mark.parametrize("pattern", sorted(BY_HAND))
def test_no_line_of_the_table_is_idle(pattern: str) -> None:
    assert any(by_hand(name) for name in OURS if reason(name) == pattern), f"{pattern} opens nothing by hand any more"
