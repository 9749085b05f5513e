"""The generated documents say what the code says, and what a file links to or cites exists."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.lint.repository import ROOT, project_files, tree_of


def generator() -> ModuleType:
    """docs/generate.py as a module; it is a script, not part of the package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_generated_document_is_stale() -> None:
    assert generator().stale() == [], "run ./dev docs and commit what it wrote"


def test_every_life_cycle_has_its_sentence() -> None:
    module = generator()
    assert set(module.TABLES) == set(module.ARTICLES)


PAGES = [name for name in project_files() if name.suffix == ".md"]


@pytest.mark.parametrize("document", PAGES, ids=str)
def test_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    page = ROOT / document
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    dead = [link for link in links if not is_kept((page.parent / link).resolve())]
    assert not dead, f"{document} links to {dead}: no file of the project (does git ignore it?)"


def is_kept(target: Path) -> bool:
    """Whether a file, or a folder with a file in it, is in every clone and not only in this one."""
    return any((ROOT / name).is_relative_to(target) for name in project_files())


# -- references ---------------------------------------------------------------------------------------------------------

TEXTS = [name for name in project_files() if name.suffix in (".py", ".md", ".toml", ".txt", ".sh", ".ps1") or name.name == "dev"]
PAGE = re.compile(r"(?<![\w:/.-])((?:[\w.-]+/)*[\w-]+\.md)(#[\w-]+)?")
# What nobody who has only this repository can look up: a number of a document that is not named, or of one that is elsewhere.
UNKNOWN = re.compile(
    r"\bseeds? 0\d\d\b|\bdesign section|\bdesign \d+\b|(?<!valkey-py )\bissue \d+\b|\bissue section|\bsection \d"
    r"|\bthe (?:issue|seeds?) (?:asks|says)"
)


def anchors(page: Path) -> set[str]:
    """The names that a link into a page may use: its headings, as a browser of the repository makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_nowhere(name: Path, text: str) -> Iterator[str]:
    """The pages and sections that a file names and that do not exist: by path from the root, or from the file's own folder."""
    for page, anchor in PAGE.findall(text):
        file = next((place for place in (ROOT / page, ROOT / name.parent / page, ROOT / "docs" / page) if place.is_file()), None)
        if file is None or not is_kept(file.resolve()):
            yield page
        elif anchor and anchor[1:] not in anchors(file):
            yield page + anchor


def test_every_page_and_section_that_a_file_names_exists() -> None:
    wrong = [f"{name}: {page}" for name in TEXTS for page in leads_nowhere(name, (ROOT / name).read_text(encoding="utf-8"))]
    assert not wrong, "link to a page of docs/ and one of its headings:\n" + "\n".join(wrong)


def test_nothing_cites_what_the_repository_does_not_have() -> None:
    wrong = [
        f"{name}:{number} {match[0]!r}"
        for name in TEXTS
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        if (match := UNKNOWN.search(line)) and "RFC" not in line
    ]
    assert not wrong, "say it in a sentence, or link to docs/reference/:\n" + "\n".join(wrong)


TEST = re.compile(r"\btests/[\w/]+\.(?:py|txt)(?:::(\w+))?")


def test_every_test_that_a_document_names_exists() -> None:
    wrong = []
    for name in PAGES:
        if name.name == "CHANGELOG.md" or "decisions" in name.parts:  # they describe the day they were written on
            continue
        for match in TEST.finditer((ROOT / name).read_text(encoding="utf-8")):
            path = Path(match[0].partition("::")[0])
            if not is_kept(ROOT / path) or (match[1] and not defines(path, match[1])):
                wrong.append(f"{name}: {match[0]}")
    assert not wrong, "\n".join(wrong)


def defines(name: Path, function: str) -> bool:
    """Whether a file has a function of that name at its top."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, kinds) and node.name == function for node in tree_of(name).body)


MODULE = re.compile(r"(?<![\w/.*{-])((?:[a-z_0-9]+/)*[a-z_][a-z_0-9]*\.py)\b")


def prose(source: str) -> Iterator[str]:
    """The docstrings and comments of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            yield token.string


def test_every_module_that_a_docstring_or_comment_names_exists() -> None:
    modules = [f"/{name.as_posix()}" for name in project_files() if name.suffix == ".py"]
    wrong = [
        f"{name}: {module}"
        for name in project_files()
        if name.suffix == ".py" and "experiments" not in name.parts
        for text in prose((ROOT / name).read_text(encoding="utf-8"))
        for module in MODULE.findall(text)
        if not any(path.endswith(f"/{module}") for path in modules)
    ]
    assert not wrong, "it was renamed or removed:\n" + "\n".join(wrong)
