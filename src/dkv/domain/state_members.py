"""Domain: which servers run a member of the etcd cluster that the domain state is on, and what is changed next. Pure.

One voter for one or two servers, three from three servers on, five from five: an even number needs one more for a majority, and
survives no more losses. A member begins as a learner, is promoted when it has caught up, and only then the next one is changed.
Facts: docs/reference/state-backends.md#members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from dkv.domain.model import Server

REPLACED_AFTER = 300_000  # ms that a voter's server is away before another server's member takes its place
LEARNER_GIVEN_UP_AFTER = 30_000  # ms that a learner's server is away before its member is removed
LEARNER_STARTS_WITHIN = 60_000  # ms after its addition; then it is removed, so that other changes are not held up
LEARNER_VOTES_WITHIN = 300_000  # ms after its addition: it has started, and does not catch up
ADDED_AGAIN_AFTER = 600_000  # ms after a member of a living server was removed before it voted
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


@dataclass(frozen=True)
class MemberRules:
    """What an operator may set: how many voters there are at most, 0 for as many as `voters_for` gives, and after how many ms
    without its server a voter is replaced.
    """

    voters: int = 0
    replaced_after: int = REPLACED_AFTER


def voters_for(servers: int, most: int = 0) -> int:
    """How many voters a domain has whose so many servers can run a member; at most that many, 0: no limit was set."""
    usual = 5 if servers >= 5 else 3 if servers >= 3 else 1
    return min(usual, most or usual)


def next_change(
    servers: Mapping[str, Server], members: Sequence[Member], now: int, rules: MemberRules = MemberRules()
) -> MemberChange | None:
    """The next change of the cluster's members; None while nothing is to be changed, or a learner is still to start. `now` is
    wall clock, ms.
    """
    by_uid = {server.uid: server for server in servers.values()}
    for member in members:
        if member.learner:
            return _next_of_learner(member, by_uid.get(member.server_uid), now)
    voters = [member for member in members if not member.learner]
    spare = _spare(servers, {member.server_uid for member in members}, now)
    wanted = voters_for(sum(bool(server.etcd_port) for server in servers.values()), rules.voters)
    if change := _without_lost(voters, by_uid, spare, now, rules.replaced_after):
        return change
    if len(voters) > wanted:
        return _surplus(voters, by_uid)
    staying = [voter for voter in voters if _stays(by_uid.get(voter.server_uid), now, rules.replaced_after)]
    if len(staying) < wanted and spare:
        return AddMember(spare.server_id, f"{_servers(len(servers))} want {wanted} voters, and there {_are(len(staying))}")
    return None


def _next_of_learner(learner: Member, server: Server | None, now: int) -> MemberChange | None:
    if server is None:
        return RemoveMember(learner.member_id, "", "its server is in the domain no more")
    if _away(server, now) >= LEARNER_GIVEN_UP_AFTER:
        return RemoveMember(learner.member_id, server.server_id, "its server is away, and it does not vote yet")
    waits = now - server.state_member_at if server.state_member == LEARNER else 0
    if waits >= (LEARNER_VOTES_WITHIN if learner.started else LEARNER_STARTS_WITHIN):
        why = "did not catch up" if learner.started else "did not start"
        return RemoveMember(learner.member_id, server.server_id, f"it {why} within {waits // 1000} s: see its server's etcd.log")
    if not learner.started:
        return None
    return PromoteMember(learner.member_id, server.server_id, "it has caught up")


def _stays(server: Server | None, now: int, replaced_after: int) -> bool:
    """Whether a voter is counted on: its server is in the domain, and not away for long."""
    return server is not None and not _given_up(server, now, replaced_after)


def _given_up(server: Server, now: int, replaced_after: int) -> bool:
    """Whether nobody waits for a voter's server any more: it is away for long, or an operator said so."""
    return not server.alive and (server.gives_up_vote or _away(server, now) >= replaced_after)


def _without_lost(
    voters: Sequence[Member], by_uid: Mapping[str, Server], spare: Server | None, now: int, replaced_after: int
) -> MemberChange | None:
    """The removal of a voter that does not come back. The last one is never removed, as it alone has the state: another is added
    first.
    """
    if len(voters) < 2:
        return None
    for voter in voters:
        server = by_uid.get(voter.server_uid)
        if server is None:
            return RemoveMember(voter.member_id, "", "its server is in the domain no more")
        if spare and _given_up(server, now, replaced_after):
            because = f"its server is away for {_time(_away(server, now))}, and {spare.server_id} can take its place"
            return RemoveMember(voter.member_id, server.server_id, because)
    return None


def _surplus(voters: Sequence[Member], by_uid: Mapping[str, Server]) -> MemberChange:
    """One voter too many goes: one whose server is away, else that of the last server by id."""
    known = [voter for voter in voters if voter.server_uid in by_uid]
    last = max(known, key=lambda voter: (not by_uid[voter.server_uid].alive, by_uid[voter.server_uid].server_id))
    server_id = by_uid[last.server_uid].server_id
    return RemoveMember(last.member_id, server_id, f"{_servers(len(by_uid))} want fewer voters than {len(voters)}")


def _spare(servers: Mapping[str, Server], with_member: set[str], now: int) -> Server | None:
    """The server that may get the next member: alive, able to run one, one whose last member voted rather than one whose did not,
    on a host without one if there is such a host.
    """
    hosts = {server.host for server in servers.values() if server.uid in with_member}
    spares = [s for s in servers.values() if s.alive and s.etcd_port and s.uid not in with_member and not _failed_lately(s, now)]
    return min(spares, key=lambda server: (server.member_failed_at, server.host in hosts, server.server_id), default=None)


