"""Every state in which something can wait says for whom, since when and what helps; what is well says nothing."""

from __future__ import annotations

import pytest

from dkv.domain.blocked import BlockedItem, blocked
from dkv.domain.status import can_lose, store_status
from dkv.domain.writes_refused import WRITE_REFUSALS
from tests.domain.verbs import ScenarioRunner

BEGIN = "servers A B; create db on=A,B; "
UP = BEGIN + "start db-1 db-2; up db; "
STOPPED = UP + "shutdown db; clean db-1 db-1; left db-2; left db-1; "  # as a whole, clean
AGAIN = "shrink db-2; started db-2; configured db-2; loaded db-2; "  # db-2 has ended and is back, and may not join yet
TLS = (
    "servers A B tls; create db on=A,B tls=on; found-authority u1 first; start db-1 db-2; up db; certificate-seen db-1 0A; "
    "certificate-seen db-2 0B; "
)
TE = "start-te db on=B; started {te}; configured {te}; loaded {te}; synced {te}; "

CASES: dict[str, tuple[str, str, str, str, str]] = {
    # state: (how it comes about, who waits, for whom, why, what helps)
    "requested, its manager does not take it": (
        BEGIN + "start db-1",
        "process 0 (db-1)",
        "the manager of A",
        "its manager has not taken the request yet",
        "log of the manager of A",
    ),
    "requested, its server is away": (
        BEGIN + "start db-1; lost A",
        "process 0 (db-1)",
        "server A",
        "its server is away",
        "give up process",
    ),
    "its server is away": (
        UP + "lost B",
        "server B",
        "the manager of B",
        "its lease ended; archives on it: 1, processes: 1",
        "Start the manager of server B",
    ),
    "started, waits for histories": (
        STOPPED + "start db-2; started db-2 marker=1-1",
        "process 2 (db-2)",
        "db-1",
        "its group has no leader yet: db-1 was stopped by an operator",
        "Start it",
    ),
    "the group waits for histories": (
        STOPPED + "start db-2; started db-2 marker=1-1",
        "group db/UNPARTITIONED",
        "db-1",
        "db-1 was stopped by an operator",
        "Start it",
    ),
    "launched, loading": (
        BEGIN + "start db-1; started db-1; configured db-1; loading db-1 40",
        "process 0 (db-1)",
        "its engine",
        "40 %",
        "",
    ),
    "a TE waits for entry": (
        BEGIN + "start-te db on=B; started 0; configured 0; loaded 0",
        "process 0",
        "group UNPARTITIONED",
        "when every group has its leader",
        "Start the archives",
    ),
    "loaded, its group has no leader": (
        BEGIN + "start db-1 db-2; started db-1; started db-2; configured db-2; loaded db-2",
        "process 1 (db-2)",
        "db-1",
        "as soon as its group has a leader",
        "has to finish",
    ),
    "loaded, not let in yet": (
        UP + "exit db-2; " + AGAIN,
        "process 2 (db-2)",
        "the manager of db-1",
        "has not let it join yet",
        "",
    ),
    "joining does not get further": (
        UP + "exit db-2; " + AGAIN + "join db-2",
        "process 2 (db-2)",
        "db-1",
        "copies the data",
        "disk room",
    ),
    "joining while a hot copy cuts": (
        UP + "hotcopy db db-1=/b/1; prepared db-1; exit db-2; " + AGAIN + "join db-2",
        "process 2 (db-2)",
        "hot copy 1",
        "after hot copy 1 has made its cut",
        "",
    ),
    "joining for the want of which writes are refused, hot copy or not": (
        UP + "hotcopy db db-1=/b/1; prepared db-1; options db min-in-sync=2; exit db-2; " + AGAIN + "join db-2",
        "process 2 (db-2)",
        "db-1",
        "copies the data",
        "disk room",
    ),
    "joining again after its disk was full": (
        UP + 'exit db-2 cause="disk full"; ' + AGAIN + "join db-2",
        "process 2 (db-2)",
        "db-1",
        "copies the data",
        "make room on the disk of B",
    ),
    "an option is not set on its engine yet": (
        UP + "options db max-memory=64MB; options-seen db-1 memory=67108864",
        "process 1 (db-2)",
        "the manager of B",
        "it still runs with max-memory its share instead of 67108864",
        "Its manager goes on trying",
    ),
    "an option is not set, its server is away": (
        UP + "options-seen db-2; options db append-fsync=no; lost B",
        "process 1 (db-2)",
        "the manager of B",
        "it still runs with append-fsync always instead of no",
        "Start the manager of server B",
    ),
    "an option that only a restart takes away": (
        UP + "options db max-memory=64MB; options-seen db-1 memory=67108864; options-seen db-2 memory=67108864; options db only",
        "process 0 (db-1)",
        "its restart",
        "it still runs with max-memory 67108864 instead of its share",
        "Restart store db process by process.",
    ),
    "a stranger took its hash slots": (
        UP + "robbed db-1",
        "group db/UNPARTITIONED",
        "db-1",
        "which the domain does not know, took its hash slots",
        "Unknown nodes on the cluster bus",
    ),
    "an enforced archive without a process": (
        STOPPED + "enforce db-2 allow-data-loss reason=lost",
        "group db/UNPARTITIONED",
        "db-2",
        "an operator enforced db-2",
        "start instance db-2 of store db",
    ),
    "an enforced archive without a process, others run": (
        UP + "exit db-1; exit db-2; stop db-2 kill; exit db-2 planned; enforce db-2 allow-data-loss reason=lost",
        "group db/UNPARTITIONED",
        "db-2",
        "db-2 was stopped by an operator",
        "start instance db-2 of store db",
    ),
    "held back after ends in a row": (
        UP + "exit db-2 because=bad; exit db-2 because=bad; exit db-2 because=bad",
        "process 4 (db-2)",
        "its next try",
        "its last 3 processes ended before or soon after they ran: bad; the next one starts at 01:00:10Z",
        "Cure the cause; it starts at once with: start instance db-2 of store db; or, while another copy is in sync, replace",
    ),
    "held back by a full disk": (
        UP + 3 * 'exit db-2 cause="disk full" because=full; ',
        "process 4 (db-2)",
        "room on the disk of B",
        "its last 3 processes ended before or soon after they ran: full; the next one starts at 01:00:02Z, or as soon as "
        "the disk has room again",
        "or the manager's data; it starts at once with: start instance db-2 of store db.",
    ),
    "held back without a reason that could go away": (
        UP + 2 * "exit db-2 because=odd; ",
        "process 3 (db-2)",
        "its next try",
        "odd; the next one starts at 01:00:05Z",
        "start instance db-2 of store db",
    ),
    "ended and nobody starts it again": (
        UP + "exit db-2 planned",
        "archive 1 (db-2)",
        "an operator",
        "it does not run",
        "Start it: start instance",
    ),
    "deleted, its directory is not renamed": (
        UP + "stop db-2; shrink db-2; left db-2; delete-archive db-2; lost B",
        "archive 1 (db-2)",
        "the manager of B",
        "its directory is renamed by its manager",
        "Start the manager of server B",
    ),
    "a leader is being stopped": (
        UP + "stop db-1",
        "process 0 (db-1)",
        "its successor",
        "hands over before it stops",
        "kill process",
    ),
    "a follower is being stopped": (
        UP + "stop db-2",
        "process 1 (db-2)",
        "the manager of db-1",
        "leaves the in-sync set",
        "kill process",
    ),
    "an engine is being killed": (UP + "stop db-2 kill", "process 1 (db-2)", "its engine", "it is being killed", "kill process"),
    "a leader is being killed while another group hands over": (
        "servers A B; create db on=A,A,B,B groups=2; start db-1 db-2 db-3 db-4; up db; handover db-3; stop db-4 kill",
        "process 3 (db-4)",
        "group g1",
        "one group hands over at a time",
        "kill process",
    ),
    "a shutdown waits for its TEs": (
        UP + TE.format(te=2) + "shutdown db",
        "database db",
        "process 2",
        "its TEs stop before its SMs",
        "by force",
    ),
    "a shutdown waits for a clean stop": (
        UP + "shutdown db",
        "database db",
        "process 0, process 1",
        "its SMs stop once every copy in sync",
        "by force",
    ),
    "a handover stands": (UP + "handover db-2", "group db/UNPARTITIONED", "db-2", "db-2 is to lead", "Look at the logs"),
    "a switchover was asked for": (
        UP + "switchover db",
        "group db/UNPARTITIONED",
        "the manager of db-1",
        "is to be handed over",
        "",
    ),
    "below minInSync": (
        "servers A B; create db min=2 on=A,B; start db-1 db-2; up db; exit db-2; shrink db-2",
        "group db/UNPARTITIONED",
        "db-2",
        "1 of 2 copies are in sync, so writes are refused",
        "Writes are accepted again when",
    ),
    "the leader's manager is away": (
        UP + "lost A",
        "group db/UNPARTITIONED",
        "db-1",
        "the manager of db-1 is away",
        "Start the manager of server A",
    ),
    "the leader hangs": (
        UP + "engine-silent db-1",
        "process 0 (db-1)",
        "its engine",
        "its engine does not answer",
        "kill process",
    ),
    "a former leader is not proven stopped": (
        UP + "lost A; silent db-2; position db-2 marker=1-1",
        "group db/UNPARTITIONED",
        "db-1",
        "db-1 is on server A",
        "Bring server A back",
    ),
    "chosen to lead, not open yet": (
        BEGIN + "start db-1; started db-1",
        "group db/UNPARTITIONED",
        "db-1",
        "was chosen to lead in term 1 and is being",
        "has to finish",
    ),
    "chosen to lead, and given the dead leader's tail": (
        "servers A B; create db on=A,B tail=0; start db-1 db-2; up db; exit db-1; started db-1 marker=1-1+900; "
        "position db-2 marker=1-1+700 offset=800 history=h1 digest=seven",
        "group db/UNPARTITIONED",
        "db-2",
        "db-2 was chosen to lead in term 2 and first receives the writes that only the disk of db-1 has",
        "after 2 s without progress db-1 is restarted instead",
    ),
    "its leader is busy for ever": (
        UP + "refuses db-1 why=BUSY",
        "group db/UNPARTITIONED",
        "db-1",
        "db-1 leads and refuses writes: it is busy with a script",
        "kill process 0, then start instance db-1 of store db",
    ),
    "its leader's memory is full": (
        UP + "refuses db-1 why=OOM",
        "group db/UNPARTITIONED",
        "db-1",
        "its memory is full",
        "set the option max-memory of store db to BYTES",
    ),
    "its leader's disk is full": (
        UP + "refuses db-1 why=MISCONF",
        "group db/UNPARTITIONED",
        "db-1",
        "cannot write its append-only file",
        "Make room on the disk of A",
    ),
    "its authority is changed, a server is away": (
        TLS + "rotate u1 second; lost B",
        "authority of database db",
        "the manager of B",
        "(PREPARED): every server has to trust the new one",
        "go on: change the authority of store db without server B",
    ),
    "a change of its authority is held": (
        TLS + "rotate u1 second hold; certificate-seen db-1 1A of=first,second; certificate-seen db-2 1B of=first,second",
        "authority of database db",
        "an operator",
        "was to stop once every server trusts the new one beside the old one",
        "go on with the change of the authority of store db",
    ),
    "an engine's certificate was not renewed": (
        TLS + "certificate-seen db-2 0C days=20",
        "process 1 (db-2)",
        "the manager of B",
        "its certificate ends in 19 days and was not renewed",
        "Look at the log of the manager of B",
    ),
    "the managers' password is changed, an engine loads": (
        BEGIN + "start db-1; started db-1; configured db-1; rotate-secret db " + 32 * "n",
        "process 0 (db-1)",
        "the manager of A",
        "a change of the database's users has not reached it yet",
        "Its manager goes on trying",
    ),
    "a rolling restart": (
        UP + "restart db rolling",
        "database db",
        "process 1 (db-2)",
        "it is being restarted: it is stopping",
        "give up process",
    ),
    "a whole restart": (UP + "restart db", "database db", "process 0, process 1", "all of it stops", "by force"),
    "a rolling restart that is too thin": (
        UP + "restart db rolling; stop db-2 force; shrink db-2; left db-2",
        "database db",
        "group UNPARTITIONED",
        "needs 1 for writes, so none can be spared",
        "start instance db-2 of store db",
    ),
}


