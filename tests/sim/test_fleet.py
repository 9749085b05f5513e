"""A fleet of seeds: whole domains under faults keep their promises, become whole again, and have seen trouble enough."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest

from dkv.sim import __main__ as command
from dkv.sim.__main__ import main
from dkv.sim.checks.probes import FLEET, KINDS, LEAST, rare
from dkv.sim.corpus import Run
from dkv.sim.scenario import Outcome
from tests.conftest import SAID

EVERY_TIME = 200
FULL = 600


def run(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    with redirect_stdout(output):
        code = main(list(arguments))
    return code, output.getvalue()


def test_a_fleet_of_seeds_holds_and_every_kind_of_fault_struck(record_property: Callable[[str, object], None]) -> None:
    code, output = run("--seeds", str(EVERY_TIME), "--jobs", "2", "--probes")
    record_property(SAID, "\n".join(line for line in output.splitlines() if not line.startswith("  event")))
    assert code == 0, output
    for reached in (
        "event group.superseded",
        "event group.handed_over",
        "event in_sync.shrunk",
        "event group.clean_stop",
        "event server.lost",
        "event group.enforced",
    ):
        assert reached in output, f"no run reached: {reached}"


@pytest.mark.full
def test_a_large_fleet_of_seeds_holds() -> None:
    code, output = run("--seeds", str(FULL), "--from", "1001", "--jobs", "2")
    assert code == 0, output


def test_a_kind_of_fault_that_hardly_ever_struck_is_named() -> None:
    counts = Counter({f"fault {kind}": LEAST for kind in KINDS})
    assert rare(counts) == []
    counts["fault full disk"] = LEAST - 1
    assert rare(counts) == [f"full disk ({LEAST - 1})"]


def test_one_seed_shows_who_decided_what_because_of_what() -> None:
    code, output = run("5")
    assert code == 0
    assert "because" in output
    assert "seed 5 holds" in output
    assert "act two" in output


class Here:
    """In the place of a pool of processes: nothing planted would be known in those."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None: ...
    def imap_unordered(self, work: Callable[[Run], Outcome], runs: Iterable[Run]) -> Iterator[Outcome]:
        return map(work, reversed(list(runs)))


def fleet_of(monkeypatch: pytest.MonkeyPatch, struck: int, *bad: int) -> None:
    """Seeds of which the bad ones fail; each kind of fault struck so often in the first one."""

    def played(seed: int, only: Collection[str] | None = None, variant: int = 0) -> Outcome:
        counts = Counter({f"fault {kind}": struck for kind in KINDS} if seed == 1 else {})
        failures = ("a promise did not hold",) if seed in bad else ()
        return Outcome(seed, failures, ("the scenario of it",), counts, 1, 1, 1, Counter(), 1, 1.0)

    monkeypatch.setattr(command, "play", played)
    monkeypatch.setattr("multiprocessing.Pool", Here)


def test_a_fleet_that_fails_names_one_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet_of(monkeypatch, LEAST, 4, 7)
    code, output = run("--seeds", "10")
    assert code == 1
    assert "10 seeds, 2 failed" in output
    assert output.splitlines()[-1].endswith("-m dkv.sim 4    (or ./dev sim 4)")
    code, output = run("4")
    assert code == 1
    assert "the scenario of it" in output


@pytest.mark.parametrize(("seeds", "struck", "code"), [(FLEET, LEAST, 0), (FLEET, LEAST - 1, 1), (FLEET - 1, 0, 0)])
def test_a_whole_fleet_that_saw_too_little_fails(monkeypatch: pytest.MonkeyPatch, seeds: int, struck: int, code: int) -> None:
    fleet_of(monkeypatch, struck)
    output = run("--seeds", str(seeds))
    assert output[0] == code
    assert all(f"  fault {kind} " in output[1] for kind in KINDS)
    assert all(f"  row {row} " in output[1] for row in ("process STARTED -> CONFIGURED", "group ASSIGNED -> OPEN"))


def test_bad_usage_is_two() -> None:
    with pytest.raises(SystemExit) as no:
        main([])
    assert no.value.code == 2
