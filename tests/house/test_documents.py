"""The generated documents say what the code says, and the table of contents of the house is whole."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.house.house import ROOT, kept_files


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


PAGES = [name for name in kept_files() if name.suffix == ".md"]


@pytest.mark.parametrize("document", PAGES, ids=str)
def test_links_inside_the_house_lead_somewhere(document: Path) -> None:
    page = ROOT / document
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    dead = [link for link in links if not is_kept((page.parent / link).resolve())]
    assert not dead, f"{document} links to {dead}: no file of the project (does git ignore it?)"


def is_kept(target: Path) -> bool:
    """Whether a file, or a folder with a file in it, is in every clone and not only in this one."""
    return any((ROOT / name).is_relative_to(target) for name in kept_files())
