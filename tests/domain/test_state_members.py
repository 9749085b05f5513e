"""Which servers get an etcd member of the domain state, and when one is replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain.model import Server
from dkv.domain.state_members import (
    ADDED_AGAIN_AFTER,
    DISK,
    ENDS,
    ENDS_SHOWN,
    LEARNER,
    LEARNER_GIVEN_UP_AFTER,
    LEARNER_STARTS_WITHIN,
    LEARNER_VOTES_WITHIN,
    NEEDS_FREE,
    QUOTA,
    REPLACED_AFTER,
    SIZE,
    AddMember,
    Lineage,
    Member,
    MemberChange,
    MemberHealth,
    MemberRules,
    OwnProcess,
    OwnStep,
    PromoteMember,
    RemoveMember,
    lineage,
    next_change,
    own_step,
    trouble_fix,
    trouble_of,
    trouble_text,
    voters_for,
)

NOW = 10_000_000


def server(name: str, away: int | None = None, etcd_port: int = 7901, host: str = "") -> Server:
    """A server; `away`: for so many ms."""
    alive, lost_at = away is None, 0 if away is None else NOW - away
    return Server(
        name, f"u{name}", host or f"10.0.0.{name[1:]}", 7801, 8888, "b", alive=alive, lost_at=lost_at, etcd_port=etcd_port
    )


def voter(name: str) -> Member:
    return Member(int(name[1:]), f"u{name}", learner=False, started=True)


def learner(name: str, *, started: bool) -> Member:
    return Member(int(name[1:]), f"u{name}", learner=True, started=started)


def change(servers: list[Server], *members: Member) -> MemberChange | None:
    return next_change({server.server_id: server for server in servers}, members, NOW)


@pytest.mark.parametrize(("servers", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (9, 5)])
def test_an_odd_number_of_servers_votes(servers: int, voters: int) -> None:
    assert voters_for(servers) == voters


def test_a_domain_grows_one_member_after_the_other() -> None:
    servers = [server("s1"), server("s2"), server("s3")]
    added = change(servers, voter("s1"))
    assert added == AddMember("s2", "3 servers want 3 voters, and there is 1")
    assert change(servers, voter("s1"), learner("s2", started=False)) is None
    promoted = change(servers, voter("s1"), learner("s2", started=True))
    assert isinstance(promoted, PromoteMember) and promoted.server_id == "s2"
    assert isinstance(change(servers, voter("s1"), voter("s2")), AddMember)
    assert change(servers, voter("s1"), voter("s2"), voter("s3")) is None


def test_a_voter_that_an_operator_gives_up_is_replaced_without_waiting() -> None:
    lost = replace(server("s3", away=1_000), gives_up_vote=True)
    servers = [server("s1"), server("s2"), lost, server("s4")]
    removed = change(servers, voter("s1"), voter("s2"), voter("s3"))
    assert isinstance(removed, RemoveMember) and removed.server_id == "s3"
    added = change(servers, voter("s1"), voter("s2"))
    assert isinstance(added, AddMember) and added.server_id == "s4"
    back = [replace(s, alive=True) for s in servers]
    assert change(back, voter("s1"), voter("s2"), voter("s3")) is None


def test_the_only_voter_that_is_given_up_is_removed_after_another_votes() -> None:
    servers = [replace(server("s1", away=1_000), gives_up_vote=True), server("s2")]
    added = change(servers, voter("s1"))
    assert isinstance(added, AddMember) and added.server_id == "s2"
    removed = change(servers, voter("s1"), voter("s2"))
    assert isinstance(removed, RemoveMember) and removed.server_id == "s1"


def test_one_voter_is_enough_for_two_servers_and_is_never_removed() -> None:
    assert change([server("s1"), server("s2")], voter("s1")) is None
    assert change([server("s1", away=REPLACED_AFTER - 1), server("s2")], voter("s1")) is None


def test_the_only_voter_is_replaced_before_it_is_removed() -> None:
    for servers in ([server("s1", away=REPLACED_AFTER), server("s2")], [server("s2")]):
        added = change(servers, voter("s1"))
        assert isinstance(added, AddMember) and added.server_id == "s2"
        removed = change(servers, voter("s1"), voter("s2"))
        assert isinstance(removed, RemoveMember) and removed.member_id == 1
    assert change([server("s1", away=REPLACED_AFTER)], voter("s1")) is None


def test_a_voter_whose_server_stays_away_is_replaced_where_another_server_can_vote() -> None:
    servers = [server("s1"), server("s2"), server("s3", away=REPLACED_AFTER), server("s4")]
    voters = voter("s1"), voter("s2"), voter("s3")
    removed = change(servers, *voters)
    assert isinstance(removed, RemoveMember) and removed.server_id == "s3" and "5 min" in removed.because
    added = change(servers, *voters[:2])
    assert isinstance(added, AddMember) and added.server_id == "s4"
    assert change(servers[:3], *voters) is None, "no other server can take its place"
    servers[2] = server("s3", away=REPLACED_AFTER - 1)
    assert change(servers, *voters) is None, "it may come back"


def test_the_member_of_a_deleted_server_goes_and_so_does_what_is_too_many() -> None:
    two = [server("s1"), server("s2")]
    removed = change(two, voter("s1"), voter("s2"), voter("s3"))
    assert isinstance(removed, RemoveMember) and removed.member_id == 3
    surplus = change(two, voter("s1"), voter("s2"))
    assert isinstance(surplus, RemoveMember) and surplus.server_id == "s2"
    away = change([server("s1", away=1_000), server("s2")], voter("s1"), voter("s2"))
    assert isinstance(away, RemoveMember) and away.server_id == "s1"


def test_a_learner_whose_server_is_away_or_gone_does_not_hold_the_others_up() -> None:
    servers = [server("s1"), server("s2", away=LEARNER_GIVEN_UP_AFTER), server("s3")]
    assert isinstance(change(servers, voter("s1"), learner("s2", started=False)), RemoveMember)
    assert isinstance(change([server("s1")], voter("s1"), learner("s2", started=True)), RemoveMember)


def test_the_next_member_is_on_a_host_without_one_and_never_where_none_can_run() -> None:
    beside = [server("s1", host="10.0.0.1"), server("s2", host="10.0.0.1"), server("s3"), server("s4", etcd_port=0)]
    added = change(beside, voter("s1"))
    assert isinstance(added, AddMember) and added.server_id == "s3"
    assert change([server("s1"), server("s2", etcd_port=0), server("s3", etcd_port=0)], voter("s1")) is None


def test_a_learner_that_does_not_start_is_given_up_and_another_server_has_its_turn() -> None:
    servers = [server("s1"), server("s2"), server("s3")]
    waiting = replace(servers[1], state_member=LEARNER, state_member_at=NOW - LEARNER_STARTS_WITHIN)
    early = replace(waiting, state_member_at=waiting.state_member_at + 1)
    assert change([servers[0], early, servers[2]], voter("s1"), learner("s2", started=False)) is None
    removed = change([servers[0], waiting, servers[2]], voter("s1"), learner("s2", started=False))
    assert removed == RemoveMember(2, "s2", "it did not start within 60 s: see its server's etcd.log")
    failed = replace(servers[1], member_failed_at=NOW)
    added = change([servers[0], failed, servers[2]], voter("s1"))
    assert isinstance(added, AddMember) and added.server_id == "s3"
    assert change([servers[0], failed, servers[2]], voter("s1"), voter("s3")) is None
    again = replace(failed, member_failed_at=NOW - ADDED_AGAIN_AFTER)
    added = change([servers[0], again, servers[2]], voter("s1"))
    assert isinstance(added, AddMember) and added.server_id == "s3", "what failed comes last"
    added = change([servers[0], again, servers[2]], voter("s1"), voter("s3"))
    assert isinstance(added, AddMember) and added.server_id == "s2"


def test_a_learner_that_does_not_catch_up_is_given_up() -> None:
    late = replace(server("s2"), state_member=LEARNER, state_member_at=NOW - LEARNER_VOTES_WITHIN)
    removed = change([server("s1"), late, server("s3")], voter("s1"), learner("s2", started=True))
    assert isinstance(removed, RemoveMember) and "did not catch up within 300 s" in removed.because
    early = replace(late, state_member_at=late.state_member_at + 1)
    assert isinstance(change([server("s1"), early, server("s3")], voter("s1"), learner("s2", started=True)), PromoteMember)


def test_an_operator_sets_how_many_vote_and_when_one_is_replaced() -> None:
    assert [voters_for(servers, 3) for servers in (1, 3, 5, 9)] == [1, 3, 3, 3]
    assert voters_for(9, 1) == 1
    servers = {name: server(name) for name in ("s1", "s2", "s3", "s4")}
    servers["s3"] = server("s3", away=2_000)
    voters = [voter("s1"), voter("s2"), voter("s3")]
    assert next_change(servers, voters, NOW) is None
    removed = next_change(servers, voters, NOW, MemberRules(replaced_after=2_000))
    assert isinstance(removed, RemoveMember) and removed.because == "its server is away for 2 s, and s4 can take its place"
    surplus = next_change(servers, voters, NOW, MemberRules(voters=1))
    assert isinstance(surplus, RemoveMember) and surplus.server_id == "s3"


NONE = OwnProcess(has_data=False, runs=False, begun_for=0)
VOTES = OwnProcess(has_data=True, runs=True, begun_for=7)
LISTED, NEW = Member(7, "u", learner=False, started=True), Member(9, "u", learner=True, started=False)


@pytest.mark.parametrize(
    ("listed", "process", "step"),
    [
        (None, NONE, OwnStep.REST),
        (None, VOTES, OwnStep.END_REMOVED),
        (None, replace(VOTES, runs=False), OwnStep.END_REMOVED),
        (None, replace(VOTES, has_data=False), OwnStep.END_REMOVED),
        (None, replace(VOTES, is_out_of_date=True, restarting=True), OwnStep.END_REMOVED),
        (LISTED, NONE, OwnStep.LEAVE),
        (LISTED, VOTES, OwnStep.REST),
        (LISTED, replace(VOTES, begun_for=0), OwnStep.REST),  # the first of a cluster, or one that was adopted
        (LISTED, replace(VOTES, runs=False), OwnStep.REST),  # it is started before anything is judged
        (LISTED, replace(VOTES, has_data=False), OwnStep.REST),  # it runs on without its files until it ends
        (LISTED, replace(VOTES, is_out_of_date=True), OwnStep.RESTART),
        (LISTED, replace(VOTES, is_out_of_date=True, restarting=True), OwnStep.RESTART),
        (LISTED, replace(VOTES, restarting=True), OwnStep.END_RESTART),
        (NEW, NONE, OwnStep.BEGIN),
        (NEW, VOTES, OwnStep.BEGIN),  # its data is of a membership that ended
        (NEW, replace(VOTES, begun_for=9), OwnStep.REST),  # it is being started
        (NEW, replace(VOTES, begun_for=9, runs=False), OwnStep.BEGIN),
        (NEW, replace(VOTES, begun_for=9, is_out_of_date=True), OwnStep.RESTART),
    ],
)
def test_what_a_manager_does_with_its_own_member(listed: Member | None, process: OwnProcess, step: OwnStep) -> None:
    assert own_step(listed, process) is step


@pytest.mark.parametrize(
    ("own", "other", "kinship"),
    [
        ([], [], Lineage.SAME),
        (["a"], ["a"], Lineage.SAME),
        ([], ["a"], Lineage.FORMER),
        (["a"], ["a", "b"], Lineage.FORMER),
        (["a"], [], Lineage.LATER),
        (["a", "b"], ["a"], Lineage.LATER),
        (["a"], ["b"], Lineage.OTHER),  # two recoveries on two servers that did not reach each other
        (["a"], ["b", "c"], Lineage.OTHER),  # although there were more of them
        (["a", "c"], ["a", "b"], Lineage.OTHER),
    ],
)
def test_which_of_two_states_of_a_domain_was_given_up(own: list[str], other: list[str], kinship: Lineage) -> None:
    assert lineage(own, other) is kinship


@pytest.mark.parametrize(
    ("health", "before", "trouble"),
    [
        (MemberHealth(NEEDS_FREE, 0, 0), "", ""),
        (MemberHealth(NEEDS_FREE - 1, 0, 0), "", DISK),
        (MemberHealth(NEEDS_FREE + 1, 0, 0), DISK, DISK),
        (MemberHealth(2 * NEEDS_FREE, 0, 0), DISK, ""),
        (MemberHealth(-1, -1, 0), "", ""),
        (MemberHealth(-1, QUOTA * 8 // 10, 0), "", ""),
        (MemberHealth(-1, QUOTA * 8 // 10 + 1, 0), "", SIZE),
        (MemberHealth(-1, QUOTA * 3 // 4, 0), SIZE, SIZE),
        (MemberHealth(-1, QUOTA * 6 // 10, 0), SIZE, ""),
        (MemberHealth(-1, -1, ENDS_SHOWN), "", ENDS),
        (MemberHealth(0, -1, ENDS_SHOWN), ENDS, DISK),
    ],
)
def test_what_is_wrong_with_a_member_is_told_until_it_is_less_by_some(health: MemberHealth, before: str, trouble: str) -> None:
    assert trouble_of(health, before) == trouble


def test_a_trouble_of_a_later_release_has_words_too() -> None:
    assert "colour" in trouble_text("colour") and trouble_fix("colour")
