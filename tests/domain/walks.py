"""Tests of the domain: random but plausible histories, from a list of numbers each of which picks the next command.

Plausible means: about things the domain knows, said by a manager that could say it, right or late or wrong. What
every manager would do next is offered more often, so that walks get far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dkv.domain.command import Command
from dkv.domain.decide import decide
from dkv.domain.decision import Accepted, Decision, Refused
from dkv.domain.facts import (
    ArchiveRetired,
    CleanStopReached,
    CopyRecognised,
    EngineSilent,
    HandoverBegun,
    HandoverDeclined,
    HandoverDone,
    HandoverFailed,
    HandoverWithdrawn,
    InSyncShrunk,
    JoinAborted,
    JoinAnnounced,
    JoinCompleted,
    JoinDurable,
    JoinMarked,
    LackEnded,
    LeaderProgressed,
    LeaderServing,
    LeaderSilence,
    LeaderSteppedDown,
    LoadingProgressed,
    MemorySynced,
    OpenTerm,
    PositionReported,
    ProcessConfigured,
    ProcessExited,
    ProcessStarted,
    ProcessTracked,
    ServerJoined,
    ServerLost,
    StateMemberSeen,
    TailBroken,
    TailFed,
    TailMeasured,
    TailSetAside,
    Tick,
    WritesRefused,
)
from dkv.domain.model import DatabaseOptions, Group, PositionReport, Process, ProcessRole, State
from dkv.domain.orders import (
    CreateArchives,
    CreateDatabase,
    DeleteArchive,
    DeleteDatabase,
    DrainServer,
    EnforceLeader,
    NewArchive,
    NewGroup,
    RebalanceLeaders,
    RemoveServer,
    RemoveServerState,
    RestartDatabase,
    ShutdownDatabase,
    ShutdownProcess,
    StartProcess,
    StopRestart,
    Switchover,
)
from dkv.domain.phases import HandingOver
from tests.domain.world import HOUR

SERVERS = "ABC"
TWO_GROUPS = {"g1": (0, 8191), "g2": (8192, 16383)}


def walk(numbers: Iterable[int], databases: int = 1) -> Iterator[tuple[State, Command, Decision]]:
    """Each step: the state before, the command, what was decided."""
    state, now = State(uid="d0"), HOUR
    for command in _beginning(databases):
        decision = decide(state, command)
        assert isinstance(decision, Accepted), decision
        yield state, command, decision
        state = decision.state
    for number in numbers:
        now += (0, 10, 300, 2_500)[number % 4]
        kind, salt = number // 4 % 32, number // 128
        offered = list(_offered(state, now, kind, salt)) or list(_ticks(now))
        command = offered[salt % len(offered)]
        decision = decide(state, command)
        yield state, command, decision
        state = state if isinstance(decision, Refused) else decision.state


def _beginning(databases: int) -> Iterator[Command]:
    for index, name in enumerate(SERVERS):
        yield ServerJoined(
            now=HOUR,
            server_id=name,
            uid=f"u{name}",
            host=f"127.0.1.{index + 1}",
            port=7801 + index,
            nuodb_port=8888 + index,
            boot_id="boot 0",
        )
    options = DatabaseOptions(replication_factor=3, tail_above=0)
    archives = tuple(NewArchive(server_id=s) for s in SERVERS)
    yield CreateDatabase(now=HOUR, name="db", uid="u0", secret="s", options=options, archives=archives)
    for number in range(1, databases):
        groups = tuple(NewGroup(name=g, shard_id=40 * g[1], slots=(slots,)) for g, slots in TWO_GROUPS.items())
        spread = tuple(NewArchive(server_id=s, group=g) for g in TWO_GROUPS for s in SERVERS)
        yield CreateDatabase(
            now=HOUR, name=f"db{number}", uid=f"u{number}", secret="s", options=options, groups=groups, archives=spread
        )


def _offered(state: State, now: int, kind: int, salt: int) -> Iterator[Command]:
    """Of 32: 20 are what some manager does next, 4 time, 6 any fact, right or wrong, 1 an order, 1 a machine."""
    if kind < 20:
        yield from _next(state, now, salt)
    elif kind < 24:
        yield from _ticks(now)
    elif kind < 30:
        for process in state.processes.values():
            yield from _process_facts(state, process, now, salt)
        for group in state.groups.values():
            yield from _group_facts(state, group, now, salt)
    elif kind == 30:
        yield from _orders(state, now, salt)
    else:
        yield from _machines(state, now, salt)


def _next(state: State, now: int, salt: int) -> Iterator[Command]:
    """What a manager would do next: one of the facts that are accepted and change something."""
    facts = [f for p in state.processes.values() for f in _process_facts(state, p, now, 1)]
    facts += [f for g in state.groups.values() for f in _group_facts(state, g, now, 1)]
    start = salt % max(1, len(facts))
    for fact in facts[start:] + facts[:start]:
        if not isinstance(fact, LeaderSilence | CleanStopReached) and _changes(state, fact):
            yield fact
            return


def _changes(state: State, command: Command) -> bool:
    decision = decide(state, command)
    return isinstance(decision, Accepted) and decision.state != state


def _ticks(now: int) -> Iterator[Command]:
    yield Tick(now=now, clock=now - HOUR)


def _machines(state: State, now: int, salt: int) -> Iterator[Command]:
    for index, name in enumerate(SERVERS):
        boot = f"boot {now}" if salt % 5 == 0 or name not in state.servers else state.servers[name].boot_id
        yield ServerJoined(
            now=now,
            server_id=name,
            uid=f"u{name}",
            host=f"127.0.1.{index + 1}",
            port=7801 + index,
            nuodb_port=8888 + index,
            boot_id=boot,
        )
        yield StateMemberSeen(now=now, server_id="A", member=name, role=("", "learner", "voter")[salt % 3], because="listed")
        yield ServerLost(now=now, server_id=name, uid=f"u{name}")
        if salt % 3 == 0:
            yield RemoveServerState(now=now, server_id=name)
            yield RemoveServer(now=now, server_id=name)


def _orders(state: State, now: int, salt: int) -> Iterator[Command]:
    name = sorted(state.databases)[salt % len(state.databases)] if state.databases else "db"
    for archive in [a for a in state.archives.values() for _ in range(3)]:
        yield StartProcess(now=now, database=archive.database, role=ProcessRole.SM, archive_id=archive.archive_id)
        if salt % 3 == 0:
            yield DeleteArchive(now=now, archive_id=archive.archive_id)
            yield ArchiveRetired(now=now, server_id=archive.server_id, archive_id=archive.archive_id, path="/r")
            yield CopyRecognised(
                now=now, server_id=archive.server_id, archive_id=archive.archive_id, cut="d/1", group="g", slots=((0, 16383),)
            )
            yield EnforceLeader(
                now=now,
                database=archive.database,
                group=archive.group,
                archive_id=archive.archive_id,
                allow_data_loss=True,
                reason="r",
            )
    yield StartProcess(now=now, database=name, role=ProcessRole.TE, server_id=SERVERS[salt % 3])
    for start_id in state.processes:
        yield ShutdownProcess(now=now, start_id=start_id, kill=salt % 2 == 0, force=salt % 3 == 0)
    yield DrainServer(now=now, server_id=SERVERS[salt % 3], kill=salt % 4 == 0, force=salt % 3 == 0, evict=salt % 7 == 0)
    yield ShutdownDatabase(now=now, name=name, force=salt % 2 == 0)
    yield Switchover(now=now, database=name, to=salt % 7 if salt % 2 else None)
    yield RebalanceLeaders(now=now, database=name)
    yield RestartDatabase(now=now, name=name, rolling=salt % 4 > 0, force=salt % 3 == 0)
    if salt % 5 == 0:
        yield StopRestart(now=now, name=name)
    if salt % 4 == 0:
        yield DeleteDatabase(now=now, name="db", purge=salt % 8 == 0)
        yield CreateDatabase(
            now=now,
            name="db",
            uid=f"u{now}",
            secret="s",
            options=DatabaseOptions(),
            archives=(NewArchive(server_id=SERVERS[salt % 3]),),
        )
        yield CreateArchives(now=now, database="db", archives=(NewArchive(server_id=SERVERS[salt % 3]),))


def _report(state: State, process: Process, salt: int) -> PositionReport | None:
    group = state.groups.get((process.database, process.group))
    if group is None:
        return None
    return PositionReport(
        max(0, group.term - salt % 2),
        1 + salt % 3,
        "n",
        salt % 50,
        salt % 90,
        group.history if salt % 3 else "",
        digest="d" if salt % 2 else "",
    )


def _process_facts(state: State, process: Process, now: int, salt: int) -> Iterator[Command]:
    server_id = process.server_id
    group = state.groups.get((process.database, process.group))
    term = group.term - salt % 7 // 6 if group else 0
    start_id, report = process.start_id, _report(state, process, salt)
    yield ProcessStarted(now=now, server_id=server_id, start_id=start_id, report=report)
    yield ProcessConfigured(now=now, server_id=server_id, start_id=start_id, pid=100 + start_id)
    yield ProcessTracked(now=now, server_id=server_id, start_id=start_id, pid=100 + start_id)
    yield MemorySynced(now=now, server_id=server_id, start_id=start_id, synced=salt % 3 > 0)
    if salt % 3 == 0:
        yield LoadingProgressed(now=now, server_id=server_id, start_id=start_id, percent=salt % 100)
        yield LeaderProgressed(now=now, server_id=server_id, start_id=start_id, term=term, count=process.progress + salt % 2)
        yield ProcessExited(
            now=now,
            server_id=server_id,
            start_id=start_id,
            detail="it died",
            cause="disk full" if salt % 2 else "signal",
            exit_code=137,
            planned=salt % 2 == 0,
            reaped=salt % 5 > 0,
        )
        yield LackEnded(now=now, server_id=server_id, start_id=start_id)
    if report:
        yield PositionReported(now=now, server_id=server_id, start_id=start_id, term=term, report=report)
        yield LeaderSilence(
            now=now, server_id=server_id, start_id=start_id, term=term, silent=salt % 4 > 0, machine_answers=salt % 2 == 0
        )
        yield JoinDurable(now=now, server_id=server_id, start_id=start_id, term=term, sequence=1, nonce="n")
    if group and group.tail:
        yield from _tail_facts(state, group, process, now, salt)
    if salt % 5 == 0:
        yield LeaderSteppedDown(now=now, server_id=server_id, start_id=start_id)
        yield EngineSilent(now=now, server_id=server_id, start_id=start_id, silent=salt % 2 == 0)
        yield WritesRefused(now=now, server_id=server_id, start_id=start_id, why=("", "OOM", "BUSY", "other")[salt % 4])
        yield TailSetAside(now=now, server_id=server_id, start_id=start_id, path="/tail")


def _tail_facts(state: State, group: Group, process: Process, now: int, salt: int) -> Iterator[Command]:
    """Mostly as expected, sometimes not."""
    assert group.tail is not None
    header = {"now": now, "server_id": process.server_id, "start_id": process.start_id, "term": group.term}
    others = tuple(follower.start_id for follower in group.tail.fed if (follower.start_id + salt) % 11)
    yield TailMeasured(**header, size=100, digest="all", history=f"t{group.term}", prefixes=others)  # type: ignore[arg-type]
    yield TailFed(**header, size=100, digest="all" if salt % 13 else "other")  # type: ignore[arg-type]
    if salt % 9 == 0:
        yield TailBroken(**header, reason="it broke")  # type: ignore[arg-type]


def _group_facts(state: State, group: Group, now: int, salt: int) -> Iterator[Command]:
    leader = state.processes.get(-1 if group.leader_process is None else group.leader_process)
    if leader is None:
        return
    say = {
        "now": now,
        "server_id": leader.server_id,
        "database": group.database,
        "group": group.name,
        "term": group.term - salt % 7 // 6,
    }
    yield OpenTerm(**say, start_id=leader.start_id)  # type: ignore[arg-type]
    yield LeaderServing(**say, start_id=leader.start_id, epoch=group.term, history=f"h{group.term}")  # type: ignore[arg-type]
    for archive in (a for a in state.archives.values() if a.archive_id != group.leader):
        n = {"archive_id": archive.archive_id}
        yield JoinAnnounced(**say, **n)  # type: ignore[arg-type]
        yield JoinMarked(**say, **n, sequence=1, nonce="n")  # type: ignore[arg-type]
        yield JoinCompleted(**say, **n)  # type: ignore[arg-type]
        if salt % 2 == 0:
            yield HandoverBegun(**say, to_archive=archive.archive_id)  # type: ignore[arg-type]
        if salt % 4 == 0:
            yield JoinAborted(**say, **n)  # type: ignore[arg-type]
            yield InSyncShrunk(**say, **n, reason="silent")  # type: ignore[arg-type]
    yield CleanStopReached(**say, reached=tuple(a for a in state.archives if (a + salt) % 3))  # type: ignore[arg-type]
    if group.switchover:
        yield HandoverDeclined(**say, reason="its leader is busy")  # type: ignore[arg-type]
    if isinstance(group.phase, HandingOver):
        yield HandoverFailed(**say)  # type: ignore[arg-type]
        target = state.processes.get(group.phase.to_process)
        withdrawn = {**say, "server_id": target.server_id if target else "", "start_id": group.phase.to_process}
        yield HandoverWithdrawn(**withdrawn, reason="it stands still")  # type: ignore[arg-type]
        done = {**say, "start_id": group.phase.to_process, "epoch": 9, "history": "hh"}
        yield HandoverDone(**done)  # type: ignore[arg-type]
