"""Domain: which servers run a member of the etcd cluster that the domain state is on, and what is changed next. Pure.

One voter for one or two servers, three from three servers on, five from five: an even number needs one more for a majority, and
survives no more losses. A member begins as a learner, is promoted when it has caught up, and only then the next one is changed.
Facts: docs/reference/state-backends.md#members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dkv.domain.model import Server

REPLACED_AFTER = 300_000  # ms that a voter's server is away before another server's member takes its place
LEARNER_GIVEN_UP_AFTER = 30_000  # ms that a learner's server is away before its member is removed
VOTER, LEARNER = "voter", "learner"


@dataclass(frozen=True)
class Member:
    """A member as the cluster lists it: its id in the cluster, and the uid of its server; "" for an address of no server."""

    member_id: int
    server_uid: str
    learner: bool
    started: bool  # it has told the cluster its name


@dataclass(frozen=True)
class AddMember:
    """Add the member of a server, as a learner."""

    server_id: str
    because: str


@dataclass(frozen=True)
class PromoteMember:
    """Let a learner vote. The cluster refuses it until the learner has caught up."""

    member_id: int
    server_id: str
    because: str


@dataclass(frozen=True)
class RemoveMember:
    """Remove a member. `server_id` is "" where no server has its address."""

    member_id: int
    server_id: str
    because: str


MemberChange = AddMember | PromoteMember | RemoveMember


def voters_for(servers: int) -> int:
    """How many voters a domain has whose so many servers can run a member."""
    return 5 if servers >= 5 else 3 if servers >= 3 else 1


def next_change(servers: Mapping[str, Server], members: Sequence[Member], now: int) -> MemberChange | None:
    """The next change of the cluster's members; None while nothing is to be changed, or a learner is still to start. `now` is
    wall clock, ms.
    """
    by_uid = {server.uid: server for server in servers.values()}
    for member in members:
        if member.learner:
            return _next_of_learner(member, by_uid.get(member.server_uid), now)
    voters = [member for member in members if not member.learner]
    spare = _spare(servers, {member.server_uid for member in members})
    wanted = voters_for(sum(bool(server.etcd_port) for server in servers.values()))
    if change := _without_lost(voters, by_uid, spare, now):
        return change
    if len(voters) > wanted:
        return _surplus(voters, by_uid)
    staying = [voter for voter in voters if _stays(by_uid.get(voter.server_uid), now)]
    if len(staying) < wanted and spare:
        return AddMember(spare.server_id, f"{_servers(len(servers))} want {wanted} voters, and there {_are(len(staying))}")
    return None


def _next_of_learner(learner: Member, server: Server | None, now: int) -> MemberChange | None:
    if server is None:
        return RemoveMember(learner.member_id, "", "its server is in the domain no more")
    if _away(server, now) >= LEARNER_GIVEN_UP_AFTER:
        return RemoveMember(learner.member_id, server.server_id, "its server is away, and it does not vote yet")
    if not learner.started:
        return None
    return PromoteMember(learner.member_id, server.server_id, "it has caught up")


def _stays(server: Server | None, now: int) -> bool:
    """Whether a voter is counted on: its server is in the domain, and not away for long."""
    return server is not None and _away(server, now) < REPLACED_AFTER


def _without_lost(voters: Sequence[Member], by_uid: Mapping[str, Server], spare: Server | None, now: int) -> MemberChange | None:
    """The removal of a voter that does not come back. The last one is never removed, as it alone has the state: another is added
    first.
    """
    if len(voters) < 2:
        return None
    for voter in voters:
        server = by_uid.get(voter.server_uid)
        if server is None:
            return RemoveMember(voter.member_id, "", "its server is in the domain no more")
        if spare and _away(server, now) >= REPLACED_AFTER:
            because = f"its server is away for {_away(server, now) // 60_000} min, and {spare.server_id} can take its place"
            return RemoveMember(voter.member_id, server.server_id, because)
    return None


def _surplus(voters: Sequence[Member], by_uid: Mapping[str, Server]) -> MemberChange:
    """One voter too many goes: one whose server is away, else that of the last server by id."""
    known = [voter for voter in voters if voter.server_uid in by_uid]
    last = max(known, key=lambda voter: (not by_uid[voter.server_uid].alive, by_uid[voter.server_uid].server_id))
    server_id = by_uid[last.server_uid].server_id
    return RemoveMember(last.member_id, server_id, f"{_servers(len(by_uid))} want fewer voters than {len(voters)}")


def _spare(servers: Mapping[str, Server], with_member: set[str]) -> Server | None:
    """The server that may get the next member: alive, able to run one, on a host without one if there is such a host."""
    hosts = {server.host for server in servers.values() if server.uid in with_member}
    spares = [s for s in servers.values() if s.alive and s.etcd_port and s.uid not in with_member]
    return min(spares, key=lambda server: (server.host in hosts, server.server_id), default=None)


def _away(server: Server, now: int) -> int:
    """ms since a server's lease was found ended; 0 for one that is alive."""
    return 0 if server.alive else max(0, now - server.lost_at)


def _servers(number: int) -> str:
    return "1 server" if number == 1 else f"{number} servers"


def _are(number: int) -> str:
    return "is 1" if number == 1 else f"are {number}"


def holds_the_state_alone(servers: Mapping[str, Server], server: Server) -> bool:
    """Whether a server has the only voter."""
    return server.state_member == VOTER and sum(other.state_member == VOTER for other in servers.values()) == 1


def roles(members: Sequence[Member]) -> dict[str, str]:
    """The role of each server's member, by the server's uid."""
    return {member.server_uid: LEARNER if member.learner else VOTER for member in members if member.server_uid}