def spare_voter(servers: Mapping[str, Server], now: int) -> Server | None:
    """The server that may get the next member, as far as the state shows the members; `now` is wall clock, ms."""
    return _spare(servers, {server.uid for server in servers.values() if server.state_member}, now)


def _failed_lately(server: Server, now: int) -> bool:
    return bool(server.member_failed_at) and now - server.member_failed_at < ADDED_AGAIN_AFTER


def _away(server: Server, now: int) -> int:
    """ms since a server's lease was found ended; 0 for one that is alive."""
    return 0 if server.alive else max(0, now - server.lost_at)


def _time(lasts: int) -> str:
    """A duration in ms, for people."""
    return f"{lasts // 60_000} min" if lasts >= 60_000 else f"{lasts // 1000} s"


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


# The member of one server ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnProcess:
    """What a server's manager sees of its own member: whether it has data, whether its process runs, the id in the cluster for
    which its directory was begun, whether it trusts other authorities than it has to, and whether it was restarted because of
    that and does not answer yet.
    """

    has_data: bool
    runs: bool
    begun_for: int
    is_out_of_date: bool = False
    restarting: bool = False


class OwnStep(Enum):
    """What a manager does next for its own member."""

    REST = "nothing"
    END_REMOVED = "end it and forget its data, once a majority confirms that the cluster lists it no more"
    LEAVE = "have the cluster remove it: what it had is lost, and it begins again as a learner"
    BEGIN = "begin it without data, as the member that the cluster lists: what it has is of a membership that ended"
    RESTART = "start it again with the authorities that it has to trust"
    END_RESTART = "let the next member be restarted once this one answers"


def own_step(listed: Member | None, process: OwnProcess) -> OwnStep:
    """The next step for a server's own member; `listed` is how the cluster lists it, None: it does not."""
    if listed is None:
        return OwnStep.END_REMOVED if process.has_data or process.runs else OwnStep.REST
    if listed.started and not process.has_data and not process.runs:
        return OwnStep.LEAVE
    if not listed.started and (process.begun_for != listed.member_id or not process.runs):
        return OwnStep.BEGIN
    if process.is_out_of_date:
        return OwnStep.RESTART
    return OwnStep.END_RESTART if process.restarting else OwnStep.REST


# What is wrong with a member ------------------------------------------------------------------------------------------

NEEDS_FREE = 64 << 20  # bytes: etcd begins each file of its log at its full size
QUOTA = 2 << 30  # bytes a member's database may have; then it takes no change
TROUBLE_FROM, TROUBLE_UNTIL = 0.8, 0.7  # of QUOTA; what is told once is told until it is less by some
ENDS_SHOWN = 3  # starts in a row of a member that has ended
DISK, SIZE, ENDS = "disk", "size", "ends"

TROUBLES: Mapping[str, tuple[str, str]] = {
    DISK: (
        f"the disk of its etcd member has less than the {NEEDS_FREE >> 20} MB left that etcd needs to go on",
        "Make room on the disk of its data directory; its manager starts the member again by itself.",
    ),
    SIZE: (
        f"the database of its etcd member has {TROUBLE_FROM:.0%} of the {QUOTA >> 30} GB that it may have; when it is full, no "
        "change can be committed",
        "Defragment it (etcdctl defrag, with the files in certificates of its data directory), one member after the other.",
    ),
    ENDS: ("its etcd member ends again and again", "Look at the last lines of etcd/etcd.log in its data directory."),
}
"""What a manager may see wrong with its member, and what helps."""


@dataclass(frozen=True)
class MemberHealth:
    """What a manager sees of its own member: bytes left on its disk, bytes of its database, -1 where that is not known, and how
    often it was started again without having answered in between.
    """

    free: int
    size: int
    ends: int


def trouble_of(health: MemberHealth, before: str) -> str:
    """What is wrong with a member, a key of TROUBLES; "" for nothing. `before` is what was told last."""
    if 0 <= health.free < NEEDS_FREE * (2 if before == DISK else 1):
        return DISK
    if health.size >= QUOTA * (TROUBLE_UNTIL if before == SIZE else TROUBLE_FROM):
        return SIZE
    return ENDS if health.ends >= ENDS_SHOWN else ""


def trouble_text(trouble: str) -> str:
    """What is wrong, as a clause; a later release may have more kinds of it."""
    return TROUBLES.get(trouble, (f"its etcd member is in trouble ({trouble})", ""))[0]


def trouble_fix(trouble: str) -> str:
    """What helps, a sentence."""
    return TROUBLES.get(trouble, ("", "Look at the log of its manager."))[1]


# Recoveries -----------------------------------------------------------------------------------------------------------


class Lineage(Enum):
    """How two states of one domain that were reached differ, by the recoveries that each went through."""

    SAME = "they are one"
    FORMER = "the other was recovered from what this one was: this one was given up"
    LATER = "this one was recovered from what the other was"
    OTHER = "each was recovered without the other"


def lineage(own: Sequence[str], other: Sequence[str]) -> Lineage:
    """Compare the ids of two states' recoveries, oldest first."""
    shared = min(len(own), len(other))
    if tuple(own[:shared]) != tuple(other[:shared]):
        return Lineage.OTHER
    if len(own) == len(other):
        return Lineage.SAME
    return Lineage.FORMER if len(own) < len(other) else Lineage.LATER