def played(scenario: str) -> ScenarioRunner:
    runner = ScenarioRunner()
    for line in (part.strip() for part in scenario.split(";")):
        if line:
            assert "refused" not in runner.run(line)[0], line
    runner.world.pass_time(1_000)
    return runner


@pytest.mark.parametrize("case", CASES)
def test_what_waits_says_for_whom_since_when_and_what_helps(case: str) -> None:
    scenario, subject, whom, reason, fix = CASES[case]
    world = played(scenario).world
    items = blocked(world.state, now=world.now)
    mine = [item for item in items if item.subject == subject and whom in item.waits_for and reason in item.reason]
    assert mine, [(item.subject, item.waits_for, item.reason, item.hint) for item in items]
    assert any(fix in str(item.hint) for item in mine), mine
    no_moment = "renamed" in reason
    assert no_moment or all(item.since for item in mine), mine


BLOCKS = {
    # scenario: whether clients' writes wait or are refused because of it
    UP + "lost A": False,
    UP + "lost B": False,
    UP + "engine-silent db-2": False,
    UP + "engine-silent db-1": True,
    UP + "refuses db-1 why=PAUSED": True,
    UP + "refuses db-1 why=OOM; refuses db-1 why=MISCONF": True,
    UP + "exit db-1": True,
    UP + "exit db-2": False,
    UP + "switchover db": False,
    "servers A B; create db on=A,B min=2; start db-1 db-2; up db; exit db-2; shrink db-2": True,
}


