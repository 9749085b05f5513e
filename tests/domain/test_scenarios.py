"""Tests of the domain: the transcripts in tests/scenarios, replayed line by line.

A scenario is comments (`#`), lines in the domain's words (verbs.py), `----`, and what happened, up to an empty line.
DKV_REWRITE_SCENARIOS=1 writes what happened into the files; whoever does that reads each line against the design.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.domain.verbs import ScenarioRunner

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.txt"))
REWRITE = os.environ.get("DKV_REWRITE_SCENARIOS") == "1"


def replay(text: str, runner: ScenarioRunner | None = None) -> str:
    """The scenario as it goes now, carried out by a runner of its own: everything but the outcomes is kept as it stands."""
    runner = runner or ScenarioRunner()
    lines: list[str] = []
    outcome: list[str] = []
    skipping = False
    for line in text.splitlines():
        if skipping and line.strip():
            continue
        skipping = False
        lines.append(line)
        if line == "----":
            lines += outcome
            outcome, skipping = [], True
        elif line.strip() and not line.startswith("#"):
            outcome += runner.run(line)
    return "\n".join(lines).rstrip() + "\n"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: str(path.stem))
def test_scenario_goes_as_written(scenario: Path) -> None:
    text = scenario.read_text(encoding="utf-8")
    goes = replay(text)
    if REWRITE:
        scenario.write_text(goes, encoding="utf-8")
    else:
        assert goes == text
