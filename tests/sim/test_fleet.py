"""A fleet of seeds: whole domains under faults keep their promises, become whole again, and have seen trouble enough."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout

import pytest

from dkv.sim.__main__ import main
from dkv.sim.probes import KINDS, LEAST, rare
from tests.conftest import SAID

EVERY_TIME = 200
FULL = 600


def run(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with redirect_stdout(said):
        code = main(list(arguments))
    return code, said.getvalue()


def test_a_fleet_of_seeds_holds_and_every_kind_of_fault_struck(record_property: Callable[[str, object], None]) -> None:
    code, said = run("--seeds", str(EVERY_TIME), "--jobs", "2", "--probes")
    record_property(SAID, "\n".join(line for line in said.splitlines() if not line.startswith("  event")))
    assert code == 0, said
    for reached in ("event group.superseded", "event group.handed_over", "event in_sync.shrunk",
                    "event group.clean_stop", "event server.lost", "event group.enforced"):  # fmt: skip
        assert reached in said, f"no run reached: {reached}"


@pytest.mark.full
def test_a_large_fleet_of_seeds_holds() -> None:
    code, said = run("--seeds", str(FULL), "--from", "1001", "--jobs", "2")
    assert code == 0, said


def test_a_kind_of_fault_that_hardly_ever_struck_is_named() -> None:
    counts = Counter({f"fault {kind}": LEAST for kind in KINDS})
    assert rare(counts) == []
    counts["fault full disk"] = LEAST - 1
    assert rare(counts) == [f"full disk ({LEAST - 1})"]


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
