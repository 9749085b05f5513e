"""Tests of the domain: the transcripts in tests/stories, replayed line by line.

A story is comments (`#`), lines in the domain's words (verbs.py), `----`, and what happened, up to an empty line.
DKV_REWRITE_STORIES=1 writes what happened into the files; whoever does that reads each line against the design.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.domain.verbs import Teller

STORIES = sorted((Path(__file__).parent.parent / "stories").glob("*.txt"))
REWRITE = os.environ.get("DKV_REWRITE_STORIES") == "1"


def replay(text: str) -> str:
    """The story as it goes now: everything but the outcomes is kept as it stands."""
    teller = Teller()
    told: list[str] = []
    outcome: list[str] = []
    skipping = False
    for line in text.splitlines():
        if skipping and line.strip():
            continue
        skipping = False
        told.append(line)
        if line == "----":
            told += outcome
            outcome, skipping = [], True
        elif line.strip() and not line.startswith("#"):
            outcome += teller.tell(line)
    return "\n".join(told).rstrip() + "\n"


@pytest.mark.parametrize("story", STORIES, ids=lambda path: str(path.stem))
def test_story_goes_as_told(story: Path) -> None:
    told = story.read_text(encoding="utf-8")
    goes = replay(told)
    if REWRITE:
        story.write_text(goes, encoding="utf-8")
    else:
        assert goes == told
