"""Semantics that are easy to get wrong, each with the tests that prove it. A proof that is renamed away fails here.

A proof is `file::test`, or `file` for a scenario, which is replayed word by word by tests/domain/test_scenarios.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

PROOFS: dict[str, tuple[str, ...]] = {
    "major counts cold starts, minor every exit; also of a start of TEs alone and of one that failed": (
        "scenarios/documented_example.txt",
        "scenarios/numbers.txt",
        "domain/test_forced_stop.py::test_every_end_counts_in_the_incarnation",
        "e2e/test_states.py::test_whoever_is_killed_whenever_all_is_whole_again",
    ),
    "start ids are the domain's, never used again": (
        "scenarios/numbers.txt",
        "domain/test_properties.py::test_any_plausible_history_holds",
        "e2e/test_states.py::test_whoever_is_killed_whenever_all_is_whole_again",
        "domain/test_rebuild.py::test_ids_and_terms_given_out_since_are_jumped_over",
    ),
    "node ids begin at 1 in each incarnation; the first leader is 1": (
        "scenarios/numbers.txt",
        "scenarios/documented_example.txt",
        "scenarios/machine_restarted.txt",
        "e2e/test_nuocmd.py::test_the_worked_example",
    ),
    "tombstones are kept with the incarnation at exit, newest first, within a bound": (
        "scenarios/numbers.txt",
        "api/test_wire.py::test_tombstones_of_a_store_stand_in_the_order_in_which_they_were_counted",
        "domain/test_tombstones.py::test_the_oldest_of_an_incarnation_goes_and_that_is_said_once",
        "e2e/test_documented_example.py::test_the_documented_example_typed_with_dkv",
    ),
    "expectedIncarnation is honoured on every request of a plan": (
        "domain/test_startplan.py::test_a_one_time_plan_quotes_the_incarnation_it_will_open_and_each_of_its_requests_passes",
        "api/nuodb/test_processes.py::test_a_process_that_ends_between_plan_and_request_makes_the_rest_of_the_plan_fail",
        "api/nuodb/test_processes.py::test_a_request_for_another_incarnation_is_refused",
    ),
    "plans are full or incremental, reusable or for one time": (
        "domain/test_startplan.py::test_a_database_that_does_not_run_gets_a_full_plan",
        "domain/test_startplan.py::test_of_a_running_database_only_what_is_missing_is_planned",
        "api/nuodb/test_databases.py::test_a_plan_is_reusable_or_for_one_time_and_lists_what_is_missing",
    ),
    "a PROVISIONED archive causes no ..._INC and holds no cold start up": (
        "scenarios/provisioned_beside.txt",
        "e2e/test_nuocmd.py::test_the_worked_example",
    ),
    "a database in ..._INC serves": ("scenarios/provisioned_beside.txt", "e2e/test_states.py::lone_leader"),
    "the leader comes first: nobody joins before the unpartitioned group's leader runs": (
        "scenarios/bootstrap.txt",
        "scenarios/groups.txt",
        "e2e/test_states.py::tracked_follower",
    ),
    "a lost archive is purged and the rest starts; the only copy in sync is not purged without a word": (
        "scenarios/lost_archive_purged.txt",
        "scenarios/enforce_leader.txt",
        "e2e/test_recovery.py::test_an_operator_makes_the_other_copy_lead",
    ),
    "a start of an archive that is live, unknown, or on another server": (
        "scenarios/stop_early.txt",
        "e2e/test_nuocmd.py::test_what_cannot_be_is_said_in_one_sentence",
    ),
    "two starts that race are one process": (
        "api/nuodb/test_processes.py::test_two_starts_of_one_archive_through_two_managers_are_one_process",
        "e2e/test_life.py::test_one_idempotency_key_through_two_managers_is_one_change",
    ),
    "a shutdown of a process that is leaving already": (
        "scenarios/stop_early.txt",
        "scenarios/planned_stop.txt",
        "scenarios/whole_stop.txt",
    ),
    "a kill in every life-cycle state, of the process, of its manager, of both": (
        "e2e/test_states.py::test_whoever_is_killed_whenever_all_is_whole_again",
        "scenarios/stop_early.txt",
        "machine/test_restarts.py::test_a_manager_may_die_between_any_two_awaits",
        "sim/test_fleet.py",
        "e2e/test_memory_only.py::test_tes_come_and_go_under_load_and_no_client_sees_it",
    ),
    "a cold start needs an archive with the newest data only, and says for whom it waits, since when, and what helps": (
        "scenarios/cold_start.txt",
        "scenarios/cold_start_markers.txt",
        "scenarios/cold_start_one_requested.txt",
        "scenarios/documented_example.txt",
        "domain/test_describe.py::test_a_vacant_group_names_the_members_it_lacks_and_what_would_help",
    ),
}


@pytest.mark.parametrize("meaning", sorted(PROOFS))
def test_it_is_proven_where_it_says(meaning: str) -> None:
    assert PROOFS[meaning]
    for proof in PROOFS[meaning]:
        path, _, name = proof.partition("::")
        text = (TESTS / path).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in text, f"{proof} is not there any more"
