"""A fleet of seeds: domains of two and three servers under faults keep their promises and become whole again."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest

from dkv.sim.__main__ import main

EVERY_TIME = 60
FULL = 600


def run(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with redirect_stdout(said):
        code = main(list(arguments))
    return code, said.getvalue()


def test_a_fleet_of_seeds_holds() -> None:
    code, said = run("--seeds", str(EVERY_TIME), "--jobs", "2", "--probes")
    assert code == 0, said
    for reached in ("fault kill leader", "fault restart machine", "event group.superseded", "event group.handed_over",
                    "event in_sync.shrunk", "event group.clean_stop", "event server.lost"):  # fmt: skip
        assert reached in said, f"no run reached: {reached}"


@pytest.mark.full
def test_a_large_fleet_of_seeds_holds() -> None:
    code, said = run("--seeds", str(FULL), "--from", "1001", "--jobs", "2")
    assert code == 0, said


def test_one_seed_tells_who_decided_what_because_of_what() -> None:
    code, said = run("5")
    assert code == 0
    assert "because" in said
    assert "seed 5 holds" in said
    assert "act two" in said


def test_bad_usage_is_two() -> None:
    with pytest.raises(SystemExit) as no:
        main([])
    assert no.value.code == 2