@pytest.mark.parametrize("scenario", BLOCKS)
def test_what_keeps_writes_from_being_taken_is_marked_and_no_store_is_running_then(scenario: str) -> None:
    state = played(scenario).world.state
    (group,) = state.groups_of("db")
    items = blocked(state, "db")
    assert any(item.blocks for item in items) == BLOCKS[scenario], items
    if BLOCKS[scenario]:
        assert store_status(state, "db") == "Partial"
        assert can_lose(state, group)[1] == 0 or not group.serving
    assert can_lose(state, group)[0] in (0, 1)


def test_a_leader_that_takes_writes_again_makes_nobody_wait() -> None:
    state = played(UP + "refuses db-1 why=OOM; refuses db-1").world.state
    assert blocked(state) == []
    assert store_status(state, "db") == "Running"


def test_every_reason_to_refuse_writes_says_what_helps_and_names_what_there_is() -> None:
    for why in WRITE_REFUSALS:
        (item,) = [item for item in blocked(played(UP + f"refuses db-1 why={why}").world.state) if item.blocks]
        assert item.hint, why
        assert "{" not in str(item.hint), item.hint


@pytest.mark.parametrize("scenario", [BEGIN, UP, UP + TE.format(te=2), STOPPED])
def test_what_is_well_or_was_stopped_waits_for_nobody(scenario: str) -> None:
    assert blocked(played(scenario).world.state) == []


def test_one_store_is_asked_about_alone() -> None:
    runner = played(UP + "create other on=A; start other-1; lost B")
    state = runner.world.state
    assert {item.database for item in blocked(state, "other")} == {"other"}
    assert {item.subject for item in blocked(state, "db")} == {"server B", "process 1 (db-2)"}


def test_each_entry_reads_as_a_sentence() -> None:
    for scenario, *_ in CASES.values():
        for item in blocked(played(scenario).world.state):
            assert isinstance(item, BlockedItem)
            assert item.waits_for, item
            assert item.reason[-1] != ".", item
            assert not item.hint or str(item.hint)[-1] == ".", item
