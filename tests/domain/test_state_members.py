"""Which servers get an etcd member of the domain state, and when one is replaced."""

from __future__ import annotations

import pytest

from dkv.domain.model import Server
from dkv.domain.state_members import (
    LEARNER_GIVEN_UP_AFTER,
    REPLACED_AFTER,
    AddMember,
    Member,
    MemberChange,
    PromoteMember,
    RemoveMember,
    next_change,
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
