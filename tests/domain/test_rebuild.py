"""A state made anew from archives, or put back from a backup: who may lead, what is never used twice, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dkv.domain import invariants
from dkv.domain.decision import Refused
from dkv.domain.model import ArchiveState, DatabaseState, PositionReport, Server, State
from dkv.domain.rebuild import Finds, FoundArchive, NodesFile, Rebuilt, rebuild
from dkv.domain.restore import restored, unknown
from tests.domain.test_describe import VACANT, A, B, C, StateBuilder

SERVERS = tuple(Server(f"s{i}", f"u{i}", f"10.0.0.{i}", 7801, 8888, "") for i in (1, 2, 3))
ALL = ((0, 16383),)
NODES = NodesFile(shard_id="f" * 40, epoch=300)


def archive(number: int, report: PositionReport | None = None, **more: Any) -> FoundArchive:
    """Archive 1, 2 or 3 of a store with a single group, on the server of the same number."""
    plain: dict[str, Any] = {
        "directory": f"/d{number}",
        "server_id": f"s{number}",
        "name": f"o-{number}",
        "path": "",
        "domain_uid": "d",
        "archive_id": number,
        "database": "o",
        "database_uid": "u",
        "group": "g",
        "initialised": True,
        "report": report,
        "cluster_port": 7811,
        "client_port": 7861,
        "slots": ALL,
        "nodes": NODES,
        "node_id": f"{number:040x}",
        "secret": "word",
    }
    return FoundArchive(**plain | more)


def made(*archives: FoundArchive, **more: Any) -> Rebuilt:
    rebuilt = rebuild(Finds(SERVERS, archives, **more), "fresh")
    assert isinstance(rebuilt, Rebuilt), rebuilt
    invariants.check(State(), rebuilt.state)
    return rebuilt


def refusal(*archives: FoundArchive, servers: tuple[Server, ...] = SERVERS) -> str:
    rebuilt = rebuild(Finds(servers, archives), "fresh")
    assert isinstance(rebuilt, Refused)
    assert rebuilt.hint
    return rebuilt.message


NEW, OLD = PositionReport(5, 2, "n", 100), PositionReport(5, 1, "n", 900)


def test_only_the_newest_position_and_its_equals_may_lead() -> None:
    group = made(archive(1, OLD), archive(2, NEW), archive(3, NEW)).state.groups[("o", "g")]
    assert group.in_sync == (2, 3)
    assert group.last_leader == 2


def test_the_archive_a_few_bytes_ahead_leads_alone_since_only_it_is_never_behind() -> None:
    counted = replace(NEW, bytes_after=126, dataless_bytes=26)
    group = made(archive(1, NEW), archive(2, replace(NEW, bytes_after=101)), archive(3, counted)).state.groups[("o", "g")]
    assert (group.in_sync, group.last_leader) == ((2,), 2)


def test_without_any_marker_the_one_that_led_last_leads() -> None:
    group = made(
        archive(1, PositionReport()), archive(2, PositionReport(), nodes=replace(NODES, led=True)), archive(3, PositionReport())
    ).state.groups[("o", "g")]
    assert group.in_sync == (2,)


def test_an_archive_without_a_marker_is_doubted_beside_one_that_has_one() -> None:
    rebuilt = made(archive(1, PositionReport()), archive(2, OLD), archive(3, None, trouble="corrupt"))
    assert rebuilt.state.groups[("o", "g")].in_sync == (2,)
    assert any("how new o-1 is" in line for line in rebuilt.unknown)
    assert any("how new o-3 is" in line for line in rebuilt.unknown)


def test_terms_and_ids_go_on_above_everything_seen() -> None:
    state = made(archive(1, NEW, nodes=replace(NODES, epoch=902)), deleted=(40,), start_ids=(7, 12)).state
    assert state.groups[("o", "g")].term > 9
    assert state.next_archive_id > 40
    assert state.next_start_id > 12
    assert made(archive(1, NEW)).state.next_start_id > 0


def test_archives_keep_who_they_are_and_none_of_them_runs() -> None:
    state = made(archive(1, NEW), archive(2, initialised=False)).state
    assert state.archives[1].state is ArchiveState.NOT_RUNNING
    assert state.archives[2].state is ArchiveState.PROVISIONED
    assert (state.uid, state.databases["o"].uid, state.databases["o"].secret) == ("d", "u", "word")
    assert state.databases["o"].options.replication_factor == 2
    assert not any(server.alive for server in state.servers.values())


def test_a_store_that_never_had_data_begins_as_it_would_have() -> None:
    group = made(archive(1, initialised=False), archive(2, initialised=False)).state.groups[("o", "g")]
    assert (group.term, group.last_leader, group.in_sync) == (0, None, ())


def test_lost_ports_and_passwords_are_made_anew_and_said() -> None:
    rebuilt = made(archive(1, NEW, secret=""), archive(2, OLD, secret="", server_id="s1", cluster_port=0, client_port=0))
    ports = [(a.cluster_port, a.client_port) for a in rebuilt.state.archives.values()]
    assert ports == [(7811, 7861), (7812, 7862)]
    assert len(rebuilt.state.databases["o"].secret) == 40
    assert any("gets 7812 and 7862" in line for line in rebuilt.unknown)
    assert any("password of o" in line for line in rebuilt.unknown)


def test_an_archive_that_was_removed_and_kept_does_not_take_the_ports_of_the_one_in_its_place() -> None:
    rebuilt = made(archive(1, OLD), archive(2, NEW, server_id="s1"), archive(3, NEW))
    ports = {a.archive_id: (a.cluster_port, a.client_port) for a in rebuilt.state.archives.values()}
    assert ports == {1: (7812, 7862), 2: (7811, 7861), 3: (7811, 7861)}
    assert any(line.startswith("whether o-1 was removed and kept") and "7812 and 7862" in line for line in rebuilt.unknown)


def test_an_engine_that_others_knew_and_whose_archive_is_missing_is_named() -> None:
    rebuilt = made(
        archive(1, NEW, nodes=replace(NODES, peers=(("9" * 40, "10.0.0.9:7861"),))),
        archive(2, NEW, nodes=replace(NODES, peers=((f"{1:040x}", "x"),))),
    )
    missing = [line for line in rebuilt.unknown if "not under these directories" in line]
    assert missing == ["the archive of the engine at 10.0.0.9:7861, which o-1 knew: it is not under these directories"]


def test_the_slots_of_one_group_may_be_told_by_the_others() -> None:
    state = made(
        archive(1, NEW, slots=((0, 99), (200, 16383))), archive(2, NEW, group="h", slots=(), nodes=replace(NODES, shard_id=""))
    ).state
    assert state.groups[("o", "h")].slots == ((100, 199),)
    assert len(state.groups[("o", "h")].shard_id) == 40


@pytest.mark.parametrize(
    ("archives", "says"),
    [
        ((), "No archive was found"),
        ((archive(1), archive(2, domain_uid="e")), "two different domains"),
        ((archive(1), archive(1, directory="/copy")), "/d1 and /copy both say they are archive 1"),
        ((archive(1), archive(2, database_uid="v")), "two stores that both were named o"),
        ((archive(1, slots=((0, 99),)),), "do not hold every hash slot once"),
        ((archive(1), archive(2, group="h", slots=((5, 6),))), "do not hold every hash slot once"),
    ],
)
def test_what_is_not_one_whole_domain_is_refused(archives: tuple[FoundArchive, ...], says: str) -> None:
    assert says in refusal(*archives)


def test_a_data_directory_and_its_copy_are_refused() -> None:
    assert "of server s1" in refusal(archive(1), servers=(SERVERS[0], replace(SERVERS[1], server_id="s1")))


# A backup ------------------------------------------------------------------------------------------------------------


def put_back(builder: StateBuilder) -> State:
    state = restored(builder.state())
    invariants.check(State(), state)
    return state


def test_nothing_that_a_backup_says_runs_is_believed() -> None:
    state = put_back(StateBuilder())
    assert not state.processes
    assert state.databases["o"].state is DatabaseState.NOT_RUNNING
    assert {a.state for a in state.archives.values()} == {ArchiveState.NOT_RUNNING}
    assert not any(server.alive for server in state.servers.values())


def test_every_archive_with_data_is_asked_since_the_set_may_have_changed() -> None:
    builder = StateBuilder(**VACANT | {"in_sync": (A,)}).without(C)
    builder.archives[C] = replace(builder.archives[C], state=ArchiveState.PROVISIONED)
    group = put_back(builder).groups[("o", "g")]
    assert group.leader is None
    assert group.contested == group.in_sync == (A, B)


def test_ids_and_terms_given_out_since_are_jumped_over() -> None:
    old = StateBuilder().state()
    state = restored(old)
    assert state.next_start_id >= old.next_start_id + 1_000_000
    assert state.next_archive_id > old.next_archive_id + 100
    assert state.groups[("o", "g")].term > old.groups[("o", "g")].term + 100
    assert any(str(state.next_start_id) in line for line in unknown(old))
