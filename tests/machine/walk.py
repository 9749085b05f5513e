"""Tests of the machine: random walks of a domain, and what a manager may see of its engines meanwhile.

`choose` is given a number and says which of so many things it is; a walk is therefore a list of numbers, which
hypothesis can shrink and a seeded generator can make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.model import EngineState, JoinStage, PositionReport, Process, ProcessRole, ProcessState
from dkv.domain.phases import HandingOver
from dkv.engine.contract import Cause, EngineSeen, ExitSeen, NodeSeen, Position, ReplicaSeen
from tests.machine.stage import DATABASE, GROUP, HISTORY, Stage, changed, host

T = TypeVar("T")
Pick = Callable[[int], int]  # one of so many


def one_of(pick: Pick, things: Sequence[T]) -> T:
    return things[pick(len(things))]


# The domain ----------------------------------------------------------------------------------------------------------


def step(stage: Stage, pick: Pick) -> None:
    """Something happens to the domain, or is refused. What brings it forward is as likely as all the rest."""
    options = list(forward(stage)) if pick(6) else []
    stage.offer(one_of(pick, options or list(anything(stage, pick))))


def forward(stage: Stage) -> Iterator[Command]:
    """What its managers would report next."""
    group = stage.group
    for archive_id in sorted(stage.state.archives):
        process = stage.state.process_on(archive_id)
        if process is None:
            yield orders.StartProcess(database=DATABASE, role=ProcessRole.SM, archive_id=archive_id)
            continue
        of = stage.of(archive_id)
        if process.state is ProcessState.REQUESTED:
            yield facts.ProcessStarted(report=PositionReport(), **of)
        elif process.state is ProcessState.STARTED and group.leader is not None:
            yield facts.ProcessConfigured(pid=1, **of)
        elif process.state is ProcessState.CONFIGURED:
            yield facts.ProcessTracked(pid=1, **of)
        elif not group.open and process.pid and process.report is None:
            yield facts.PositionReported(term=group.term, report=position(group.term), **of)
        if process.state is ProcessState.REQUESTED_SHUTDOWN:
            yield ended(of, planned=True)
    for process in stage.state.processes.values():
        if process.archive_id is None:
            yield memory_only(process)
    if group.leader is not None:
        yield from leading(stage)
    yield facts.Tick(clock=stage.state.clock + 2_500)


def memory_only(process: Process) -> Command:
    """What the manager of a TE would report next."""
    of: dict[str, Any] = {"server_id": process.server_id, "start_id": process.start_id}
    if process.kill or process.state is ProcessState.REQUESTED_SHUTDOWN:
        return ended(of, planned=True)
    if process.state is ProcessState.REQUESTED:
        return facts.ProcessStarted(**of)
    if process.state is ProcessState.STARTED:
        return facts.ProcessConfigured(pid=1, **of)
    if process.state is ProcessState.CONFIGURED:
        return facts.ProcessTracked(pid=1, **of)
    return facts.MemorySynced(synced=process.engine_state is not EngineState.RUNNING, **of)


def leading(stage: Stage) -> Iterator[Command]:
    """What the manager of the leader would report next."""
    group, quote = stage.group, stage.quote()
    start_id = group.leader_process or 0
    yield facts.OpenTerm(start_id=start_id, **quote)
    yield facts.LeaderServing(start_id=start_id, epoch=group.term + 100, history=HISTORY, **quote)
    for archive_id in stage.others(group.leader or 0):
        yield facts.JoinAnnounced(archive_id=archive_id, **quote)
    for joining in group.joining:
        more: dict[str, Any] = {"archive_id": joining.archive_id, **quote}
        yield facts.JoinMarked(sequence=2, nonce="n", **more)
        if joining.stage is JoinStage.MARKED:
            yield facts.JoinDurable(term=group.term, sequence=2, nonce="n", **stage.of(joining.archive_id))
        yield facts.JoinCompleted(**more)
    if isinstance(group.phase, HandingOver):
        yield facts.HandoverDone(start_id=group.phase.to_process, epoch=group.epoch + 1, history="b" * 40, **quote)
        yield facts.HandoverFailed(**quote)
        if stage.state.process_on(group.phase.to_archive):
            target: dict[str, Any] = {**quote, **stage.of(group.phase.to_archive), "reason": "it stands still"}
            yield facts.HandoverWithdrawn(**target)
    if group.switchover:
        yield facts.HandoverDeclined(reason="its leader is busy", **quote)
    yield facts.CleanStopReached(reached=group.in_sync, **quote)


def anything(stage: Stage, pick: Pick) -> Iterator[Command]:
    """What people do, and what goes wrong."""
    server = f"s{1 + pick(len(stage.state.servers))}"
    known = stage.state.servers[server]
    yield facts.ServerLost(server_id=server, uid=known.uid)
    again = {name: value for name, value in vars(known).items() if name in facts.ServerJoined.__dataclass_fields__}
    yield facts.ServerJoined(**again)
    yield facts.ServerJoined(**(again | {"boot_id": f"b{pick(9)}"}))
    yield orders.ShutdownDatabase(name=DATABASE, force=pick(2) == 0)
    yield orders.StartProcess(database=DATABASE, role=ProcessRole.TE, server_id=server)
    yield orders.Switchover(database=DATABASE, to=one_of(pick, (None, *stage.state.processes)))
    yield orders.RestartDatabase(name=DATABASE, rolling=pick(3) > 0, force=pick(2) == 0)
    yield orders.StopRestart(name=DATABASE)
    yield orders.DrainServer(server_id=server, kill=pick(3) == 0, force=pick(2) == 0)
    archive_id = pick(len(stage.state.archives)) if stage.state.archives else 0
    yield orders.DeleteArchive(archive_id=archive_id)
    yield orders.CreateArchives(database=DATABASE, archives=(orders.NewArchive(server_id=server),))
    yield orders.EnforceLeader(database=DATABASE, group=GROUP[1], archive_id=archive_id, allow_data_loss=True, reason="walk")
    if stage.state.process_on(archive_id):
        yield from about(stage, archive_id, pick)
    if stage.group.leader is not None:
        quote = stage.quote()
        yield facts.HandoverBegun(to_archive=archive_id, immediate=pick(2) == 0, **quote)
        yield facts.InSyncShrunk(archive_id=archive_id, reason="silent", **quote)
        yield facts.JoinAborted(archive_id=archive_id, **quote)


def about(stage: Stage, archive_id: int, pick: Pick) -> Iterator[Command]:
    """What may happen to one process."""
    of, term = stage.of(archive_id), stage.group.term
    yield orders.ShutdownProcess(start_id=of["start_id"], force=True)
    yield orders.ShutdownProcess(start_id=of["start_id"], kill=True)
    yield ended(of, planned=False, reaped=pick(2) == 0)
    yield facts.LeaderSilence(term=term, silent=pick(2) == 0, machine_answers=pick(2) == 0, **of)
    yield facts.LeaderSteppedDown(**of)
    yield facts.EngineSilent(silent=pick(2) == 0, **of)
    yield facts.WritesRefused(why=("", "OOM")[pick(2)], **of)
    yield facts.LoadingProgressed(percent=50, **of)
    yield facts.LeaderProgressed(term=term, count=stage.process(archive_id).progress + 1, **of)


def position(term: int) -> PositionReport:
    return PositionReport(term, 1, "n", offset=10, history=HISTORY)


def ended(of: dict[str, Any], planned: bool, reaped: bool = True) -> facts.ProcessExited:
    return facts.ProcessExited(cause="ended", detail="ended", exit_code=1, planned=planned, reaped=reaped, **of)


# What is seen --------------------------------------------------------------------------------------------------------


def any_engine(stage: Stage, archive_id: int, pick: Pick) -> EngineSeen:
    """An engine of that process as it may be, right or wrong."""
    group = stage.group
    nodes = tuple(n for n in stage.nodes() if pick(4))
    ghost = NodeSeen("f" * 40, "", 0, "follower", None, pick(2) == 0, False, 0)
    leads = pick(2) == 0
    return changed(
        stage.engine(archive_id),
        answering=pick(5) > 0,
        silent_ms=one_of(pick, (0, 0, 500, 40_000)),
        loading=pick(5) == 0,
        loading_percent=pick(101),
        role=one_of(pick, ("leader", "") if leads else ("follower",)),
        follows=one_of(pick, (None, "e" * 40, *(n.node_id for n in stage.nodes()))),
        state_ok=pick(3) > 0,
        fenced=pick(2) == 0,
        admits_replicas=pick(2) == 0,
        link_up=pick(2) == 0,
        resyncing=pick(4) == 0,
        link_silent_ms=one_of(pick, (0, 2_999, 3_000, 10**9)),
        rewriting=pick(4) == 0,
        offset=pick(50),
        history=one_of(pick, (HISTORY, "b" * 40, "")),
        epoch=100 + pick(5),
        nodes=(*nodes, ghost) if pick(4) == 0 else nodes,
        replicas=tuple(any_replica(stage, a, pick) for a in stage.state.archives if pick(3)) if leads else (),
        incremental_bytes=one_of(pick, (0, 1 << 20, 1 << 30)),
        base_bytes=one_of(pick, (0, 1 << 29)),
        free_bytes=one_of(pick, (0, 1 << 40)),
        marker=one_of(pick, (None, Position(group.term, 1), Position(9, 9))),
        held=pick(6) == 0,
    )


def any_replica(stage: Stage, archive_id: int, pick: Pick) -> ReplicaSeen:
    archive = stage.state.archives[archive_id]
    silent_ms = one_of(pick, (0, 1_000, 2_000, 9_000))
    return ReplicaSeen(host(archive.server_id), archive.client_port, pick(60), pick(3) > 0, silent_ms)


def any_exit(start_id: int, pick: Pick) -> ExitSeen:
    return ExitSeen(start_id, "/d", one_of(pick, tuple(Cause)), "ended", 1, None, (), reaped=pick(2) == 0)
