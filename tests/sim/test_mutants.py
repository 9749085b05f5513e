"""The tests can fail: each mutant takes one clause of the rules away, and what is named here finds it out.

How each is planted stands in planting.py. What catches it is a test, or seeds of the simulation; all of it runs in a
process of its own, so that nothing planted stays. A mutant that survives fails. All run with --full, some every time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sim.planting import PLANTS

ROOT = Path(__file__).parents[2]
SCENARIO = "tests/domain/test_scenarios.py::test_scenario_goes_as_written"


@dataclass(frozen=True)
class Seeds:
    """Seeds of the simulation, one of which must fail."""

    first: int
    count: int

    def __str__(self) -> str:
        return f"the fleet, one of the seeds {self.first} to {self.first + self.count - 1}"


CAUGHT_BY: dict[str, tuple[str | Seeds, ...]] = {
    # what issue and design ask for
    "skip the catch up when s grows": (
        "tests/machine/test_perform.py::test_a_marker_is_durable_when_it_or_a_later_one_is_on_the_joiners_disk",
        Seeds(1, 400),
    ),
    "promote without asking the dead leaders archive": (f"{SCENARIO}[unplanned_death]", Seeds(1, 400)),
    "let anyone shrink s": (f"{SCENARIO}[v01_v04_required]",),
    "count tes as copies": ("tests/confirm/test_judge.py::test_v1_transaction_engines_count_for_nobody",),
    "a phantom epoch above the leaders": ("tests/engine/test_config.py",),
    "start without the lock": (
        "tests/contract/test_engine_traps.py::test_a_second_start_on_a_locked_archive_is_refused[valkey]",
    ),
    "put an archive into s before it is in required": (f"{SCENARIO}[joining]",),
    "judge confirmation by count": (Seeds(1, 400),),
    "confirm a read that one disk has": (Seeds(1, 400),),
    "say nothing of a group without a leader": (Seeds(1, 400),),
    "adopt an engine of another boot": ("tests/engine/test_adopt.py",),
    "restart after a leader assignment timeout": (f"{SCENARIO}[documented_example]",),
    "forget the open multi": ("tests/engine/test_aof.py::test_a_cut_counts_to_the_last_whole_command_outside_a_multi",),
    "judge a lease during a backend outage": ("tests/sim/test_liveness.py",),
    "two rewrites at once": ("tests/machine/test_perform.py::test_a_rewrite_waits_for_its_groups_lease",),
    "open a superseded term": (f"{SCENARIO}[superseded]",),
    "kill the target of a handover": ("tests/machine/test_handover.py::test_neither_engine_is_killed_while_a_handover_stands",),
    # scripts that answer BUSY (decision 0020)
    "hand over inside a script": ("tests/sim/test_scripts.py::test_no_switchover_ends_inside_a_script",),
    "believe the offset of a leader demoted inside a script": (
        "tests/sim/test_scripts.py::test_a_leader_that_lost_its_role_inside_a_script_is_filled_anew",
    ),
    "hand over inside a script and believe the offset": (
        "tests/sim/test_scripts.py::test_a_leader_that_lost_its_role_inside_a_script_is_filled_anew",
    ),
    # what the simulation alone once did not find
    "no fresh read before guarded steps": (
        "tests/machine/test_reconcile.py::test_a_guarded_step_is_dropped_when_a_fresh_read_does_not_call_for_it",
        Seeds(1, 400),
    ),
    "take over with everybody proven": (f"{SCENARIO}[unreaped]", Seeds(1, 400)),
    "keep all of s at open": (f"{SCENARIO}[v03_old_leader_speaks]",),
    "hand over without looking for the marker": (
        "tests/machine/test_perform.py::test_no_failover_to_an_archive_without_the_terms_marker",
    ),
    "read a position without a fence": (
        "tests/machine/test_perform.py::test_an_engine_found_leading_is_fenced_before_its_position_is_read",
    ),
    # busy is not dead (decision 0021)
    "only a percentage is progress": (
        "tests/machine/test_progress.py::test_an_engine_that_loads_in_silence_is_said_to_work_some_times_in_each_failover_grace",
        Seeds(1, 400),
    ),
    "a living manager is progress": (
        "tests/machine/test_progress.py::test_an_engine_whose_process_does_nothing_is_not_said_to_work",
    ),
    "silence is a hang": ("tests/machine/test_progress.py::test_a_load_takes_as_long_as_it_takes",),
    # of the model (reference: safety model), as far as they are none of the above
    "required grows together with s": (f"{SCENARIO}[joining]",),
    "a resync acknowledges before its disk is new": (Seeds(1, 400),),
    "believe takeover without another read": (
        "tests/machine/test_perform.py::test_after_takeover_nobody_is_admitted_until_a_fresh_read_still_names_the_leader",
    ),
    "the position counts pfcount": (
        "tests/safety/test_choosing.py::test_an_older_copy_that_counted_distinct_does_not_lead",
        "tests/contract/test_engine_traps.py::test_a_follower_that_counts_distinct_writes_and_looks_no_newer[simulated]",
        "tests/engine/test_aof.py::test_a_position_ranks_by_commands_that_change_data",
    ),
    "a phantom that attaches by itself": (
        "tests/contract/test_engine.py::test_a_phantom_beside_a_loaded_living_leader_harms_nobody[simulated]",
    ),
    # planted by hand, and once found by stories only
    "grow as soon as a joiner is required": (Seeds(1, 400),),
    # what the field met (tests/sim/planting_field.py)
    "start as a leader": (Seeds(1, 400),),
    "a returning leader keeps its role": (Seeds(1, 400),),
    "start cold with the lowest": (Seeds(1, 400),),
    "refresh at every look": (Seeds(1, 400),),
    "empty what was cut off": (Seeds(1, 400),),
    "wait for every member": (Seeds(1, 400),),
    "commit on what another wrote": (Seeds(1, 400),),
    "removed nodes come back": (Seeds(1, 400),),
    "acknowledge before the disk has it": (Seeds(1, 400),),
    "a clock jump is a death": (Seeds(1, 400),),
    "a backend outage fences leaders": (Seeds(1, 400),),
    "a resync answers for the old history": (Seeds(1, 400),),
    # the guard (decision 0092)
    "guard nothing": ("tests/safety/test_guarding.py::test_it_is_fenced_before_another_leads_however_long_the_manager_was_dead",),
    "take a refusal for silence": ("tests/guard/test_judge.py",),
    "relieve a guard by whoever starts": ("tests/safety/test_guarding.py::test_a_manager_that_cannot_act_yet_relieves_no_guard",),
    # a dead leader's tail (decision 0011)
    "open without comparing": (Seeds(1, 400),),
    "the old id": ("tests/domain/test_tail.py::test_what_is_fed_begins_above_every_offset_of_the_dead_leaders_history",),
    "move the last leader at assign": (f"{SCENARIO}[tail_given_up]",),
    "shrink s at assign": (f"{SCENARIO}[tail_fed]",),
    "keep in s whoever was named": (f"{SCENARIO}[tail_given_up]",),
    "an heir that is not the furthest": (f"{SCENARIO}[tail_fed]",),
    "feed without the lock": (
        "tests/contract/test_engine_tail.py::test_nothing_is_fed_that_was_not_measured_or_without_the_lock[valkey]",
    ),
    "a feeder that stood still goes on": ("tests/contract/test_engine_tail.py::test_whoever_is_not_renewed_feeds_nobody",),
}

EVERY_TIME = ("let anyone shrink s", "judge confirmation by count", "no fresh read before guarded steps")


def in_a_process_of_its_own(name: str, catcher: str | Seeds) -> subprocess.CompletedProcess[str]:
    """Plant, and let the catcher look."""
    if isinstance(catcher, Seeds):
        words = ["-m", "tests.sim.planting", name, str(catcher.first), str(catcher.count)]
    else:
        words = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "tests.sim.planting", catcher]
    environment = {**os.environ, "DKV_MUTANT": name, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)


FIRST = [(name, CAUGHT_BY[name][0]) for name in EVERY_TIME]
CASES = [(name, catcher) for name, catchers in CAUGHT_BY.items() for catcher in catchers]


@pytest.mark.parametrize(
    ("name", "catcher"),
    [pytest.param(*case, marks=[] if case in FIRST else pytest.mark.full, id=f"{case[0]}: {case[1]}") for case in CASES],
)
def test_a_mutant_is_caught(name: str, catcher: str | Seeds) -> None:
    done = in_a_process_of_its_own(name, catcher)
    assert done.returncode == 1, f"'{name}' survived {catcher}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.full
@pytest.mark.parametrize("catcher", sorted({catcher for _, catcher in CASES if isinstance(catcher, str)}))
def test_what_catches_mutants_is_green_without_them(catcher: str) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", catcher]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_planted_bug_is_in_the_table() -> None:
    assert sorted(CAUGHT_BY) == sorted(PLANTS)
